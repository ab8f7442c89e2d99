"""Blur and keep one pixel of each cell: the classical model of a low resolution."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import cached_constant
from .filter import convolve
from .kernels import KERNELS
from .operator import Operator, Shape, Window
from .params import Integer, Numbers, decided, integer, number
from .registry import register
from .rng import Rng
from .rows import row_by_row


@register("subsample", exact="its formula", gradient="adjoint")
class Subsample(Operator):
    """Blur with a Gaussian, then keep the first pixel of each cell of factor × factor pixels.

    The kernel is moved by (factor - 1)/2 pixels, by linear interpolation, so that the kept pixel
    sees the centre of its cell. Output sides are n / factor, rounded up. The image is mirrored at
    its edges. Gradient: its own, the adjoint.

    factor: an integer from 1 to 16.
    size: standard deviation of the Gaussian in pixels, 0 to 100; a number, or one per image.
    side: of the square of pixels that the kernel is cut to, odd.

    Source: `degradation_bsrgan` of BSRGAN (Zhang et al. 2021), with its side.
    """

    factor: Integer = integer(low=1, high=16, per_image=False)
    size: Numbers = number(low=0, high=100)
    side: Integer = integer(default=25, low=1, high=501, odd=True, per_image=False)
    linear = True

    def output_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        return (*batch, -(-height // factor), -(-width // factor))

    def input_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        return (*batch, height * factor, width * factor)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        factor, side = decided(self.factor), decided(self.side)

        def subsample(row: Tensor, size: float) -> Tensor:
            blurred = convolve(row, _moved_gaussian(size, factor, side))
            return blurred[..., ::factor, ::factor]

        return row_by_row(subsample, x, size=self.size)

    def reach(self, shape: Shape) -> float:
        return decided(self.side) // 2 + decided(self.factor)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        factor = decided(self.factor)
        spans = []
        for span in window:
            if span.start % factor:
                return None
            spans.append(slice(span.start // factor, -(-span.stop // factor)))
        rows, columns = spans
        return self, (rows, columns)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        factor = decided(self.factor)
        return seen[..., ::factor, ::factor]


@cached_constant(maxsize=16)
def _moved_gaussian(size: float, factor: int, side: int) -> Tensor:
    """A Gaussian whose centre lies (factor - 1)/2 pixels before the middle, by interpolation."""
    kernel: Tensor = KERNELS["gaussian"].draw(size, size, 0, 1, side)
    position = torch.arange(side, dtype=torch.float64) + (factor - 1) / 2
    position = position.clamp(max=side - 1)
    first = position.floor()
    share = position - first
    second = (first + 1).clamp(max=side - 1)
    rows = kernel[first.long()] * (1 - share)[:, None] + kernel[second.long()] * share[:, None]
    moved = rows[:, first.long()] * (1 - share) + rows[:, second.long()] * share
    return moved / moved.sum()
