"""Checks of images: what every operator asks of its input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .transforms import values_are_readable

IMAGE_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST_VALUE = 1e9  # beyond it sums overflow, and so do the counts of Poisson's largest peak

# The mean size of an image, mean |x|, is at most 1 in [0, 1]. Noise of the largest sigma and the
# ringing of a resize add less than 1; noise of any strength that keeps the mean, such as photons,
# adds nothing but chance. What is above the limit and chance is in another scale. A solver's images
# may leave [0, 1] by less.
_LARGEST_MEAN = 3
_CHANCE = 6  # standard errors
_LEVELS_FROM = 16  # a picture that reaches beyond it holds 8-bit or 16-bit levels
_WHITES = (255, 65535)  # of 8 bits and of 16

# Images scaled to [-1, 1], or without their mean, have whole areas below 0. Noise also goes below
# 0, but is on no grid of 8 bits, and the mean of an area stays near 0.
_SIGNED_BELOW = -0.25
_SIGNED_SHARE = 0.03  # of areas below it, from which an image probably is in [-1, 1]
_SIGNED_CHANCE = 4  # standard errors of an area's mean
_AREA = 16  # pixels: the largest side of an area
_FEWEST_AREAS = 4  # along each side
_FEWEST_LEVELS = 16  # probes of -1 and 1, as in a test of adjoints, are no image


def check_image(x: Tensor, name: str = "x", *, scale: bool = True, vector: bool = False) -> None:
    """Raise TypeError or ValueError unless x is a float tensor [B, C, H, W] of sane values.

    scale: also refuse values that no picture in [0, 1] with noise has, such as levels from 0 to
        255, levels without their mean, or 8-bit levels scaled to [-1, 1].
    vector: x is the argument of a linear operator. If it has both signs, it may be a direction or
        a residual of a solver, which has no scale.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}; give a float tensor [B, C, H, W] in [0, 1]"
        )
    if x.is_nested or x.layout != torch.strided:
        layout = "a nested tensor" if x.is_nested else x.layout
        mend = "torch.stack of its images" if x.is_nested else f"{name}.to_dense()"
        raise ValueError(f"{name} is {layout}; give a dense tensor, such as {mend}")
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {list(x.shape)}; give [B, C, H, W] with no empty side")
    if x.dtype not in IMAGE_TYPES:
        raise ValueError(
            f"{name} is {x.dtype}; give floats in [0, 1] of 16, 32 or 64 bits, "
            f"such as {name}.float() / 255"
        )
    if not values_are_readable(x):
        return
    low, high = _ends(x)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{name} holds NaN or infinity; replace them, for example with torch.nan_to_num"
        )
    largest = max(-low, high)
    if largest > LARGEST_VALUE:
        raise ValueError(
            f"{name} holds {largest:.2g}, above {LARGEST_VALUE:.0e}; give an image in [0, 1]"
        )
    if not scale:
        return
    if largest > _LARGEST_MEAN and (low >= -1 or not vector):
        _check_scale(x, low, high, name)
    if -1 <= low < _SIGNED_BELOW and high <= 1:
        _check_sign(x, name)


def check_shape(shape: Sequence[int]) -> None:
    """Raise ValueError unless the shape is (B, C, H, W) without an empty side."""
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)} must be (B, C, H, W) with no empty side")


def shows_picture(shape: Sequence[int]) -> bool:
    """Whether a tensor of shape [B, C, h, w] holds pictures, and not one row of measurements."""
    height, width = shape[2:]
    return height > 1 or width == 1


def _check_scale(x: Tensor, low: float, high: float, name: str) -> None:
    """Refuse an image whose values are too large in the mean for a picture in [0, 1]."""
    values = x.detach().flatten(1)
    count = values.shape[1]
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = torch.linalg.vector_norm(values, 1, dim=1, dtype=wide) / count
    if not (mean > _LARGEST_MEAN).any():
        return
    mean_square = torch.linalg.vector_norm(values.double(), 2, dim=1).square() / count
    deviation = (mean_square - mean.double().square()).clamp(min=0).sqrt()
    if not (mean - _CHANCE * deviation / count**0.5 > _LARGEST_MEAN).any():
        return
    white = f"{name} by the white of its scale (255 for 8 bits)"
    mend = f"divide {white}"
    if low < -1:
        mend = f"add the mean that was subtracted, and divide {white}"
    elif _LEVELS_FROM < high <= _WHITES[-1]:
        levels = next(levels for levels in _WHITES if high <= levels)
        mend = f"give {name} / {levels}"
    raise ValueError(
        f"{name} has values from {low:.3g} to {high:.5g}, with a mean size of {mean.max():.3g}, "
        f"and an operator takes [0, 1]; {mend}"
    )


