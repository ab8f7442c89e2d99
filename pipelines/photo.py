"""A part of a photo that a generator can draw: where it lies, what happened to it, and back into the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor

import degrade
from degrade.operator import Operator, Shape, Window
from degrade.place import LARGEST, Place, inverse, sides

FEATHER = (
    0.08  # of the shorter side of what is kept, over which what is pasted back fades into the photo
)
SMALLEST = 8  # pixels of a square's side
_MARGIN = 16  # pixels of the photo around the square, at least
_ENLARGED = 64  # a photo is at most so many times smaller than what it shows


@dataclass(frozen=True)
class Spot:
    """The square of a photo that a generator's image fills."""

    matrix: tuple[
        float, ...
    ]  # from the image's unit square to the photo's pixels, as of `degrade.Place`
    keep: tuple[float, float, float, float] = (
        0,
        0,
        1,
        1,
    )  # u, v, u, v: the part that is pasted back

    @property
    def side(self) -> float:
        """In pixels of the photo."""
        a, _, _, d, _, _ = self.matrix
        return math.hypot(a, d)

    def corners(self, keep: bool = False) -> list[tuple[float, float]]:
        """(x, y) of the square's corners, or of what is kept of it: top left and on, clockwise."""
        a, b, c, d, e, f = self.matrix
        left, top, right, bottom = self.keep if keep else (0, 0, 1, 1)
        square = (left, top), (right, top), (right, bottom), (left, bottom)
        return [(a * u + b * v + c, d * u + e * v + f) for u, v in square]


def centre(height: int, width: int) -> Spot:
    """The largest square, in the middle."""
    side = min(height, width)
    return box((width - side) / 2, (height - side) / 2, side, side, height, width)


def box(x: float, y: float, w: float, h: float, height: int, width: int) -> Spot:
    """The square around a box, of which the box alone is pasted back; all in pixels of the photo."""
    if not (min(w, h) > 0 and min(x, y) >= 0 and x + w <= width and y + h <= height):
        raise ValueError(
            f"box={x:g},{y:g},{w:g},{h:g} is not within the photo's {width}x{height} pixels (x,y,w,h)"
        )
    side = max(w, h)
    left, top = x + (w - side) / 2, y + (h - side) / 2
    inner = ((x - left) / side, (y - top) / side, (x + w - left) / side, (y + h - top) / side)
    return Spot((side, 0.0, left, 0.0, side, top), inner)


