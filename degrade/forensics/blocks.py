"""The 8×8 blocks of a plane, and their coefficients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..jpeg.stages import M

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_SCALE = 2**13 * math.sqrt(8)
_DCT = M.double() / _SCALE


def coefficients(blocks: Tensor) -> Tensor:
    """The orthonormal DCT of blocks of pixels: [..., 8, 8] → [..., 64]."""
    spectra = _DCT @ blocks @ _DCT.T
    return spectra.flatten(-2)


def blocks_of(plane: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
    """The whole 8×8 blocks [rows, columns, 8, 8] of the grid whose first corner is (dy, dx)."""
    height, width = plane.shape
    rows_below = max(0, height - dy)
    rows = rows_below // 8
    columns_right = max(0, width - dx)
    columns = columns_right // 8
    below = dy + 8 * rows
    right = dx + 8 * columns
    covered = plane[dy:below, dx:right]
    rows_of_blocks = covered.unflatten(0, (rows, 8))
    blocks: Tensor = rows_of_blocks.unflatten(2, (columns, 8))
    return blocks.transpose(1, 2)