def _check_sign(x: Tensor, name: str) -> None:
    """Refuse 8-bit levels that were scaled to [-1, 1]: all values are 2k/255 - 1."""
    levels = (x.detach().double() + 1) * 127.5
    rounded = levels.round()
    off_grid = (levels - rounded).abs().max()
    if off_grid < 0.1 and rounded.unique().numel() >= _FEWEST_LEVELS:
        raise ValueError(
            f"{name} is an 8-bit image scaled to [-1, 1], and an operator takes [0, 1]; "
            f"give ({name} + 1) / 2"
        )


def warn_if_signed(x: Tensor, name: str) -> None:
    """Warn if whole areas of an image are below 0, as in [-1, 1] or without the mean.

    Only a warning: noise that was blurred or enlarged on a dark image looks alike.
    """
    height, width = x.shape[2:]
    side = min(_AREA, height // _FEWEST_AREAS, width // _FEWEST_AREAS)
    if side < 1 or not values_are_readable(x):  # a row of measurements has no areas
        return
    low, high = _ends(x)
    if low >= _SIGNED_BELOW:
        return
    values = x.detach().float()
    means = functional.avg_pool2d(values, side)
    variances = functional.avg_pool2d(values.square(), side) - means.square()
    chance = _SIGNED_CHANCE * variances.clamp(min=0).sqrt() / side
    share = (means + chance < _SIGNED_BELOW).double().mean()
    if share > _SIGNED_SHARE:
        warnings.warn(
            f"{name} has values from {low:.2f} to {high:.2f} and whole areas below 0, which noise "
            f"does not make; if it is an image in [-1, 1], give ({name} + 1) / 2, and if its mean "
            "was subtracted, add it again",
            stacklevel=3,
        )


class WrongOutput(ValueError):
    """The result of an operator's `forward` is no image."""


def check_output(y: object, x: Tensor, expected: Sequence[int]) -> None:
    """Raise WrongOutput unless `forward` made of x a finite float tensor of the declared shape.

    expected: what the operator's `output_shape` declares for x, [B, C, H, W].
    """
    if not isinstance(y, Tensor):
        raise WrongOutput(f"gives {type(y).__name__}; its forward must return a tensor")
    if y.is_nested or y.layout != torch.strided:
        layout = "a nested tensor" if y.is_nested else y.layout
        raise WrongOutput(f"gives {layout}; its forward must return a dense tensor")
    if y.ndim != 4 or 0 in y.shape or y.shape[0] != x.shape[0]:
        raise WrongOutput(
            f"gives shape {list(y.shape)} for {len(x)} images; "
            "its forward must return [B, C, H, W] with no empty side"
        )
    if tuple(y.shape) != tuple(expected):
        raise WrongOutput(
            f"gives {list(y.shape)}, and its output_shape says {list(expected)}; "
            "define output_shape for what its forward returns"
        )
    if y.dtype not in IMAGE_TYPES:
        raise WrongOutput(f"gives {y.dtype}; its forward must return {x.dtype}")
    if y.device != x.device:
        raise WrongOutput(
            f"gives a tensor on {y.device}; its forward must return one on {x.device}"
        )
    if values_are_readable(y) and not _is_finite(y):
        raise WrongOutput("gives NaN or infinity")


def _is_finite(x: Tensor) -> bool:
    """Whether all values are finite. If their sum is, which the CPU knows sooner, so are they."""
    if x.is_cpu and math.isfinite(x.detach().sum()):
        return True
    return all(map(math.isfinite, _ends(x)))


def _ends(x: Tensor) -> tuple[float, float]:
    """The smallest and the largest value, both NaN if there is one."""
    low, high = x.detach().aminmax()
    if not x.is_cpu:  # the host waits once for both
        low, high = torch.stack([low, high]).cpu()
    return float(low), float(high)


def check_channels(x: Tensor) -> None:
    """Raise ValueError unless x has one channel (grey) or three (RGB)."""
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; give 1 (grey) or 3 (RGB)")
