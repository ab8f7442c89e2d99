"""What a denoiser needs to call any module: its choices checked, sides it takes, its own type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PREDICTS = ("x0", "epsilon", "v")


def check_choices(module: object, predicts: str, channels: int, multiple: int) -> None:
    """Raise ValueError for arguments of `Denoiser` that have no meaning by themselves."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"module is a {type(module).__name__}; give a torch.nn.Module")
    if predicts not in PREDICTS:
        raise ValueError(f"predicts={predicts!r} is none of {', '.join(PREDICTS)}")
    counts = {"channels": channels, "multiple": multiple}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}={count} must be 1 or more")


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type, or float32 for half precision, which has no room for the fraction of a step."""
    return torch.promote_types(dtype, torch.float32)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until the sides are multiples of `multiple`."""
    height, width = x.shape[2:]
    bottom = -height % multiple
    right = -width % multiple
    if bottom == 0 and right == 0:
        return x
    margins = (0, right, 0, bottom)
    return F.pad(x, margins, mode="replicate")


def dtype_of(module: nn.Module, x: Tensor) -> torch.dtype:
    """The type in which a network computes: that of its weights, or that of x without any."""
    for parameter in module.parameters():
        return parameter.dtype
    return x.dtype
