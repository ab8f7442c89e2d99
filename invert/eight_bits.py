"""Weights in 8 bits: integers from -127 to 127, and a scale for each filter beside them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"  # ends the name of the scales that belong to a tensor of integers
LARGE = 50_000  # weights; smaller kernels stay in 16 bits, since they save little
_LEVELS = 127


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Large kernels [O, I, k, k] as int8 with scales [O], everything else in float16.

    A weight is rounded to a multiple of its filter's largest, divided by 127. Raises ValueError for
    NaN and infinity, which no integer stands for.
    """
    result = {}
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity, which have no integer; mend it")
        if value.ndim < 2 or value.numel() <= LARGE:
            result[name] = value.half()
        else:
            result[name], result[name + SCALE] = _integers(value.float())
    return result


def _integers(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 kernel, scales [O]) of a float32 kernel; 16 bits would round 127 scales up to 128."""
    scale = kernel.flatten(1).abs().amax(1) / _LEVELS
    scale = torch.where(scale > 0, scale, 1.0)
    multiples = kernel / _along_filters(scale, kernel)
    return multiples.round().to(torch.int8), scale


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `packed` stored; tensors without scales as they are.

    Raises ValueError for scales that do not fit their tensor.
    """
    result = {}
    for name, value in tensors.items():
        scale = tensors.get(name + SCALE)
        if scale is not None:
            if scale.shape != value.shape[:1]:
                wanted = list(value.shape[:1])
                raise ValueError(f"{name}{SCALE} is {list(scale.shape)}, and must be {wanted}")
            value = value.float() * _along_filters(scale.float(), value)
        owner = name.removesuffix(SCALE)
        if owner == name or owner not in tensors:
            result[name] = value
    return result


def _along_filters(scale: Tensor, kernel: Tensor) -> Tensor:
    """[O] → [O, 1, …], to be multiplied with a kernel."""
    return scale.view(-1, *[1] * (kernel.ndim - 1))
