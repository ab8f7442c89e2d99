"""Composable image degradations: exact forward, surrogate gradient.

>>> import degrade
>>> f = degrade.Downsample(8) >> degrade.Poisson(24) >> degrade.JPEG(12)
>>> print(f)
downsample:8 >> poisson:24 >> jpeg:12
"""

from importlib import import_module

from ._version import __version__
from .camera import Camera
from .choice import Identity, Maybe, OneOf, Shuffle
from .codec import Codec
from .color import HSV, Brightness, Contrast, Hue, Offset, Saturation
from .diffjpeg import DiffJPEG
from .displacement import Elastic, Glass, ZoomBlur
from .filter import Blur, Gamma, Gray, Sinc
from .fourier import FourierMagnitude
from .frame import Frame
from .geometry import Crop, Shift, Turn
from .haze import Haze
from .impulse import DeadPixels, HotPixels, SaltPepper
from .jpeg import JPEG, jpeg
from .jpeg.coefficients import JPEGCoefficients, jpeg_bytes, jpeg_coefficients
from .laws import check
from .lens import Aberration, Vignette
from .levels import Clamp, Quantize
from .mask import Box, Mask, Pixels, Strokes, Uncrop
from .motion_path import MotionPath
from .noise import Correlated, Gaussian, Poisson, PoissonGaussian, ScaledPoisson, Speckle, Uniform
from .operator import Chain, Operator, PerImage
from .params import Range
from .place import Place
from .presets import tasks
from .published import pipelines
from .registry import register
from .resample import Downsample, Pool, Resize
from .sensing import CompressedSensing
from .serial import from_json, to_json
from .shake import Shake
from .sharpen import USM
from .shotread import ShotRead
from .spatter import Spatter
from .spec import SpecError, parse
from .subsample import Subsample
from .warp import Affine, Perspective
from .weather import Fog, Frost, Snow

__all__ = [
    "Aberration",
    "Affine",
    "Blur",
    "Box",
    "Brightness",
    "Camera",
    "Chain",
    "Clamp",
    "Codec",
    "CompressedSensing",
    "Contrast",
    "Correlated",
    "Crop",
    "DeadPixels",
    "DiffJPEG",
    "Downsample",
    "Elastic",
    "Fog",
    "FourierMagnitude",
    "Frame",
    "Frost",
    "Gamma",
    "Gaussian",
    "Glass",
    "Gray",
    "HSV",
    "Haze",
    "HotPixels",
    "Hue",
    "Identity",
    "JPEG",
    "JPEGCoefficients",
    "Mask",
    "Maybe",
    "Module",
    "MotionPath",
    "OneOf",
    "Offset",
    "Operator",
    "Pairs",
    "PerImage",
    "Perspective",
    "PictureTransform",
    "Pixels",
    "Place",
    "Poisson",
    "PoissonGaussian",
    "Pool",
    "Quantize",
    "Range",
    "Resize",
    "SaltPepper",
    "Saturation",
    "ScaledPoisson",
    "Shake",
    "Shift",
    "ShotRead",
    "Shuffle",
    "Sinc",
    "Snow",
    "Spatter",
    "SpecError",
    "Speckle",
    "Strokes",
    "Subsample",
    "Turn",
    "USM",
    "Uncrop",
    "Uniform",
    "Vignette",
    "ZoomBlur",
    "check",
    "fit",
    "from_json",
    "guess",
    "jpeg",
    "jpeg_bytes",
    "jpeg_coefficients",
    "jpeg_size",
    "parse",
    "pipelines",
    "register",
    "tasks",
    "to_json",
    "__version__",
]


_LAZY = {
    "Module": ".module",
    "Pairs": ".pairs",
    "PictureTransform": ".pictures",
    "fit": ".fitting",
    "guess": ".forensics",
    "jpeg_size": ".jpeg.rate",
}


def __getattr__(name: str):
    if name in _LAZY:  # few need these, and they cost tables
        module = import_module(_LAZY[name], __name__)
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