@dataclass(frozen=True)
class Photo:
    """A photo, what happened to it, and the spot in it that is to be restored.

    The loss is taken on the photo's own pixels: its operator draws the generator's image into the
    photo, and then does to it what happened to the photo. Around the spot the photo stands for
    itself, so that what blocks and filters mix across the border is as it was. Raises ValueError
    where the operator does not lead to a photo of this size or is not decided yet, the spot is too small
    or outside, or there are too many pixels.
    """

    observed: Tensor  # [1, C, H, W]
    operator: Operator  # of a whole picture, `enlarged` times as large
    spot: Spot

    def __post_init__(self):
        if self.observed.ndim != 4 or len(self.observed) != 1:
            raise ValueError(
                f"observed has shape {list(self.observed.shape)}; give one photo, [1, C, H, W]"
            )
        height, width = self.observed.shape[2:]
        if self.spot.side < SMALLEST:
            raise ValueError(
                f"what is to be restored is {self.spot.side:.0f} pixels wide; it takes at least {SMALLEST}"
            )
        for at, size in ((0, width), (1, height)):
            ends = [corner[at] for corner in self.spot.corners()]
            if max(ends) <= 0 or min(ends) >= size:
                raise ValueError(
                    f"what is to be restored lies outside the photo's {width}x{height} pixels"
                )
        area, most = height * width * self.enlarged**2, 4 * LARGEST
        rows, columns = self.window
        part = (rows.stop - rows.start) * (columns.stop - columns.start) * self.enlarged**2
        if part > LARGEST or area > most:
            said = f"{part:,} pixels of a picture of {area:,}; at most {LARGEST:,} of {most:,} fit"
            raise ValueError(f"what is to be restored takes {said}: reduce or crop the photo")

    @cached_property
    def enlarged(self) -> int:
        """How many times larger the undamaged picture is, by what the operator does to sizes."""
        shape, why = tuple(self.observed.shape), "check the operator"
        for times in range(1, _ENLARGED + 1):
            try:
                if self.operator.output_shape(_times(shape, times)) == shape:
                    return times
            except (
                ValueError
            ) as error:  # a mask of another size, perhaps the right one for another factor
                why = str(error)
        raise ValueError(
            f"{self.operator} leads to no picture of {shape[3]}x{shape[2]} pixels; {why}"
        )

    @cached_property
    def window(self) -> Window:
        """The part of the photo that the spot reaches: as far as the operator carries pixels, and in whole blocks."""
        whole, spans = _times(self.observed.shape, self.enlarged), []
        margin = max(_MARGIN, self.operator.reach(whole) / self.enlarged)
        for at, size in ((1, self.observed.shape[2]), (0, self.observed.shape[3])):

            def parts(edge: int, at: int = at, size: int = size) -> bool:
                one, other = slice(0, edge * self.enlarged), slice(0, whole[2 + at])
                cut = (one, other) if at else (other, one)
                return edge in (0, size) or self.operator.part(whole, cut) is not None

            ends = [corner[at] for corner in self.spot.corners()]
            first = max(0, math.floor(max(0, min(ends) - margin)))
            last = min(size, math.ceil(min(size, max(ends) + margin)))
            spans.append((first, last, parts, size))
        return tuple(
            slice(
                next(i for i in range(first, -1, -1) if parts(i)),
                next(i for i in range(last, size + 1) if parts(i)),
            )
            for first, last, parts, size in spans
        )

    @cached_property
    def happened(self) -> Operator:
        """What happened to the window."""
        whole = _times(self.observed.shape, self.enlarged)
        happened, _ = self.operator.part(whole, _times_window(self.window, self.enlarged))
        return happened

    def problem(self, resolution: int) -> tuple[Tensor, Operator]:
        """What to solve: the observation, and what led to it from a generator's image.

        Where the photo shows the spot at twice the generator's resolution or more, both are reduced.
        """
        region = self.observed[(..., *self.window)]
        f = (
            Place(self._matrix, tuple(self._background.shape[2:]), self._background)
            >> self.happened
        )
        reduced = int(self.spot.side / resolution)
        return (
            (degrade.Pool(reduced)(region), f >> degrade.Pool(reduced))
            if reduced > 1
            else (region, f)
        )

    def pasted(self, image: Tensor, consistent: bool = False) -> Tensor:
        """The undamaged photo [1, C, s·H, s·W], of which only the spot is new: `image` [1, C, R, R].

        Outside of what is kept of the spot it is the photo, bit for bit where s is 1, else enlarged.
        consistent: inside, it is brought to agree with what the photo says for certain, but for blocks
        that the border cuts.
        """
        around, size = self._background, tuple(self._background.shape[2:])
        drawn = Place(self._matrix, size, around)(image).clamp(0, 1)
        share = self._share(size)
        mixed = torch.where(share > 0, around + share * (drawn - around), around)
        if consistent:
            agreeing = (
                self.happened.approx()
                .project(mixed, self.observed[(..., *self.window)])
                .clamp(0, 1)
            )
            mixed = torch.where(share > 0, agreeing, around)
        photo = self._undamaged.clone()
        photo[(..., *_times_window(self.window, self.enlarged))] = mixed
        return photo

    def aligned(self, side: int) -> Tensor:
        """The spot as the photo shows it, upright, [1, C, side, side]; see `padded`."""
        photo, (left, top) = padded(self.observed, self.spot)
        a, b, c, d, e, f = self.spot.matrix
        height, width = photo.shape[2:]
        back = inverse(
            (a, b, c + left, d, e, f + top)
        )  # from the photo's pixels to the unit square
        matrix = [side * m * n for m, n in zip(back, (width, height, 1) * 2, strict=True)]
        return Place(tuple(matrix), (side, side))(photo)

    def _share(self, size: tuple[int, int]) -> Tensor:
        """How much of each pixel of the window is pasted: from 0 at the border of what is kept smoothly to 1.

        A side beyond which there is no photo needs no seam.
        """
        a, b, c, d, e, f = self._matrix
        left, top, right, bottom = self.spot.keep
        w, h = right - left, bottom - top
        kept = (a * w, b * h, c + a * left + b * top, d * w, e * h, f + d * left + e * top)
        feather, share = FEATHER * self.enlarged * self.spot.side * min(w, h), torch.ones(size)
        top_left, top_right, bottom_right, bottom_left = self.spot.corners(keep=True)
        ends = (
            (bottom_left, top_left),
            (top_left, top_right),
            (top_right, bottom_right),
            (bottom_right, bottom_left),
        )
        for distance, (one, other) in zip(sides(kept, size), ends, strict=True):
            if not any(
                max(one[at], other[at]) < 0.5 or min(one[at], other[at]) > n - 0.5
                for at, n in ((0, self.observed.shape[3]), (1, self.observed.shape[2]))
            ):
                t = (distance / feather).clamp(0, 1).float()
                share = torch.minimum(share, t * t * (3 - 2 * t))
        return share

    @property
    def _matrix(self) -> tuple[float, ...]:
        """Of the spot, in the undamaged window."""
        a, b, c, d, e, f = self.spot.matrix
        rows, columns = self.window
        return tuple(self.enlarged * m for m in (a, b, c - columns.start, d, e, f - rows.start))

    @cached_property
    def _undamaged(self) -> Tensor:
        """The photo in the size of what it shows."""
        if self.enlarged == 1:
            return self.observed
        return degrade.Resize(_times(self.observed.shape, self.enlarged)[2:])(self.observed).clamp(
            0, 1
        )

    @property
    def _background(self) -> Tensor:
        """Its window."""
        return self._undamaged[(..., *_times_window(self.window, self.enlarged))]


