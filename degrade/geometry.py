"""Geometry: where in a picture the pixels lie. Whole pixels only, so that no value changes.

A JPEG that was cropped or shifted before it was saved again has two grids of blocks: `jpeg:50 >>
crop:3,5 >> jpeg:80`. One that a viewer turns upright was compressed as it lay: `turn:3,0 >> jpeg:50
>> turn:1,0`.
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

    In pixels, integers. top, left: ≥ 0. height, width: ≥ 1, or None for all that follow. A window
    that leaves the image is an error. Output [B, C, height, width]. Gradient: its own; the adjoint
    pads with zeros, to an image that ends with the window unless it is given the shape.
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
        """y in the window, x around it."""
        x = x.clone()
        x[(..., *self._window(x.shape))] = y
        return x

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return None if seen is None else seen[(..., *self._window(shape))]

    def _window(self, shape: Shape) -> tuple[slice, slice]:
        spans = []
        for first, length, n in (
            (self.top, self.height, shape[2]),
            (self.left, self.width, shape[3]),
        ):
            first = decided(first)
            last = n if length is None else first + decided(length)
            if not first < last <= n:
                raise ValueError(
                    f"pixels {first} to {last} are not within {n}; give a window inside the image"
                )
            spans.append(slice(first, last))
        return spans[0], spans[1]


@register("shift", exact="numpy's edge pad", gradient="adjoint")
class Shift(Operator):
    """Move an image down by dy and right by dx pixels; its edge is repeated where it moved away from.

    y[i, j] = x[i - dy, j - dx], indices cut to the image. dy, dx: integers, of either sign; each
    one, or one per image. Output: the same shape. Gradient: its own, the adjoint.
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
        """y moved back; what was pushed out of the picture stays that of x."""
        here = torch.stack(
            torch.meshgrid(*(torch.arange(n, device=x.device) for n in x.shape[2:]), indexing="ij")
        )
        stayed = (_shifted(_shifted(here[None], self.dy, self.dx), -self.dy, -self.dx) == here).all(
            1
        )
        return torch.where(stayed, _shifted(y, -self.dy, -self.dx), x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        many = isinstance(self.dy, tuple) or isinstance(self.dx, tuple)
        return self.forward(seen.expand(shape[0], -1, -1, -1) if many else seen, None)


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    rows, cols = (
        (torch.arange(n, device=x.device) - by).clamp(0, n - 1)
        for n, by in zip(x.shape[2:], (dy, dx), strict=True)
    )
    return x.index_select(2, rows).index_select(3, cols)


@register("turn", exact="numpy's rot90, then fliplr", gradient="adjoint")
class Turn(Operator):
    """Turn an image anticlockwise by quarters, then mirror it left to right if `mirror` is 1.

    quarters: 0 to 3. mirror: 0 or 1. Together they are the eight orientations of EXIF. Output:
    [B, C, W, H] for an odd number of quarters. Gradient: its own, the adjoint, which is the inverse.
    """

    quarters: Integer = integer(low=0, high=3, per_image=False)
    mirror: Integer = integer(low=0, high=1, per_image=False)
    linear = local = True

    @property
    def inverse(self) -> Turn:
        """What undoes it: a mirrored turn undoes itself."""
        return Turn(self.quarters if self.mirror else -self.quarters % 4, self.mirror)

    def output_shape(self, shape: Shape) -> Shape:
        decided(self.mirror)
        return (*shape[:2], *(reversed(shape[2:]) if decided(self.quarters) % 2 else shape[2:]))

    def input_shape(self, shape: Shape) -> Shape:
        return self.output_shape(shape)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        y = x.rot90(self.quarters, (2, 3))
        return (y.flip(3) if self.mirror else y).clone(memory_format=torch.contiguous_format)

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
