"""A part of a photo that a generator can draw: where it lies, what happened to it, and back into the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy
import torch
from torch import Tensor

import degrade
from degrade.mask import Masking
from degrade.operator import Operator, Shape, compose
from degrade.place import LARGEST, Place, inverse, sides

FEATHER = 0.08  # of the square's side, over which what is pasted back fades into the photo
SMALLEST = 8  # pixels of a square's side
_MARGIN = 16  # pixels of the photo around the square, for what reaches over its border
_BLOCK = 16  # where JPEG's grids of every sampling begin anew
_ENLARGED = 64  # a photo is at most so many times smaller than what it shows

Window = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Spot:
    """The square of a photo that a generator's image fills."""

    matrix: tuple[float, ...]  # from the image's unit square to the photo's pixels, as of `degrade.Place`
    keep: tuple[float, float, float, float] = (0, 0, 1, 1)  # u, v, u, v: the part that is pasted back

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
        raise ValueError(f"box={x:g},{y:g},{w:g},{h:g} is not within the photo's {width}x{height} pixels (x,y,w,h)")
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
    where the operator does not lead to a photo of this size, or the spot is too small or outside.
    """

    observed: Tensor  # [1, C, H, W]
    operator: Operator  # of a whole picture, `enlarged` times as large
    spot: Spot

    def __post_init__(self):
        height, width = self.observed.shape[2:]
        if self.spot.side < SMALLEST:
            raise ValueError(
                f"what is to be restored is {self.spot.side:.0f} pixels wide; it takes at least {SMALLEST}"
            )
        rows, columns = self.window
        if rows.start >= rows.stop or columns.start >= columns.stop:
            raise ValueError(f"what is to be restored lies outside the photo's {width}x{height} pixels")
        area = (rows.stop - rows.start) * (columns.stop - columns.start) * self.enlarged**2
        if area > LARGEST:
            raise ValueError(
                f"what is to be restored takes {area:,} pixels, and at most {LARGEST:,} fit; reduce the photo"
            )

    @cached_property
    def enlarged(self) -> int:
        """How many times larger the undamaged picture is, by what the operator does to sizes."""
        shape = tuple(self.observed.shape)
        for times in range(1, _ENLARGED + 1):
            try:
                if self.operator.output_shape(_times(shape, times)) == shape:
                    return times
            except ValueError:  # a mask of another size, perhaps the right one for another factor
                continue
        raise ValueError(f"{self.operator} leads to no picture of {shape[3]}x{shape[2]} pixels; check the operator")

    @cached_property
    def window(self) -> Window:
        """The part of the photo that the spot reaches, in whole blocks."""
        corners, spans = self.spot.corners(), []
        for at, size in zip((1, 0), self.observed.shape[2:], strict=True):
            low, high = min(p[at] for p in corners) - _MARGIN, max(p[at] for p in corners) + _MARGIN
            if size % _BLOCK and any(isinstance(stage, degrade.Turn) for stage in self.operator):
                low, high = 0, size  # counted from the other end, its blocks lie elsewhere
            first = max(0, math.floor(low / _BLOCK) * _BLOCK)
            spans.append(slice(first, min(size, math.ceil(high / _BLOCK) * _BLOCK)))
        return spans[0], spans[1]

    @cached_property
    def happened(self) -> Operator:
        """What happened to the window."""
        whole = _times(self.observed.shape, self.enlarged)
        return windowed(self.operator, whole, _times_window(self.window, self.enlarged))

    def problem(self, resolution: int) -> tuple[Tensor, Operator]:
        """What to solve: the observation, and what led to it from a generator's image.

        Where the photo shows the spot larger than the generator draws it, both are reduced to its resolution.
        """
        region = self.observed[(..., *self.window)]
        f = Place(self._matrix, tuple(self._background.shape[2:]), self._background) >> self.happened
        reduced = int(self.spot.side / resolution)
        return (degrade.Pool(reduced)(region), f >> degrade.Pool(reduced)) if reduced > 1 else (region, f)

    def pasted(self, image: Tensor, consistent: bool = False) -> Tensor:
        """The undamaged photo [1, C, s·H, s·W], of which only the spot is new: `image` [1, C, R, R].

        What is further from the spot's border than the feather is the photo's, bit for bit.
        consistent: the window is brought to agree with what the photo says for certain.
        """
        around, size = self._background, tuple(self._background.shape[2:])
        drawn = Place(self._matrix, size, around)(image).clamp(0, 1)
        share = self._share(size)
        mixed = torch.where(share > 0, around + share * (drawn - around), around)
        if consistent:
            mixed = self.happened.approx().project(mixed, self.observed[(..., *self.window)]).clamp(0, 1)
        photo = _larger(self.observed, self.enlarged).clone()
        photo[(..., *_times_window(self.window, self.enlarged))] = mixed
        return photo

    def aligned(self, side: int) -> Tensor:
        """The spot as the photo shows it, upright, [1, C, side, side]; see `padded`."""
        photo, (left, top) = padded(self.observed, self.spot)
        a, b, c, d, e, f = self.spot.matrix
        height, width = photo.shape[2:]
        back = inverse((a, b, c + left, d, e, f + top))  # from the photo's pixels to the unit square
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
        feather, share = FEATHER * self.enlarged * self.spot.side, torch.ones(size)
        top_left, top_right, bottom_right, bottom_left = self.spot.corners(keep=True)
        ends = (bottom_left, top_left), (top_left, top_right), (top_right, bottom_right), (bottom_right, bottom_left)
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
    def _background(self) -> Tensor:
        return _larger(self.observed[(..., *self.window)], self.enlarged)


def windowed(f: Operator, shape: Shape, window: Window) -> Operator:
    """What f, applied to images of `shape`, does to a window of them.

    Raises ValueError where that is not the same for a part as for the whole.
    """
    if all((s.start, s.stop) == (0, n) for s, n in zip(window, shape[2:], strict=True)):
        return f
    stages = []
    for stage in f:
        before, shape = shape, stage.output_shape(shape)
        size = tuple(s.stop - s.start for s in window)
        if isinstance(stage, Masking):
            stage = degrade.Mask(stage.pattern(before)[(..., *window)].clone())
        if isinstance(stage, degrade.Turn):
            window = _turned(window, before, stage)
        else:
            window = tuple(
                slice(round(s.start * n / m), round(s.stop * n / m))
                for s, m, n in zip(window, before[2:], shape[2:], strict=True)
            )
        after = tuple(s.stop - s.start for s in window)
        if isinstance(stage, degrade.Resize):
            stage = replace(stage, size=after, scale=None)
        if stage.output_shape((*before[:2], *size))[2:] != after:
            raise ValueError(f"{stage} cannot be taken for a part of a photo; crop the photo first, and restore that")
        stages.append(stage)
    return compose(stages)


def _turned(window: Window, shape: Shape, turn: degrade.Turn) -> Window:
    (rows, columns), (height, width) = window, shape[2:]
    for _ in range(turn.quarters):
        rows, columns = slice(width - columns.stop, width - columns.start), rows
        height, width = width, height
    return (rows, slice(width - columns.stop, width - columns.start)) if turn.mirror else (rows, columns)


def _times(shape: Shape, times: int) -> Shape:
    return (*shape[:2], *(times * n for n in shape[2:]))


def _times_window(window: Window, times: int) -> Window:
    rows, columns = (slice(times * s.start, times * s.stop) for s in window)
    return rows, columns


def _larger(x: Tensor, times: int) -> Tensor:
    size = _times(x.shape, times)[2:]
    return x if times == 1 else degrade.Resize(size)(x)


def padded(photo: Tensor, spot: Spot) -> tuple[Tensor, tuple[int, int]]:
    """The photo, reflected beyond its borders where the spot leaves it, and (left, top) of what was added.

    As FFHQ's alignment does it: what is reflected is blurred and fades to the median, the more the
    further outside. Source: Karras et al. 2019 (StyleGAN), appendix A, and its published recipe.
    """
    height, width = photo.shape[2:]
    corners = spot.corners()
    border = max(round(spot.side * 0.1), 3)
    lows = [max(0, math.ceil(border - min(p[at] for p in corners))) for at in (0, 1)]
    highs = [max(0, math.ceil(max(p[at] for p in corners) - n + border)) for at, n in ((0, width), (1, height))]
    if max(*lows, *highs) <= border - 4:
        return photo, (0, 0)
    (left, top), (right, bottom) = ([max(n, round(spot.side * 0.3)) for n in some] for some in (lows, highs))
    array = numpy.pad(
        photo.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), "reflect" if min(height, width) > 1 else "edge"
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