def _times(shape: Shape, times: int) -> Shape:
    return (*shape[:2], *(times * n for n in shape[2:]))


def _times_window(window: Window, times: int) -> Window:
    rows, columns = (slice(times * s.start, times * s.stop) for s in window)
    return rows, columns


def padded(photo: Tensor, spot: Spot) -> tuple[Tensor, tuple[int, int]]:
    """The photo, reflected beyond its borders where the spot leaves it, and (left, top) of what was added.

    As FFHQ's alignment does it: what is reflected is blurred and fades to the median, the more the
    further outside. Source: Karras et al. 2019 (StyleGAN), appendix A, and its published recipe.
    """
    height, width = photo.shape[2:]
    corners = spot.corners()
    border = max(round(spot.side * 0.1), 3)
    lows = [max(0, math.ceil(border - min(p[at] for p in corners))) for at in (0, 1)]
    highs = [
        max(0, math.ceil(max(p[at] for p in corners) - n + border))
        for at, n in ((0, width), (1, height))
    ]
    if max(*lows, *highs) <= border - 4:
        return photo, (0, 0)
    (left, top), (right, bottom) = (
        [max(n, round(spot.side * 0.3)) for n in some] for some in (lows, highs)
    )
    array = numpy.pad(
        photo.numpy(),
        ((0, 0), (0, 0), (top, bottom), (left, right)),
        "reflect" if min(height, width) > 1 else "edge",
    )
    x = torch.from_numpy(array)
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in x.shape[2:])
    outside = torch.maximum(
        1 - torch.minimum(columns / left, (x.shape[3] - 1 - columns) / right),
        1 - torch.minimum(rows / top, (x.shape[2] - 1 - rows) / bottom)[:, None],
    )
    blurred = degrade.Blur("gaussian", min(100.0, spot.side * 0.02))(x)
    x = x + (blurred - x) * (3 * outside + 1).clamp(0, 1)
    median = x.flatten(2).median(2).values[..., None, None]
    return x + (median - x) * outside.clamp(0, 1), (left, top)
