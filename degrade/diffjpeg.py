"""JPEG as DiffJPEG computes it: real qualities, tables that are not rounded, no 8-bit pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import TO_RGB, TO_YCBCR
from .constants import cached_constant
from .dct import block_dct, inverse_block_dct
from .images import check_channels
from .jpeg.header import STANDARD
from .operator import Operator
from .params import Numbers, number, option, tensor_of
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare, round_half_even, with_gradient_of
from .tracked import at_least

_CELL = 16  # pixels of an image per block of chroma
_SMALLEST_FACTOR = 1e-4  # of the tables: quality 100 would divide by zero

_CUBE_FACTOR = 1e-4  # added to the factor of the tables by StegaStamp
Rounding = Callable[[Tensor], Tensor]


@register("diffjpeg", exact="DiffJPEG", gradient="straight through")
class DiffJPEG(Operator):
    """JPEG as DiffJPEG computes it, which Real-ESRGAN uses in training.

    `jpeg` gives the pixels of a JPEG file, which differ. Here the quality is a real number, and the
    tables are not rounded. The luma table is transposed, as in the published code. Colours and
    pixels are not rounded to 8 bits, chroma is averaged over 2 × 2 pixels and repeated, and an
    image is padded with black to sides that 16 divides. Gradient: straight through, the identity;
    that of the quality goes straight through the rounding of coefficients.

    quality: 1 to 100; a number, or one per image.
    rounding: of coefficients: "nearest"; or "cube", where those below half a step become their cube
        and the others stay, and 10⁻⁴ is added to the factor of the tables, as in StegaStamp.

    Source: DiffJPEG (Lomnitz 2018) as in BasicSR, with its rounding of coefficients.
    """

    quality: Numbers = number(low=1, high=100, learnable=True)
    rounding: str = option("nearest", "cube", default="nearest")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        compressed = partial(_compressed, cube=self.rounding == "cube")
        exact = row_by_row(compressed, x.detach(), quality=self.quality)
        return with_gradient_of(declare(x, exact), exact)


def _compressed(x: Tensor, quality: float, cube: bool) -> Tensor:
    """The round trip of images [B, C, H, W]. cube: rounds as StegaStamp does."""
    height, width = x.shape[2:]
    below = -height % _CELL
    to_the_right = -width % _CELL
    levels = x.double() * 255
    padded = F.pad(levels, (0, to_the_right, 0, below))
    factor = _factor(tensor_of(quality, levels))
    rounded: Rounding = _round_half_even
    if cube:
        factor = factor + _CUBE_FACTOR
        rounded = _cube_below_half
    decode = _gray_decoded if x.shape[1] == 1 else _decoded
    decoded = decode(padded, factor, rounded)
    pixels = decoded[..., :height, :width]
    return pixels.clamp(0, 255).div(255).to(x)


def _round_half_even(steps: Tensor) -> Tensor:
    return round_half_even(steps, "ste")


def _cube_below_half(steps: Tensor) -> Tensor:
    return torch.where(steps.abs() < 0.5, steps**3, steps)


def _decoded(levels: Tensor, factor: float | Tensor, rounded: Rounding) -> Tensor:
    """The round trip of three channels, in levels of 255."""
    luma, chroma = _mixed(levels, TO_YCBCR).split([1, 2], 1)
    luma = _gray_decoded(luma, factor, rounded)
    table = _chroma_table().to(levels.device) * factor
    small_chroma = _quantised(_halved(chroma), table, rounded)
    wide_chroma = small_chroma.repeat_interleave(2, 3)
    chroma = wide_chroma.repeat_interleave(2, 2)
    planes = torch.cat([luma, chroma], 1)
    return _mixed(planes, TO_RGB)


def _halved(planes: Tensor) -> Tensor:
    """The mean of each 2 × 2 pixels, which ONNX Runtime does not pool in float64."""
    upper = planes[..., ::2, :]
    lower = planes[..., 1::2, :]
    total = upper[..., ::2] + upper[..., 1::2] + lower[..., ::2] + lower[..., 1::2]
    return total / 4


def _gray_decoded(luma: Tensor, factor: float | Tensor, rounded: Rounding) -> Tensor:
    """The round trip of luma, in levels of 255."""
    table = _luma_table().to(luma.device) * factor
    signed = luma - 128
    return _quantised(signed, table, rounded) + 128


def _factor(quality: float | Tensor) -> float | Tensor:
    """By how much a quality scales the tables."""
    if quality >= 50:
        factor = 2 - quality / 50
    elif isinstance(quality, Tensor):
        factor = torch.full_like(quality, 50) / quality  # 50 / tensor rounds twice
    else:
        factor = 50 / quality
    return at_least(factor, _SMALLEST_FACTOR)


def _mixed(x: Tensor, matrix: list[list[float]]) -> Tensor:
    """Each pixel's channels multiplied by a matrix."""
    weights = torch.tensor(matrix, dtype=x.dtype, device="cpu")
    columns = weights.to(x.device).view(3, 3, 1, 1, 1)
    first, second, third = columns.unbind(1)
    red, green, blue = x.unbind(1)
    mixed = first * red + second * green + third * blue
    return mixed.transpose(0, 1)


def _quantised(plane: Tensor, table: Tensor, rounded: Rounding) -> Tensor:
    """Planes [1, C, H, W] with the DCT coefficients of their blocks rounded to a table's steps."""
    steps = block_dct(plane) / table
    coefficients = rounded(steps) * table
    return inverse_block_dct(coefficients)


@cached_constant(maxsize=1)
def _luma_table() -> Tensor:
    return STANDARD[0].double().mT.contiguous()  # turned, as published


@cached_constant(maxsize=1)
def _chroma_table() -> Tensor:
    return STANDARD[1].double()
