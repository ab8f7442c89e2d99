"""The 8×8 blocks of a plane, and their coefficients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..jpeg_stages import M

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_DCT = M.double() / (2**13 * math.sqrt(8))


def coefficients(blocks: Tensor) -> Tensor:
    """[..., 8, 8] pixels → [..., 64]."""
    return (_DCT @ blocks @ _DCT.T).flatten(-2)


def blocks_of(plane: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
    """The 8×8 blocks [rows, columns, 8, 8] of the grid whose first corner is (dy, dx), the whole ones."""
    h, w = ((n - d) // 8 * 8 for n, d in zip(plane.shape, (dy, dx), strict=True))
    h, w = max(h, 0), max(w, 0)
    return (
        plane[dy : dy + h, dx : dx + w]
        .unflatten(0, (h // 8, 8))
        .unflatten(2, (w // 8, 8))
        .transpose(1, 2)
    )
