"""The square of a photo that a generator draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

from degrade.place import Matrix

Corner = tuple[float, float]  # x, y


@dataclass(frozen=True)
class Spot:
    """The square of a photo that a generator's image fills.

    matrix: maps the image's unit square to the photo's pixels, as in `degrade.Place`.
    keep: left, top, right, bottom in the unit square: the part that is pasted back.
    """

    matrix: Matrix
    keep: tuple[float, float, float, float] = (0, 0, 1, 1)

    @property
    def side(self) -> float:
        """Length of the square's side, in pixels of the photo."""
        a, _, _, d, _, _ = self.matrix
        return math.hypot(a, d)

    def corners(self, keep: bool = False) -> list[Corner]:
        """(x, y) of the corners of the square, or of its kept part, clockwise from the top left."""
        left, top, right, bottom = (0.0, 0.0, 1.0, 1.0)
        if keep:
            left, top, right, bottom = self.keep
        return [
            self._in_photo(left, top),
            self._in_photo(right, top),
            self._in_photo(right, bottom),
            self._in_photo(left, bottom),
        ]

    def _in_photo(self, u: float, v: float) -> Corner:
        """Map a point of the unit square to the photo."""
        a, b, c, d, e, f = self.matrix
        x = a * u + b * v + c
        y = d * u + e * v + f
        return x, y

    def extent(self, axis: int) -> tuple[float, float]:
        """The least and the largest x (axis 0) or y (axis 1) of the square."""
        values = [corner[axis] for corner in self.corners()]
        return min(values), max(values)


def centre(height: int, width: int) -> Spot:
    """The largest square in the middle of a photo."""
    side = min(height, width)
    left = (width - side) / 2
    top = (height - side) / 2
    return box(left, top, side, side, height, width)


def box(x: float, y: float, w: float, h: float, height: int, width: int) -> Spot:
    """The square around a box; only the box is pasted back. All in pixels of the photo."""
    has_area = min(w, h) > 0
    begins_inside = min(x, y) >= 0
    ends_inside = x + w <= width and y + h <= height
    if not (has_area and begins_inside and ends_inside):
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
