"""The orthonormal DCT of 8 × 8 blocks, in floating point."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constants import cached_constant

BLOCK = 8


def block_dct(plane: Tensor) -> Tensor:
    """The coefficients of planes [B, C, H, W] of whole blocks: [B, C, H / 8, W / 8, 8, 8]."""
    in_rows: Tensor = plane.unflatten(2, (-1, BLOCK))
    in_blocks: Tensor = in_rows.unflatten(4, (-1, BLOCK))
    blocks = in_blocks.transpose(3, 4)
    dct = _matrix().to(plane)
    return dct @ blocks @ dct.mT


def inverse_block_dct(coefficients: Tensor) -> Tensor:
    """The planes [B, C, H, W] of their coefficients."""
    dct = _matrix().to(coefficients)
    blocks = dct.mT @ coefficients @ dct
    side_by_side = blocks.transpose(3, 4)
    return side_by_side.flatten(4, 5).flatten(2, 3)


@cached_constant(maxsize=1)
def _matrix() -> Tensor:
    """Rows are frequencies."""
    frequency = torch.arange(BLOCK, dtype=torch.float64)[:, None]
    position = torch.arange(BLOCK, dtype=torch.float64)
    angle = (2 * position + 1) * frequency * math.pi / (2 * BLOCK)
    matrix = torch.cos(angle) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
