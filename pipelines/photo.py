"""A part of a photo that a generator can draw: find it, model its damage, paste it back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor

import degrade
from degrade.locality import can_cut
from degrade.operator import Operator, Shape, Window
from degrade.place import LARGEST, Place, inverse, sides

FEATHER = 0.08  # width of the seam, as a share of the shorter side of what is pasted back
SMALLEST = 8  # pixels of a square's side
_MARGIN = 16  # pixels of the photo around the square, at least
_ENLARGED = 64  # largest factor by which the undamaged photo may be larger than the observed one


@dataclass(frozen=True)
class Spot:
    """The square of a photo that a generator's image fills.

    matrix: maps the image's unit square to the photo's pixels, as in `degrade.Place`.
    keep: left, top, right, bottom in the unit square: the part that is pasted back.
    """

    matrix: tuple[float, ...]
    keep: tuple[float, float, float, float] = (0, 0, 1, 1)

    @property
    def side(self) -> float:
        """Length of the square's side, in pixels of the photo."""
        a, _, _, d, _, _ = self.matrix
        return math.hypot(a, d)

    def corners(self, keep: bool = False) -> list[tuple[float, float]]:
        """(x, y) of the corners of the square, or of its kept part, clockwise from the top left."""
        left, top, right, bottom = self.keep if keep else (0, 0, 1, 1)
        a, b, c, d, e, f = self.matrix
        corners = []
        for u, v in ((left, top), (right, top), (right, bottom), (left, bottom)):
            x = a * u + b * v + c
            y = d * u + e * v + f
            corners.append((x, y))
        return corners

    def extent(self, axis: int) -> tuple[float, float]:
        """The least and the largest x (axis 0) or y (axis 1) of the square."""
        values = [corner[axis] for corner in self.corners()]
        return min(values), max(values)


def centre(height: int, width: int) -> Spot:
    """The largest square in the middle of a photo."""
    side = min(height, width)
    return box((width - side) / 2, (height - side) / 2, side, side, height, width)


def box(x: float, y: float, w: float, h: float, height: int, width: int) -> Spot:
    """The square around a box; only the box is pasted back. All in pixels of the photo."""
    begins_inside = min(x, y) >= 0
    ends_inside = x + w <= width and y + h <= height
    if not (min(w, h) > 0 and begins_inside and ends_inside):
        size = f"{width}x{height}"
        raise ValueError(
            f"box={x:g},{y:g},{w:g},{h:g} is not within the photo's {size} pixels (x,y,w,h)"
        )
    side = max(w, h)
    left = x + (w - side) / 2
    top = y + (h - side) / 2
    keep_left = (x - left) / side
    keep_top = (y - top) / side
    keep_right = (x + w - left) / side
    keep_bottom = (y + h - top) / side
    matrix = (side, 0.0, left, 0.0, side, top)
    return Spot(matrix, (keep_left, keep_top, keep_right, keep_bottom))


