"""Composable image degradations: exact forward, surrogate gradient.

>>> import degrade
>>> f = degrade.Downsample(8) >> degrade.Poisson(24) >> degrade.JPEG(12)
>>> print(f)
downsample:8 >> poisson:24 >> jpeg:12
"""

from ._version import __version__
from .choice import Identity, Maybe, OneOf
from .jpeg import JPEG, jpeg
from .levels import Clamp, Quantize
from .mask import Mask, Strokes
from .noise import DeadPixels, Gaussian, Poisson
from .operator import Chain, Operator, PerImage, register
from .params import Range
from .presets import tasks
from .resample import Downsample, Pool
from .serial import from_json, to_json
from .spec import SpecError, parse

__all__ = [
    "Chain", "Clamp", "DeadPixels", "Downsample", "Gaussian", "Identity", "JPEG", "Mask", "Maybe", "OneOf",
    "Operator", "PerImage", "Poisson", "Pool", "Quantize", "Range", "SpecError", "Strokes", "__version__", "from_json", "jpeg", "parse", "register", "tasks", "to_json",
]  # fmt: skip
