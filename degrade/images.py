"""Checks of images: what every operator asks of its input."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .transforms import values_are_readable


def check_image(x: Tensor, name: str = "x") -> None:
    """Raise TypeError or ValueError unless x is a finite float tensor [B, C, H, W]."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}; give a float tensor [B, C, H, W] in [0, 1]"
        )
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {list(x.shape)}; give [B, C, H, W] with no empty side")
    if not x.is_floating_point():
        raise ValueError(f"{name} is {x.dtype}; give floats in [0, 1], such as {name} / 255")
    if not values_are_readable(x):
        return
    if not all(map(math.isfinite, torch.stack(x.aminmax()).tolist())):
        raise ValueError(
            f"{name} holds NaN or infinity; replace them, for example with torch.nan_to_num"
        )


def check_channels(x: Tensor) -> None:
    """Raise ValueError unless x has one channel (grey) or three (RGB)."""
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; give 1 (grey) or 3 (RGB)")
