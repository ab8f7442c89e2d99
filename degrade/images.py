"""Checks of images: what every operator asks of its input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from .transforms import values_are_readable

IMAGE_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST_VALUE = 1e9  # beyond it sums overflow, and so do the counts of Poisson's largest peak

# Values that are all about positive and reach this far are 8-bit or 16-bit levels, and no image in
# [0, 1]. A solver's images may leave [0, 1], and noise leaves it to both sides; both pass.
_LEVELS_FROM = 16
_LARGEST_LEVELS = (255, 65535)

# Images scaled to [-1, 1] reach far below 0. Noise does so, too, but is on no grid of 8 bits.
_SIGNED_BELOW = -0.25
_SIGNED_SHARE = 0.1  # of values below it, from which an image probably is in [-1, 1]
_FEWEST_LEVELS = 16  # probes of -1 and 1, as in a test of adjoints, are no image


def check_image(x: Tensor, name: str = "x", *, scale: bool = True) -> None:
    """Raise TypeError or ValueError unless x is a float tensor [B, C, H, W] of sane values.

    scale: also refuse values that can only be levels from 0 to 255 or 65535, or 8-bit levels
        scaled to [-1, 1], instead of [0, 1].
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}; give a float tensor [B, C, H, W] in [0, 1]"
        )
    if x.layout != torch.strided:
        raise ValueError(f"{name} is {x.layout}; give a dense tensor, such as {name}.to_dense()")
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
    if scale and low >= -1:
        _check_scale(high, name)
        if low < _SIGNED_BELOW and high <= 1:
            _check_sign(x, name)


def _check_scale(high: float, name: str) -> None:
    if not _LEVELS_FROM < high <= _LARGEST_LEVELS[-1]:
        return
    levels = next(levels for levels in _LARGEST_LEVELS if high <= levels)
    raise ValueError(
        f"{name} has values up to {high:g}, and an operator takes [0, 1]; give {name} / {levels}"
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
    """Warn if an image is probably in [-1, 1] instead of [0, 1].

    Only a warning: strong noise on a dark image looks alike.
    """
    if not values_are_readable(x):
        return
    low, high = _ends(x)
    if low < -1 or high > 1 or low >= _SIGNED_BELOW:
        return
    share = (x.detach() < _SIGNED_BELOW).float().mean()
    if share > _SIGNED_SHARE:
        warnings.warn(
            f"{name} has values from {low:.2f} to {high:.2f} and looks like an image in [-1, 1]; "
            f"if it is one, give ({name} + 1) / 2",
            stacklevel=3,
        )


class WrongOutput(ValueError):
    """The result of an operator's `forward` is no image."""


def check_output(y: object, x: Tensor, expected: Sequence[int]) -> None:
    """Raise WrongOutput unless `forward` made of x a finite float tensor [B, C, H, W].

    expected: the shape that the operator's `output_shape` declares. C is 1, 3, or as declared.
    """
    if not isinstance(y, Tensor):
        raise WrongOutput(f"gives {type(y).__name__}; its forward must return a tensor")
    if y.layout != torch.strided:
        raise WrongOutput(f"gives {y.layout}; its forward must return a dense tensor")
    if y.ndim != 4 or 0 in y.shape or len(y) != len(x):
        raise WrongOutput(
            f"gives shape {list(y.shape)} for {len(x)} images; "
            "its forward must return [B, C, H, W] with no empty side"
        )
    channels = y.shape[1]
    if channels not in (1, 3, expected[1]):
        raise WrongOutput(
            f"gives {channels} channels; its forward must return 1 or 3, "
            f"or its output_shape say {channels}"
        )
    if y.dtype not in IMAGE_TYPES:
        raise WrongOutput(f"gives {y.dtype}; its forward must return {x.dtype}")
    if y.device != x.device:
        raise WrongOutput(
            f"gives a tensor on {y.device}; its forward must return one on {x.device}"
        )
    if values_are_readable(y) and not all(map(math.isfinite, _ends(y))):
        raise WrongOutput("gives NaN or infinity")


def _ends(x: Tensor) -> tuple[float, float]:
    """The smallest and the largest value, both NaN if there is one."""
    low, high = torch.stack(x.detach().aminmax()).tolist()
    return low, high


def check_channels(x: Tensor) -> None:
    """Raise ValueError unless x has one channel (grey) or three (RGB)."""
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; give 1 (grey) or 3 (RGB)")
