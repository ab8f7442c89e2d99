"""Composable image degradations: exact forward, surrogate gradient.

>>> import degrade
>>> f = degrade.Downsample(8) >> degrade.Poisson(24) >> degrade.JPEG(12)
>>> print(f)
downsample:8 >> poisson:24 >> jpeg:12
"""

from ._version import __version__
from .jpeg import JPEG, jpeg
from .levels import Clamp, Quantize
from .mask import Mask, Strokes
from .noise import DeadPixels, Gaussian, Poisson
from .operator import Chain, Operator, register
from .resample import Downsample, Pool
from .spec import SpecError, parse

__all__ = [
    "Chain", "Clamp", "DeadPixels", "Downsample", "Gaussian", "JPEG", "Mask", "Operator", "Poisson",
    "Pool", "Quantize", "SpecError", "Strokes", "__version__", "jpeg", "parse", "register",
]  # fmt: skip
