"""Blur and keep one pixel of each cell: the classical model of a low resolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constants import cached_constant, ordinary_tensors
from .convolution import convolve
from .interpolation import between_neighbours
from .kernels import KERNELS
from .operator import Operator, Shape, Window
from .params import Integer, Numbers, decided, integer, number
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .tracked import is_tracked


@register("subsample", exact="its formula", gradient="adjoint")
class Subsample(Operator):
    """Blur with a Gaussian, then keep the first pixel of each cell of factor × factor pixels.

    The kernel is moved by (factor - 1)/2 pixels, by linear interpolation, so that the kept pixel
    sees the centre of its cell. Output sides are n / factor, rounded up. The image is mirrored at
    its edges. Gradient: its own, the adjoint; that of the size is exact.

    factor: an integer from 1 to 16.
    size: standard deviation of the Gaussian in pixels, 0 to 100; a number, or one per image.
    side: the side of the square of pixels that the kernel is cut to, odd, 1 to 501.

    Source: `degradation_bsrgan` of BSRGAN (Zhang et al. 2021), with its side.
    """

    factor: Integer = integer(low=1, high=16, per_image=False)
    size: Numbers = number(low=0, high=100, learnable=True)
    side: Integer = integer(default=25, low=1, high=501, odd=True, per_image=False)
    linear = True

    def output_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        out_height = math.ceil(height / factor)
        out_width = math.ceil(width / factor)
        return (*batch, out_height, out_width)

    def input_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        return (*batch, height * factor, width * factor)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        factor = decided(self.factor)
        side = decided(self.side)

        def subsample(row: Tensor, size: float) -> Tensor:
            build = _moved_gaussian if is_tracked(size) else _kept_gaussian
            kernel = build(size, factor, side)
            blurred = convolve(row, kernel)
            return blurred[..., ::factor, ::factor]

        return row_by_row(subsample, x, size=self.size)

    def reach(self, shape: Shape) -> float:
        if not isinstance(self.side, int) or not isinstance(self.factor, int):
            return math.inf
        return self.side // 2 + self.factor

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        factor = decided(self.factor)
        spans = []
        for span in window:
            if span.start % factor:
                return None
            start = span.start // factor
            stop = math.ceil(span.stop / factor)
            spans.append(slice(start, stop))
        rows, columns = spans
        return self, (rows, columns)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        factor = decided(self.factor)
        return seen[..., ::factor, ::factor]


def _moved_gaussian(size: float, factor: int, side: int) -> Tensor:
    """A Gaussian whose centre lies (factor - 1)/2 pixels before the middle, by interpolation."""
    kernel: Tensor = KERNELS["gaussian"].draw(size, size, 0, 1, side)
    with ordinary_tensors():
        pixels = torch.arange(side, dtype=torch.float64)
        shift = (factor - 1) / 2
        positions = pixels + shift
        interpolation = between_neighbours(side, positions.clamp(max=side - 1))
    moved = interpolation @ kernel @ interpolation.mT
    return moved / moved.sum()


_kept_gaussian = cached_constant(maxsize=16)(_moved_gaussian)
