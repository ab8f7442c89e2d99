"""A part of a photo that a generator can draw: find it, model its damage, paste it back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

import degrade
from degrade.locality import can_cut
from degrade.operator import Operator, Shape, Window
from degrade.place import LARGEST, Matrix, Place, inverse, sides

from .padding import padded
from .spot import Corner, Spot

FEATHER = 0.08  # width of the seam, as a share of the shorter side of what is pasted back
SMALLEST = 8  # least side of a square, in pixels
_MARGIN = 16  # least margin of the photo around the square, in pixels
_ENLARGED = 64  # largest factor by which the undamaged photo may be larger than the observed one


@dataclass(frozen=True)
class Photo:
    """A photo, what happened to it, and the square of it that is to be restored.

    The loss compares pixels of the photo itself: the operator first draws the generator's image
    into the photo, and then damages it as the photo was damaged. The photo fills the surroundings
    of the square, so that blocks and filters mix the same pixels across the border as they did.

    observed: [1, C, H, W]. operator: what happened to the undamaged photo [1, C, s·H, s·W].
    background: an estimate of the undamaged photo, into which the image is drawn; None takes the
    observed photo, enlarged. Raises ValueError if the operator does not lead to a photo of this
    size or has random parameters, if the square is too small or outside, if there are too many
    pixels, or for a background of another size.
    """

    observed: Tensor
    operator: Operator
    spot: Spot
    background: Tensor | None = None

    def __post_init__(self) -> None:
        shape = list(self.observed.shape)
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(f"observed has shape {shape}; give one photo, [1, C, H, W]")
        self._check_square()
        self._check_pixels()
        if self.background is None:
            return
        given = list(self.background.shape)
        wanted = list(self._undamaged_shape)
        if given != wanted:
            raise ValueError(f"background has shape {given}; the undamaged photo has {wanted}")

    def _check_square(self) -> None:
        """Raise ValueError if the square is too small or lies outside the photo."""
        side = self.spot.side
        if side < SMALLEST:
            raise ValueError(
                f"what is to be restored is {side:.0f} pixels wide; it takes at least {SMALLEST}"
            )
        for axis in (0, 1):
            low, high = self.spot.extent(axis)
            if high <= 0 or low >= self._length(axis):
                size = f"{self._length(0)}x{self._length(1)}"
                raise ValueError(f"what is to be restored lies outside the photo's {size} pixels")

    def _check_pixels(self) -> None:
        """Raise ValueError if the window or the undamaged photo has too many pixels."""
        most = 4 * LARGEST
        height, width = self._undamaged_shape[2:]
        area = height * width
        rows, columns = self._undamaged_window
        part_height = rows.stop - rows.start
        part_width = columns.stop - columns.start
        part = part_height * part_width
        if part > LARGEST or area > most:
            sizes = f"{part:,} pixels of a picture of {area:,}; at most {LARGEST:,} of {most:,} fit"
            raise ValueError(f"what is to be restored takes {sizes}: reduce or crop the photo")

    def _length(self, axis: int) -> int:
        """The photo's width (axis 0) or height (axis 1), in pixels."""
        return self.observed.shape[3 - axis]

    @cached_property
    def enlarged(self) -> int:
        """The factor s by which the undamaged photo is larger, from the operator's shapes."""
        shape = tuple(self.observed.shape)
        reason = "check the operator"
        for factor in range(1, _ENLARGED + 1):
            undamaged = _times(shape, factor)
            try:
                damaged = self.operator.output_shape(undamaged)
            except ValueError as error:  # a mask of another size may fit another factor
                reason = str(error)
                continue
            if damaged == shape:
                return factor
        size = f"{self._length(0)}x{self._length(1)}"
        raise ValueError(f"{self.operator} leads to no picture of {size} pixels; {reason}")

    @cached_property
    def window(self) -> Window:
        """The part of the photo that depends on the square, in whole blocks of the operator.

        It is the square with a margin as wide as the distance that the operator carries pixels.
        """
        reach = self.operator.reach(self._undamaged_shape)
        margin = max(_MARGIN, reach / self.enlarged)
        rows = self._span(1, margin)
        columns = self._span(0, margin)
        return rows, columns

    def _span(self, axis: int, margin: float) -> slice:
        """The window's columns (axis 0) or rows (axis 1)."""
        low, high = self.spot.extent(axis)
        begin = max(0, low - margin)  # the reach may be infinite
        end = min(self._length(axis), high + margin)
        first = math.floor(begin)
        last = math.ceil(end)
        while not self._can_cut(first, axis):
            first -= 1
        while not self._can_cut(last, axis):
            last += 1
        return slice(first, last)

    def _can_cut(self, edge: int, axis: int) -> bool:
        """Whether a window may end at this column or row without cutting a block."""
        if edge in (0, self._length(axis)):
            return True
        undamaged_edge = edge * self.enlarged
        return can_cut(self.operator, self._undamaged_shape, undamaged_edge, 1 - axis)

    @cached_property
    def happened(self) -> Operator:
        """What happened to the window."""
        part = self.operator.part(self._undamaged_shape, self._undamaged_window)
        assert part is not None  # the window ends where the operator can be cut
        operator, _ = part
        return operator

    def problem(self, resolution: int) -> tuple[Tensor, Operator]:
        """The observation to solve for, and the operator that leads to it from a generator's image.

        Both are reduced if the photo shows the square at twice the generator's resolution or more.
        """
        region = _cut(self.observed, self.window)
        operator = self._place >> self.happened
        factor = int(self.spot.side / resolution)
        if factor <= 1:
            return region, operator
        pool = degrade.Pool(factor)
        return pool(region), operator >> pool

    def pasted(self, image: Tensor, consistent: bool = False) -> Tensor:
        """The undamaged photo [1, C, s·H, s·W] with `image` [1, C, R, R] in the square.

        Outside the kept part it is the background: by default the photo, bit for bit if s is 1,
        else enlarged.
        consistent: enforce data consistency inside, except in blocks that the border cuts.
        """
        background = self._background_window
        drawn = self._place(image).clamp(0, 1)
        weight = self._weight(_size(background))
        is_inside = weight > 0
        mixed = background + weight * (drawn - background)
        mixed = torch.where(is_inside, mixed, background)
        if consistent:
            region = _cut(self.observed, self.window)
            model = self.happened.approx()
            projected = model.project(mixed, region).clamp(0, 1)
            mixed = torch.where(is_inside, projected, background)
        photo = self._undamaged.clone()
        rows, columns = self._undamaged_window
        photo[..., rows, columns] = mixed
        return photo

    def aligned(self, side: int) -> Tensor:
        """The square as the photo shows it, upright, [1, C, side, side]; see `padded`."""
        photo, (left, top) = padded(self.observed, self.spot)
        a, b, c, d, e, f = self.spot.matrix
        to_photo = (a, b, c + left, d, e, f + top)
        height, width = photo.shape[2:]
        scales = (width, height, 1, width, height, 1)  # from the unit square to pixels
        matrix = []
        for entry, scale in zip(inverse(to_photo), scales, strict=True):
            matrix.append(side * entry * scale)
        place = Place(tuple(matrix), (side, side))
        return place(photo)

    def _weight(self, size: tuple[int, int]) -> Tensor:
        """The weight [h, w] of the image in each pixel: 0 at the kept part's border, 1 inside it.

        There is no seam along a side that lies at the border of the photo.
        """
        left, top, right, bottom = self.spot.keep
        shorter = min(right - left, bottom - top)
        feather = FEATHER * self.enlarged * self.spot.side * shorter
        top_left, top_right, bottom_right, bottom_left = self.spot.corners(keep=True)
        edges = (
            (bottom_left, top_left),
            (top_left, top_right),
            (top_right, bottom_right),
            (bottom_right, bottom_left),
        )
        distances = sides(self._kept_matrix, size)
        weight = torch.ones(size)
        for distance, edge in zip(distances, edges, strict=True):
            if self._at_border(*edge):
                continue
            t = (distance / feather).clamp(0, 1).float()
            smoothstep = t * t * (3 - 2 * t)
            weight = torch.minimum(weight, smoothstep)
        return weight

    def _at_border(self, start: Corner, end: Corner) -> bool:
        """Whether an edge of the kept part lies at or beyond a border of the photo."""
        for axis in (0, 1):
            low = min(start[axis], end[axis])
            high = max(start[axis], end[axis])
            if high < 0.5 or low > self._length(axis) - 0.5:
                return True
        return False

    @property
    def _place(self) -> Place:
        """Draws a generator's image into the undamaged window."""
        background = self._background_window
        return Place(self._matrix, _size(background), background)

    @property
    def _matrix(self) -> Matrix:
        """The square's matrix in pixels of the undamaged window."""
        a, b, c, d, e, f = self.spot.matrix
        rows, columns = self.window
        x = c - columns.start
        y = f - rows.start
        in_window = (a, b, x, d, e, y)
        return tuple(self.enlarged * entry for entry in in_window)

    @property
    def _kept_matrix(self) -> Matrix:
        """The matrix of the kept part, in pixels of the undamaged window."""
        a, b, c, d, e, f = self._matrix
        left, top, right, bottom = self.spot.keep
        w = right - left
        h = bottom - top
        x = c + a * left + b * top
        y = f + d * left + e * top
        return (a * w, b * h, x, d * w, e * h, y)

    @property
    def _undamaged_shape(self) -> Shape:
        return _times(self.observed.shape, self.enlarged)

    @property
    def _undamaged_window(self) -> Window:
        rows, columns = self.window
        return _enlarged(rows, self.enlarged), _enlarged(columns, self.enlarged)

    @cached_property
    def _undamaged(self) -> Tensor:
        """The background, or the photo enlarged to the size that it had before it was damaged."""
        if self.background is not None:
            return self.background
        if self.enlarged == 1:
            return self.observed
        height, width = self._undamaged_shape[2:]
        resize = degrade.Resize((height, width))
        return resize(self.observed).clamp(0, 1)

    @property
    def _background_window(self) -> Tensor:
        """The window of the undamaged photo."""
        return _cut(self._undamaged, self._undamaged_window)


def _cut(x: Tensor, window: Window) -> Tensor:
    rows, columns = window
    return x[..., rows, columns]


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _times(shape: Shape, factor: int) -> Shape:
    """A shape with height and width multiplied."""
    batch, channels, height, width = shape
    return batch, channels, factor * height, factor * width


def _enlarged(span: slice, factor: int) -> slice:
    """The rows or columns that a span has after an enlargement."""
    first = factor * span.start
    last = factor * span.stop
    return slice(first, last)
