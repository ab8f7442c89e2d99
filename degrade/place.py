"""A picture within a picture: turned, scaled and moved, as a face lies in a photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .held import Held
from .operator import Shape
from .params import check_numbers, checked, image_size, tensor, tensor_of
from .registry import register
from .rng import Rng
from .surrogate import with_gradient_of
from .tracked import is_tracked, tracked

Matrix = tuple[float, ...]  # a, b, c, d, e, f
Entry = float | Tensor  # a number of a matrix: a tensor where its gradient is asked for
Entries = tuple[Entry, ...]
Size = tuple[int, int]  # height, width

_FINEST = 32  # samples across an output pixel, at most
LARGEST = 2**24  # pixels and samples of a result


def _check_matrix(given: object) -> Matrix:
    matrix = check_numbers("matrix", tracked(given), -1e6, 1e6)
    if not isinstance(matrix, tuple) or len(matrix) != 6:
        raise ValueError(f"matrix={matrix!r} must be six numbers a|b|c|d|e|f")
    if abs(_area(matrix)) < 1e-6:
        raise ValueError(f"matrix={matrix!r} leaves no area; give one that can be inverted")
    return matrix


@overload
def _area(matrix: Matrix) -> float: ...
@overload
def _area(matrix: Entries) -> Entry: ...
def _area(matrix: Entries) -> Entry:
    """The area in pixels that the unit square covers; negative if it is mirrored."""
    a, b, _, d, e, _ = matrix
    return a * e - b * d


@register("place", exact="bilinear, mean over each pixel", gradient="adjoint")
class Place(Held):
    """Draw an image of any size into an area of a larger picture, as a face lies in a photo.

    y = P x + (1 - k) ⊙ onto, where P samples x along the inverse of `matrix` and multiplies by the
    coverage k; the adjoint is Pᵀ y.

    matrix: six numbers a, b, c, d, e, f. The image fills the unit square, u to the right and v
        downward; its point (u, v) lands on column a·u + b·v + c and row d·u + e·v + f, in pixels
        from the outer corner of the picture.
    size: (h, w) of the picture, written 40x60.
    onto: the picture around the image, a tensor [1 or B, C, h, w] in [0, 1] or the path of a file
        of that size; None is black, and only then the operator is linear.

    Each output pixel is the mean of bilinear samples at most one pixel of x apart (at most 32
    across and 2^24 in all), so a reduction is antialiased. At the border of the image, x and onto
    are mixed by the covered share of the pixel. Output [B, C, h, w]. Gradient: that of the formula,
    also of the six numbers.
    `visible` is the coverage, or every pixel where `onto` is given, since a solver knows it.
    """

    matrix: Sequence[float] | Tensor = checked(
        _check_matrix, "six numbers a|b|c|d|e|f", learnable=True
    )
    size: int | str | tuple[int, int] = image_size(drawn=False)
    onto: Tensor | str | Path | None = tensor(channels=3, default=None)
    __eq__, __hash__ = Held.same, Held.kind

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.size
        if isinstance(size, int):
            size = (size, size)
            object.__setattr__(self, "size", size)
        pixels = math.prod(self._size)
        if pixels > LARGEST:
            raise ValueError(f"size={size!r} must be (h, w), of at most {LARGEST} pixels")

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.onto is None

    @property
    def _size(self) -> Size:
        return cast(Size, self.size)  # __post_init__ stores both sides

    @property
    def _matrix(self) -> Matrix:
        """The numbers without their gradients, so that a cache keeps no graph of autograd."""
        numbers = cast(Matrix, self.matrix)  # _check_matrix returns a tuple
        return tuple(map(float, numbers))

    def arguments(self) -> list[tuple[str, object, bool]]:
        height, width = self._size
        arguments = []
        for name, value, positional in super().arguments():
            if name == "size":
                value = f"{height}x{width}"  # 40|60 would be a value for each image
            arguments.append((name, value, positional))
        return arguments

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], *self._size)

    def input_shape(self, shape: Shape) -> Shape:
        """A shape of x with about as many pixels as the area that it is drawn into."""
        *batch, _, _ = shape
        a, b, _, d, e, _ = self._matrix
        height = round(math.hypot(b, e))
        width = round(math.hypot(a, d))
        return (*batch, max(1, height), max(1, width))

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        a, b, c, d, e, f = self._matrix
        *_, height, width = shape
        x, y = points.unbind(-1)
        u = x / width
        v = y / height
        return torch.stack([a * u + b * v + c, d * u + e * v + f], -1)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        y = self._mixed(x, self._matrix)
        if not is_tracked(self.matrix):
            return y
        like = torch.empty(0, dtype=torch.float64, device="cpu")
        numbers = cast(Tensor, tensor_of(self.matrix, like))
        return with_gradient_of(y, self._mixed(x.detach(), numbers.unbind()))

    def _mixed(self, x: Tensor, matrix: Entries) -> Tensor:
        """x drawn onto the picture around it."""
        y = self._placed(x, matrix)
        if self.onto is None:
            return y
        uncovered = 1 - self._cover(x, matrix)
        return y + self._around(x) * uncovered

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.onto is None and seen is None:
            covered = cover(self._matrix, self._size)
            return covered.clone()  # the caller may change it
        if seen is None:
            return None
        visible = self._placed(seen, self._matrix)
        if self.onto is None:
            return visible
        return visible + 1 - self._cover(seen, self._matrix)

    def _cover(self, like: Tensor, matrix: Entries) -> Tensor:
        covered = cover(matrix, self._size)
        return covered.to(like)

    def _placed(self, x: Tensor, matrix: Entries) -> Tensor:
        """Draw x onto black. Only the rectangle around the image is sampled."""
        a, b, c, d, e, f = self._matrix
        height, width = self._size
        top, bottom = _span(f, (d, e), height)
        left, right = _span(c, (a, b), width)
        if top >= bottom or left >= right:  # the image lies outside; its gradient is zero
            shape = self.output_shape(x.shape)
            black = x.new_zeros(shape)
            return black + 0 * x.sum() + 0 * sum(matrix)
        size = (bottom - top, right - left)
        fine = _samples_across(x, self._matrix, size)
        right_x, down_x, corner_x, right_y, down_y, corner_y = matrix
        to_rectangle = (right_x, down_x, corner_x - left, right_y, down_y, corner_y - top)
        drawn = _draw(x, to_rectangle, size, fine)
        margins = (left, width - right, top, height - bottom)
        padded = F.pad(drawn, margins)
        return padded * self._cover(x, matrix)

    def _around(self, x: Tensor) -> Tensor:
        onto = self._tensor
        batch, channels = x.shape[:2]
        expected = (channels, *self._size)
        fits_picture = tuple(onto.shape[1:]) == expected
        fits_batch = len(onto) in (1, batch)
        if not (fits_picture and fits_batch):
            raise ValueError(
                f"onto is {list(onto.shape)}; give {[batch, *expected]}, or one for all images"
            )
        return onto.to(x)


def _span(start: float, sides: tuple[float, float], length: int) -> tuple[int, int]:
    """First row or column that the image reaches, and the last one + 1, a pixel wider.

    start: where the image's corner lies. sides: how far its two sides extend from there.
    """
    along_u, along_v = sides
    lowest = start + min(0, along_u) + min(0, along_v)
    highest = start + max(0, along_u) + max(0, along_v)
    first = math.floor(lowest) - 1
    end = math.ceil(highest) + 1
    return max(0, first), min(length, end)


def _draw(x: Tensor, matrix: Entries, size: Size, fine: int) -> Tensor:
    """The mean of x over each pixel of a picture; x is repeated at its border."""
    positions = _grid(matrix, size, fine) * 2 - 1  # grid_sample counts from -1 to 1
    batch = x.shape[0]  # not len(x), which torch.export would hold fixed
    grid = positions.to(x)
    grid = grid.expand(batch, -1, -1, -1)
    samples = F.grid_sample(x, grid, "bilinear", "border", align_corners=False)
    return F.avg_pool2d(samples, fine)


def _samples_across(x: Tensor, matrix: Matrix, size: Size) -> int:
    """How many samples across an output pixel lie at most a pixel of x apart."""
    *_, height, width = x.shape
    p, q, _, r, s, _ = inverse(matrix)
    step_right = math.hypot(p * width, r * height)
    step_down = math.hypot(q * width, s * height)
    longest_step = max(step_right, step_down)
    needed = math.ceil(longest_step)
    pixels = math.prod(size)
    samples_per_pixel = LARGEST // pixels
    affordable = max(1, math.isqrt(samples_per_pixel))
    return min(needed, _FINEST, affordable)


@overload
def inverse(matrix: Matrix) -> Matrix: ...
@overload
def inverse(matrix: Entries) -> Entries: ...
def inverse(matrix: Entries) -> Entries:
    """The inverse matrix, from pixels to the unit square."""
    a, b, c, d, e, f = matrix
    area = _area(matrix)
    p = e / area
    q = -b / area
    r = -d / area
    s = a / area
    u_of_corner = -(p * c + q * f)
    v_of_corner = -(r * c + s * f)
    return p, q, u_of_corner, r, s, v_of_corner


def _grid(matrix: Entries, size: Size, fine: int) -> Tensor:
    """Unit-square positions of fine × fine samples per pixel, [h·fine, w·fine, (u, v)]."""
    if _is_differentiated(matrix):
        return _grid_of(matrix, size, fine)
    return _kept_grid(matrix, size, fine)


def _grid_of(matrix: Entries, size: Size, fine: int) -> Tensor:
    a, b, c, d, e, f = inverse(matrix)
    height, width = size
    rows = _positions(height, fine)
    rows = rows[:, None]
    columns = _positions(width, fine)
    u = a * columns + b * rows + c
    v = d * columns + e * rows + f
    return torch.stack((u, v), -1)


_kept_grid = cached_constant(maxsize=4)(_grid_of)  # a solver asks for it at every step


def _is_differentiated(matrix: Entries) -> bool:
    return isinstance(matrix[0], Tensor)


def _positions(length: int, fine: int) -> Tensor:
    """Where `fine` samples of each of `length` pixels lie, in pixels."""
    samples = torch.arange(length * fine, dtype=torch.float64)
    return (samples + 0.5) / fine


def cover(matrix: Entries, size: Size) -> Tensor:
    """The share of each pixel within the unit square, [1, 1, h, w], by distance to its sides."""
    if _is_differentiated(matrix):
        return _cover_of(matrix, size)
    return _kept_cover(matrix, size)


def _cover_of(matrix: Entries, size: Size) -> Tensor:
    left, top, right, bottom = sides(matrix, size)
    across = _share(left) + _share(right) - 1
    down = _share(top) + _share(bottom) - 1
    share_across = across.clamp_min(0)
    share_down = down.clamp_min(0)
    covered = share_across * share_down
    single = covered.float()
    return single[None, None]


_kept_cover = cached_constant(maxsize=4)(_cover_of)


def _share(distance: Tensor) -> Tensor:
    """The share of a pixel that lies inside an edge, if its centre lies `distance` inside."""
    covered = distance + 0.5
    return covered.clamp(0, 1)


def sides(matrix: Entries, size: Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far inside the left, top, right and bottom side each pixel's centre lies.

    Four tensors [h, w], in pixels; negative outside.
    """
    a, b, _, d, e, _ = inverse(matrix)
    grid = _grid(matrix, size, 1)
    u, v = grid.unbind(-1)
    across = _length(a, b)
    down = _length(d, e)
    left = u / across
    top = v / down
    right = (1 - u) / across
    bottom = (1 - v) / down
    return left, top, right, bottom


def _length(x: Entry, y: Entry) -> Entry:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return torch.hypot(x, y)
    return math.hypot(x, y)
