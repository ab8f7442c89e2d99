"""Checks of images: what every operator asks of its input."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .transforms import values_are_readable

IMAGE_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST_VALUE = 1e9  # beyond it sums overflow, and so do the counts of Poisson's largest peak


def check_image(x: Tensor, name: str = "x") -> None:
    """Raise TypeError or ValueError unless x is a float tensor [B, C, H, W] of sane values."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}; give a float tensor [B, C, H, W] in [0, 1]"
        )
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {list(x.shape)}; give [B, C, H, W] with no empty side")
    if x.dtype not in IMAGE_TYPES:
        raise ValueError(
            f"{name} is {x.dtype}; give floats in [0, 1] of 16, 32 or 64 bits, "
            f"such as {name}.float() / 255"
        )
    if not values_are_readable(x):
        return
    low, high = torch.stack(x.aminmax()).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{name} holds NaN or infinity; replace them, for example with torch.nan_to_num"
        )
    largest = max(-low, high)
    if largest > LARGEST_VALUE:
        raise ValueError(
            f"{name} holds {largest:.2g}, above {LARGEST_VALUE:.0e}; give an image in [0, 1]"
        )


def check_channels(x: Tensor) -> None:
    """Raise ValueError unless x has one channel (grey) or three (RGB)."""
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; give 1 (grey) or 3 (RGB)")
