"""A picture within a picture: turned, scaled and moved, as a face lies in a photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .held import Held
from .operator import Shape
from .params import check_numbers, checked, image_size, tensor
from .registry import register
from .rng import Rng

_FINEST = 32  # samples across an output pixel, at most
LARGEST = 2**24  # pixels and samples of a result


def _check_matrix(given: object) -> tuple[float, ...]:
    matrix = check_numbers("matrix", given, -1e6, 1e6)
    if not isinstance(matrix, tuple) or len(matrix) != 6:
        raise ValueError(f"matrix={matrix!r} must be six numbers a|b|c|d|e|f")
    a, b, _, d, e, _ = matrix
    if abs(a * e - b * d) < 1e-6:
        raise ValueError(f"matrix={matrix!r} leaves no area; give one that can be inverted")
    return matrix


@register("place", exact="bilinear, mean over each pixel", gradient="adjoint")
class Place(Held):
    """Draw an image of any size into an area of a picture of `size`, and leave the rest of it.

    matrix: six numbers a, b, c, d, e, f: what lies at (u, v) of the unit square that the image fills,
    u to the right and v downward, comes to column a·u + b·v + c and row d·u + e·v + f, in pixels
    counted from the outer corner. size: (h, w), written 40x60. onto: the picture around it, a tensor
    [1 or B, C, h, w] in [0, 1] or the path of a file of that size; None leaves black.

    A pixel is the mean of bilinear samples, at most an image's pixel apart (but no more than 32 across,
    and 2^24 in all), so that a reduction is antialiased; on the border it is mixed by the share that is
    covered. Output [B, C, h, w]. Linear in x where there is nothing around. Gradient: its own. `visible`
    is what is covered, and everything where there is a picture around: what that shows is known.
    """

    matrix: Sequence[float] | Tensor = checked(_check_matrix, "six numbers a|b|c|d|e|f")
    size: int | str | tuple[int, int] = image_size(drawn=False)
    onto: Tensor | str | Path | None = tensor(channels=3, default=None)
    __eq__, __hash__ = Held.same, Held.kind

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))
        if math.prod(self.size) > LARGEST:
            raise ValueError(f"size={self.size!r} must be (h, w), of at most {LARGEST} pixels")

    @property
    def linear(self) -> bool:
        return self.onto is None

    def arguments(self) -> list[tuple[str, object, bool]]:
        size = "x".join(map(str, self.size))  # 40|60 would be a value for each image
        return [
            (n, size if n == "size" else v, positional) for n, v, positional in super().arguments()
        ]

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], *self.size)

    def input_shape(self, shape: Shape) -> Shape:
        """One that it takes to about as many pixels."""
        a, b, _, d, e, _ = self.matrix
        return (*shape[:2], max(1, round(math.hypot(b, e))), max(1, round(math.hypot(a, d))))

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        y = self._placed(x)
        return y if self.onto is None else y + self._around(x) * (1 - self._cover(x))

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.onto is None:
            return cover(self.matrix, self.size) if seen is None else self._placed(seen)
        return None if seen is None else self._placed(seen) + 1 - self._cover(seen)

    def _cover(self, like: Tensor) -> Tensor:
        return cover(self.matrix, self.size).to(like)

    def _placed(self, x: Tensor) -> Tensor:
        """Drawn onto black. Only the rectangle that the square reaches is sampled."""
        height, width = x.shape[2:]
        a, b, c, d, e, f = self.matrix
        spans = [
            (
                max(0, math.floor(at + min(0, p) + min(0, q)) - 1),
                min(n, math.ceil(at + max(0, p) + max(0, q)) + 1),
            )
            for at, p, q, n in zip((f, c), (d, a), (e, b), self.size, strict=True)
        ]
        (top, bottom), (left, right) = spans
        if top >= bottom or left >= right:
            return (
                x.new_zeros(self.output_shape(x.shape)) + 0 * x.sum()
            )  # nothing of it is seen, nor of its gradient
        inner, part = (a, b, c - left, d, e, f - top), (bottom - top, right - left)
        p, q, _, r, s, _ = inverse(inner)
        step = max(
            math.hypot(p * width, r * height), math.hypot(q * width, s * height)
        )  # from pixel to pixel
        fine = min(math.ceil(step), _FINEST, max(1, math.isqrt(LARGEST // math.prod(part))))
        grid = (_grid(inner, part, fine) * 2 - 1).to(x).expand(len(x), -1, -1, -1)
        y = F.avg_pool2d(F.grid_sample(x, grid, "bilinear", "border", align_corners=False), fine)
        return F.pad(y, (left, self.size[1] - right, top, self.size[0] - bottom)) * self._cover(x)

    def _around(self, x: Tensor) -> Tensor:
        onto, size = self._tensor, (x.shape[1], *self.size)
        if tuple(onto.shape[1:]) != size or len(onto) not in (1, len(x)):
            raise ValueError(
                f"onto is {list(onto.shape)}; give {[len(x), *size]}, or one for all images"
            )
        return onto.to(x)


def inverse(matrix: tuple[float, ...]) -> tuple[float, ...]:
    """The matrix that leads back: from pixels to the unit square."""
    a, b, c, d, e, f = matrix
    area = a * e - b * d
    a, b, d, e = e / area, -b / area, -d / area, a / area
    return a, b, -(a * c + b * f), d, e, -(d * c + e * f)


@cached_constant(maxsize=4)  # a solver asks for the same at every step
def _grid(matrix: tuple[float, ...], size: tuple[int, int], fine: int) -> Tensor:
    """Where fine × fine samples of each pixel lie in the unit square, [h·fine, w·fine, (u, v)]."""
    a, b, c, d, e, f = inverse(matrix)
    rows, columns = ((torch.arange(n * fine, dtype=torch.float64) + 0.5) / fine for n in size)
    rows = rows[:, None]
    return torch.stack((a * columns + b * rows + c, d * columns + e * rows + f), -1)


@cached_constant(maxsize=4)
def cover(matrix: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    """How much of each pixel lies within the unit square, [1, 1, h, w], by the distance to its sides."""
    left, top, right, bottom = ((distance + 0.5).clamp(0, 1) for distance in sides(matrix, size))
    return ((left + right - 1).clamp_min(0) * (top + bottom - 1).clamp_min(0)).float()[None, None]


def sides(matrix: tuple[float, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
    """How far each pixel's centre lies inside the left, top, right and bottom side of the square, in pixels, [h, w]."""
    a, b, _, d, e, _ = inverse(matrix)
    u, v = _grid(matrix, size, 1).unbind(-1)
    across, down = math.hypot(a, b), math.hypot(d, e)
    return u / across, v / down, (1 - u) / across, (1 - v) / down
