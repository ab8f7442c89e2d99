"""Geometry: crop, shift and turn an image by whole pixels, so no value changes.

A JPEG that was cropped or shifted before it was saved again has two grids of blocks: `jpeg:50 >>
crop:3,5 >> jpeg:80`. A photo that the viewer turns upright was compressed lying on its side:
`turn:3,0 >> jpeg:50 >> turn:1,0`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .operator import Operator, Shape, Window
from .params import Integer, Integers, decided, integer
from .registry import register
from .rng import Rng
from .rows import row_by_row

LONGEST = 2**16  # pixels of a side


@register("crop", exact="slicing", gradient="adjoint")
class Crop(Operator):
    """Keep rows top … top + height - 1 and columns left … left + width - 1.

    y[i, j] = x[i + top, j + left]; the adjoint pads y with zeros.

    top, left: integers ≥ 0, in pixels.
    height, width: integers ≥ 1, in pixels, or None for all that follow.

    Output [B, C, height, width]. Gradient: its own, the adjoint; without a shape, `adjoint` assumes
    that the image ends with the window. Raises ValueError if the window leaves the image.
    """

    top: Integer = integer(low=0, high=LONGEST, per_image=False)
    left: Integer = integer(low=0, high=LONGEST, per_image=False)
    height: Integer | None = integer(default=None, low=1, high=LONGEST, per_image=False)
    width: Integer | None = integer(default=None, low=1, high=LONGEST, per_image=False)
    linear = True

    def output_shape(self, shape: Shape) -> Shape:
        rows, cols = self._window(shape)
        return (*shape[:2], rows.stop - rows.start, cols.stop - cols.start)

    def input_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], self.top + shape[2], self.left + shape[3])

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x[(..., *self._window(x.shape))].clone(memory_format=torch.contiguous_format)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """y inside the window, x around it."""
        image = x.clone()
        image[(..., *self._window(x.shape))] = y
        return image

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return None if seen is None else seen[(..., *self._window(shape))]

    def _window(self, shape: Shape) -> tuple[slice, slice]:
        height, width = shape[2:]
        return _span(self.top, self.height, height), _span(self.left, self.width, width)


def _span(first: Integer, length: Integer | None, n: int) -> slice:
    """`length` of n pixels from the pixel `first` on, or all that follow it."""
    start = decided(first)
    stop = n if length is None else start + decided(length)
    if not start < stop <= n:
        raise ValueError(
            f"pixels {start} to {stop} are not within {n}; give a window inside the image"
        )
    return slice(start, stop)


@register("shift", exact="numpy's edge pad", gradient="adjoint")
class Shift(Operator):
    """Move an image down by dy and right by dx pixels, and repeat the edge that it moved away from.

    y[i, j] = x[clip(i - dy), clip(j - dx)]; the adjoint adds y[i, j] to that pixel of x.

    dy, dx: integers of either sign, in pixels; a number, or one per image.

    Output: the same shape. Gradient: its own, the adjoint.
    """

    dy: Integers = integer(low=-LONGEST, high=LONGEST)
    dx: Integers = integer(low=-LONGEST, high=LONGEST)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return row_by_row(_shifted, x, dy=self.dy, dx=self.dx)

    def reach(self, shape: Shape) -> float:
        single = isinstance(self.dy, int) and isinstance(self.dx, int)
        return max(abs(self.dy), abs(self.dx)) if single else math.inf

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """y shifted back; pixels that were pushed out of the picture keep their value in x."""
        rows = torch.arange(x.shape[2], device=x.device)
        columns = torch.arange(x.shape[3], device=x.device)
        here = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        returned = _shifted(_shifted(here, self.dy, self.dx), -self.dy, -self.dx)
        inside = (returned == here).all(1)
        return torch.where(inside, _shifted(y, -self.dy, -self.dx), x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        many = isinstance(self.dy, tuple) or isinstance(self.dx, tuple)
        return self.forward(seen.expand(shape[0], -1, -1, -1) if many else seen, None)


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device) - dy).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) - dx).clamp(0, width - 1)
    return x.index_select(2, rows).index_select(3, columns)


@register("turn", exact="numpy's rot90, then fliplr", gradient="adjoint")
class Turn(Operator):
    """Turn an image anticlockwise by quarter turns, then mirror it left to right if `mirror` is 1.

    quarters: 0 to 3. mirror: 0 or 1. Together they are the eight orientations of EXIF.

    Output: the same shape, or [B, C, W, H] for an odd number of quarters. Gradient: its own, the
    adjoint, which is the inverse.
    """

    quarters: Integer = integer(low=0, high=3, per_image=False)
    mirror: Integer = integer(low=0, high=1, per_image=False)
    linear = local = True

    @property
    def inverse(self) -> Turn:
        """The turn that undoes this one; a mirrored turn undoes itself."""
        quarters = self.quarters if self.mirror else -self.quarters % 4
        return Turn(quarters, self.mirror)

    def output_shape(self, shape: Shape) -> Shape:
        decided(self.mirror)
        height, width = shape[2:]
        if decided(self.quarters) % 2:
            height, width = width, height
        return (*shape[:2], height, width)

    def input_shape(self, shape: Shape) -> Shape:
        return self.output_shape(shape)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        y = x.rot90(self.quarters, (2, 3))
        if self.mirror:
            y = y.flip(3)
        return y.clone(memory_format=torch.contiguous_format)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window]:
        (rows, columns), (height, width) = window, shape[2:]
        for _ in range(decided(self.quarters)):
            rows, columns = slice(width - columns.stop, width - columns.start), rows
            height, width = width, height
        if decided(self.mirror):
            columns = slice(width - columns.stop, width - columns.start)
        return self, (rows, columns)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inverse(y)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return None if seen is None else self.forward(seen, None)
