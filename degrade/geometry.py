"""Geometry: crop, shift and turn an image by whole pixels, so no value changes.

A JPEG that was cropped or shifted before it was saved again has two grids of blocks: `jpeg:50 >>
crop:3,5 >> jpeg:80`. A photo that the viewer turns upright was compressed lying on its side:
`turn:3,0 >> jpeg:50 >> turn:1,0`.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .operator import Operator, Shape, Window
from .params import Integer, Integers, decided, integer, per_image, single
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import with_gradient_of
from .tracked import is_tracked

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
        rows, columns = self._window(shape)
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        return (*shape[:2], height, width)

    def input_shape(self, shape: Shape) -> Shape:
        *batch, height, width = shape
        bottom = decided(self.top) + height
        right = decided(self.left) + width
        return (*batch, bottom, right)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        rows, columns = self._window(x.shape)
        window = x[..., rows, columns]
        return window.clone(memory_format=torch.contiguous_format)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        return points - points.new_tensor([decided(self.left), decided(self.top)])

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """y inside the window, x around it."""
        rows, columns = self._window(x.shape)
        image = x.clone()
        image[..., rows, columns] = y
        return image

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        rows, columns = self._window(shape)
        return seen[..., rows, columns]

    def _window(self, shape: Shape) -> Window:
        *_, height, width = shape
        rows = _span(self.top, self.height, height)
        columns = _span(self.left, self.width, width)
        return rows, columns


def _span(first: Integer, length: Integer | None, n: int) -> slice:
    """Select `length` of n pixels, from the pixel `first` on; None selects all that follow it."""
    start = decided(first)
    stop = n
    if length is not None:
        stop = start + decided(length)
    if not start < stop <= n:
        raise ValueError(
            f"pixels {start} to {stop} are not within {n}; give a window inside the image"
        )
    return slice(start, stop)


@register("shift", exact="numpy's edge pad", gradient="adjoint")
class Shift(Operator):
    """Move an image down by dy and right by dx pixels; the uncovered part repeats the image's edge.

    y[i, j] = x[clip(i - dy), clip(j - dx)]; the adjoint adds y[i, j] to that pixel of x.

    dy, dx: integers of either sign, in pixels; a number, or one per image. `affine` moves an image
        by fractions of a pixel.

    Output: the same shape. Gradient: its own, the adjoint. That of dy is the central difference,
    half of what moving the image by dy + 1 and by dy - 1 differ in, and so for dx.
    """

    dy: Integers = integer(low=-LONGEST, high=LONGEST, learnable=True)
    dx: Integers = integer(low=-LONGEST, high=LONGEST, learnable=True)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        y = self._shifted(x)
        if not (is_tracked(self.dy) or is_tracked(self.dx)):
            return y
        pixels = x.detach()
        down = row_by_row(partial(_slope, axis="dy"), pixels, dy=self.dy, dx=self.dx)
        right = row_by_row(partial(_slope, axis="dx"), pixels, dy=self.dy, dx=self.dx)
        dy = per_image(self.dy, x, "dy")
        dx = per_image(self.dx, x, "dx")
        return with_gradient_of(y, dy * down + dx * right)

    def reach(self, shape: Shape) -> float:
        down, right = self.dy, self.dx
        if isinstance(down, (int, float)) and isinstance(right, (int, float)):
            return max(abs(down), abs(right))
        return math.inf

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        return points + points.new_tensor([single(self.dx), single(self.dy)])

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """y shifted back; pixels that were pushed out of the picture keep their value in x."""
        dy = int(single(self.dy))
        dx = int(single(self.dx))
        height, width = x.shape[2:]
        rows = torch.arange(height, device=x.device)
        columns = torch.arange(width, device=x.device)
        coordinates = torch.meshgrid(rows, columns, indexing="ij")
        position = torch.stack(coordinates)[None]
        moved = _shifted(position, dy, dx)
        returned = _shifted(moved, -dy, -dx)
        unmoved = returned == position
        inside = unmoved.all(1)
        shifted_back = _shifted(y, -dy, -dx)
        return torch.where(inside, shifted_back, x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        varies = isinstance(self.dy, tuple) or isinstance(self.dx, tuple)
        if varies:
            batch = shape[0]
            seen = seen.expand(batch, -1, -1, -1)
        return self._shifted(seen)

    def _shifted(self, x: Tensor) -> Tensor:
        return row_by_row(_shifted, x, dy=self.dy, dx=self.dx)


def _shifted(x: Tensor, dy: float, dx: float) -> Tensor:
    height, width = x.shape[2:]
    rows = _sources(height, int(dy), x.device)
    columns = _sources(width, int(dx), x.device)
    moved_down = x.index_select(2, rows)
    return moved_down.index_select(3, columns)


def _slope(x: Tensor, dy: float, dx: float, axis: str) -> Tensor:
    """By how much the shifted image changes per pixel of dy, or of dx."""
    down = int(axis == "dy")
    right = int(axis == "dx")
    further = _shifted(x, dy + down, dx + right)
    less = _shifted(x, dy - down, dx - right)
    return (further - less) / 2


def _sources(n: int, step: int, device: torch.device) -> Tensor:
    """The index of the pixel that moves onto each of n pixels."""
    indices = torch.arange(n, device=device)
    sources = indices - step
    return sources.clamp(0, n - 1)


@register("turn", exact="numpy's rot90, then fliplr", gradient="adjoint")
class Turn(Operator):
    """Turn an image counterclockwise by quarters, then mirror it left to right if `mirror` is 1.

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
        if self.mirror:
            return self
        quarters = decided(self.quarters)
        return Turn(-quarters % 4, 0)

    def output_shape(self, shape: Shape) -> Shape:
        decided(self.mirror)
        quarters = decided(self.quarters)
        *batch, height, width = shape
        if quarters % 2:
            return (*batch, width, height)
        return (*batch, height, width)

    def input_shape(self, shape: Shape) -> Shape:
        return self.output_shape(shape)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return self._turned(x)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window]:
        rows, columns = window
        *_, height, width = shape
        quarters = decided(self.quarters)
        for _ in range(quarters):
            mirrored = _mirrored(columns, width)
            rows, columns = mirrored, rows
            height, width = width, height
        if decided(self.mirror):
            columns = _mirrored(columns, width)
        return self, (rows, columns)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        *_, height, width = shape
        x, y = points.unbind(-1)
        for _ in range(decided(self.quarters)):
            x, y = y, width - x
            height, width = width, height
        if self.mirror:
            x = width - x
        return torch.stack([x, y], -1)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inverse(y)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        return self._turned(seen)

    def _turned(self, x: Tensor) -> Tensor:
        quarters = decided(self.quarters)
        y = x.rot90(quarters, (2, 3))
        if self.mirror:
            y = y.flip(3)
        return y.clone(memory_format=torch.contiguous_format)


def _mirrored(span: slice, n: int) -> slice:
    """Where a span of n pixels lies after the pixels change to the opposite order."""
    start = n - span.stop
    stop = n - span.start
    return slice(start, stop)