@dataclass(frozen=True)
class Photo:
    """A photo, what happened to it, and the square of it that is to be restored.

    The loss is taken on the photo's own pixels: the operator first draws the generator's image into
    the photo, and then does to it what happened to the photo. Around the square the photo stands
    for itself, so that blocks and filters mix the same pixels across the border as they did.

    observed: [1, C, H, W]. operator: what happened to the undamaged photo [1, C, s·H, s·W].
    background: an estimate of the undamaged photo, into which the image is drawn; None is the
    observed photo, enlarged. Raises ValueError if the operator does not lead to a photo of this
    size or has random parameters, if the square is too small or outside, if there are too many
    pixels, or for a background of another size.
    """

    observed: Tensor
    operator: Operator
    spot: Spot
    background: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.observed.shape
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(f"observed has shape {list(shape)}; give one photo, [1, C, H, W]")
        height, width = shape[2:]
        if self.spot.side < SMALLEST:
            side = f"{self.spot.side:.0f} pixels wide"
            raise ValueError(f"what is to be restored is {side}; it takes at least {SMALLEST}")
        for axis, size in ((0, width), (1, height)):
            low, high = self.spot.extent(axis)
            if high <= 0 or low >= size:
                photo = f"the photo's {width}x{height} pixels"
                raise ValueError(f"what is to be restored lies outside {photo}")
        most = 4 * LARGEST
        area = height * width * self.enlarged**2
        rows, columns = self.window
        part_height = rows.stop - rows.start
        part_width = columns.stop - columns.start
        part = part_height * part_width * self.enlarged**2
        if part > LARGEST or area > most:
            sizes = f"{part:,} pixels of a picture of {area:,}; at most {LARGEST:,} of {most:,} fit"
            raise ValueError(f"what is to be restored takes {sizes}: reduce or crop the photo")
        if self.background is not None and self.background.shape != self._undamaged_shape:
            wanted, given = list(self._undamaged_shape), list(self.background.shape)
            raise ValueError(f"background has shape {given}; the undamaged photo has {wanted}")

    @cached_property
    def enlarged(self) -> int:
        """The factor s by which the undamaged photo is larger, from the operator's shapes."""
        shape = (1, *self.observed.shape[1:])
        reason = "check the operator"
        for factor in range(1, _ENLARGED + 1):
            try:
                if self.operator.output_shape(_times(shape, factor)) == shape:
                    return factor
            except ValueError as error:  # a mask of another size may fit another factor
                reason = str(error)
        size = f"{shape[3]}x{shape[2]}"
        raise ValueError(f"{self.operator} leads to no picture of {size} pixels; {reason}")

    @cached_property
    def window(self) -> Window:
        """The part of the photo that depends on the square, in whole blocks of the operator.

        It is the square, and around it as far as the operator carries pixels.
        """
        margin = max(_MARGIN, self.operator.reach(self._undamaged_shape) / self.enlarged)
        return self._span(1, margin), self._span(0, margin)

    def _span(self, axis: int, margin: float) -> slice:
        """The window's columns (axis 0) or rows (axis 1)."""
        size = self.observed.shape[3 - axis]
        low, high = self.spot.extent(axis)
        first = max(0, math.floor(max(0, low - margin)))
        last = min(size, math.ceil(min(size, high + margin)))
        while not self._can_cut(first, axis):
            first -= 1
        while not self._can_cut(last, axis):
            last += 1
        return slice(first, last)

    def _can_cut(self, edge: int, axis: int) -> bool:
        """Whether a window may end at this column or row without cutting a block."""
        if edge in (0, self.observed.shape[3 - axis]):
            return True
        return can_cut(self.operator, self._undamaged_shape, edge * self.enlarged, 1 - axis)

    @cached_property
    def happened(self) -> Operator:
        """What happened to the window."""
        part = self.operator.part(self._undamaged_shape, self._undamaged_window)
        assert part is not None  # the window ends where the operator can be cut
        return part[0]

    def problem(self, resolution: int) -> tuple[Tensor, Operator]:
        """The observation to solve for, and the operator that leads to it from a generator's image.

        Both are reduced if the photo shows the square at twice the generator's resolution or more.
        """
        region = _cut(self.observed, self.window)
        background = self._background_window
        placed = Place(self._matrix, _size(background), background)
        operator = placed >> self.happened
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
        size = _size(background)
        place = Place(self._matrix, size, background)
        drawn = place(image).clamp(0, 1)
        weight = self._weight(size)
        mixed = background + weight * (drawn - background)
        mixed = torch.where(weight > 0, mixed, background)
        if consistent:
            region = _cut(self.observed, self.window)
            projected = self.happened.approx().project(mixed, region)
            mixed = torch.where(weight > 0, projected.clamp(0, 1), background)
        photo = self._undamaged.clone()
        rows, columns = self._undamaged_window
        photo[..., rows, columns] = mixed
        return photo

    def aligned(self, side: int) -> Tensor:
        """The square as the photo shows it, upright, [1, C, side, side]; see `padded`."""
        photo, (left, top) = padded(self.observed, self.spot)
        a, b, c, d, e, f = self.spot.matrix
        height, width = photo.shape[2:]
        to_square = inverse((a, b, c + left, d, e, f + top))  # from the photo's pixels
        scales = (width, height, 1, width, height, 1)
        matrix = [side * m * scale for m, scale in zip(to_square, scales, strict=True)]
        return Place(tuple(matrix), (side, side))(photo)

    def _weight(self, size: tuple[int, int]) -> Tensor:
        """The weight [h, w] of the image in each pixel: 0 at the kept part's border, 1 inside it.

        There is no seam along a side that lies at the border of the photo.
        """
        a, b, c, d, e, f = self._matrix
        left, top, right, bottom = self.spot.keep
        w, h = right - left, bottom - top
        kept_x = c + a * left + b * top
        kept_y = f + d * left + e * top
        kept = (a * w, b * h, kept_x, d * w, e * h, kept_y)
        feather = FEATHER * self.enlarged * self.spot.side * min(w, h)
        top_left, top_right, bottom_right, bottom_left = self.spot.corners(keep=True)
        edges = (
            (bottom_left, top_left),
            (top_left, top_right),
            (top_right, bottom_right),
            (bottom_right, bottom_left),
        )
        weight = torch.ones(size)
        for distance, (start, end) in zip(sides(kept, size), edges, strict=True):
            if self._at_border(start, end):
                continue
            t = (distance / feather).clamp(0, 1).float()
            smoothstep = t * t * (3 - 2 * t)
            weight = torch.minimum(weight, smoothstep)
        return weight

    def _at_border(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Whether an edge of the kept part lies at or beyond a border of the photo."""
        for axis, size in ((0, self.observed.shape[3]), (1, self.observed.shape[2])):
            at_start = max(start[axis], end[axis]) < 0.5
            at_end = min(start[axis], end[axis]) > size - 0.5
            if at_start or at_end:
                return True
        return False

    @property
    def _matrix(self) -> tuple[float, ...]:
        """The square's matrix in pixels of the undamaged window."""
        a, b, c, d, e, f = self.spot.matrix
        rows, columns = self.window
        x = c - columns.start
        y = f - rows.start
        return tuple(self.enlarged * m for m in (a, b, x, d, e, y))

    @property
    def _undamaged_shape(self) -> Shape:
        return _times(self.observed.shape, self.enlarged)

    @property
    def _undamaged_window(self) -> Window:
        rows, columns = self.window
        s = self.enlarged
        undamaged_rows = slice(s * rows.start, s * rows.stop)
        undamaged_columns = slice(s * columns.start, s * columns.stop)
        return undamaged_rows, undamaged_columns

    @cached_property
    def _undamaged(self) -> Tensor:
        """The background, or the photo enlarged to the size that it had before it was damaged."""
        if self.background is not None:
            return self.background
        if self.enlarged == 1:
            return self.observed
        _, _, height, width = self._undamaged_shape
        return degrade.Resize((height, width))(self.observed).clamp(0, 1)

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
    return (*shape[:2], factor * shape[2], factor * shape[3])


def padded(photo: Tensor, spot: Spot) -> tuple[Tensor, tuple[int, int]]:
    """The photo, continued where the square leaves it, and the number of columns and rows added.

    As FFHQ's alignment does it: the photo is reflected at its borders, and what is added is blurred
    and fades to the median colour with the distance from the photo. The number is (left, top).
    Source: Karras et al. 2019 (StyleGAN), appendix A, and its published recipe.
    """
    height, width = photo.shape[2:]
    border = max(round(spot.side * 0.1), 3)
    counts = [*_missing(spot, 0, width, border), *_missing(spot, 1, height, border)]
    if max(counts) <= border - 4:
        return photo, (0, 0)
    least = round(spot.side * 0.3)
    left, right, top, bottom = (max(count, least) for count in counts)
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    if min(height, width) > 1:
        array = numpy.pad(photo.numpy(), widths, "reflect")
    else:
        array = numpy.pad(photo.numpy(), widths, "edge")
    x = torch.from_numpy(array)
    across = _outside(x.shape[3], left, right)
    down = _outside(x.shape[2], top, bottom)
    outside = torch.maximum(across, down[:, None])
    blur = degrade.Blur("gaussian", min(100.0, spot.side * 0.02))
    blurred_share = (3 * outside + 1).clamp(0, 1)
    x = x + (blur(x) - x) * blurred_share
    median = x.flatten(2).median(2).values
    x = x + (median[..., None, None] - x) * outside.clamp(0, 1)
    return x, (left, top)


def _missing(spot: Spot, axis: int, size: int, border: int) -> tuple[int, int]:
    """How many pixels the square and a border need before and after the photo, along an axis."""
    low, high = spot.extent(axis)
    before = math.ceil(border - low)
    after = math.ceil(high - size + border)
    return max(0, before), max(0, after)


def _outside(size: int, before: int, after: int) -> Tensor:
    """For each pixel of a padded line: 1 at its ends, 0 where the photo begins, negative inside."""
    positions = torch.arange(size, dtype=torch.float32)
    from_start = positions / before
    from_end = (size - 1 - positions) / after
    return 1 - torch.minimum(from_start, from_end)
