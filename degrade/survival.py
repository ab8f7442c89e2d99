"""Which frequencies of an image survive a codec, told by the codec's own errors.

A codec drops the faint coefficients of some transform of blocks. Its own transform, predictions and
steps are not known here; the DCT of 8 × 8 pixels stands for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import TO_RGB, TO_YCBCR, recolored
from .dct import BLOCK, block_dct, inverse_block_dct

_LEAST = 0.05  # slope of a coefficient that is lost, so that it can still move
_ROUNDING = 1 / (12 * 255**2)  # the variance of rounding to 8 bits


def surviving_part(x: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """A linear function of x that weighs each frequency by how well a codec kept it.

    x: images [B, C, H, W] of one or three channels, with the gradient. before: what the codec got.
    after: what it gave. A coefficient of a block of luma, Cb or Cr is multiplied by
    0.05 + 0.95 Y² / (Y² + (Y - X)² + σ²), with X of `before` and Y of `after`; the mean of a block
    by 1. σ² = 1 / (12 · 255²) is the variance of rounding to 8 bits.
    """
    kept = _coefficients(after.detach())
    lost = kept - _coefficients(before.detach())
    weighted = _coefficients(x) * _slopes(kept, lost)
    planes = inverse_block_dct(weighted)
    height, width = x.shape[2:]
    result = _mixed(planes, TO_RGB)[..., :height, :width]
    return result.to(x.dtype)


def _slopes(kept: Tensor, lost: Tensor) -> Tensor:
    energy = kept.square()
    share = energy / (energy + lost.square() + _ROUNDING)
    slopes = _LEAST + (1 - _LEAST) * share
    is_mean = torch.zeros(BLOCK, BLOCK, dtype=torch.bool, device=kept.device)
    is_mean[0, 0] = True
    return torch.where(is_mean, torch.ones_like(slopes), slopes)


def _coefficients(x: Tensor) -> Tensor:
    """Of luma and chroma, in blocks; the last row and column are repeated to whole blocks."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    height, width = x.shape[2:]
    padded = F.pad(wide, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    return block_dct(_mixed(padded, TO_YCBCR))


def _mixed(x: Tensor, matrix: list[list[float]]) -> Tensor:
    """Each pixel's three channels multiplied by a matrix; a grey image as it is."""
    return x if x.shape[1] == 1 else recolored(x, x.new_tensor(matrix))
