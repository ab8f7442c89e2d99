"""Warps: an image turned, scaled, sheared or moved by fractions of a pixel, or seen aslant.

Each pixel of the result lies between pixels of the image, and is interpolated there. The position
is a smooth function of the parameters, so their gradients are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .movement import homography
from .operator import Operator, Shape
from .params import Number, Numbers, check_numbers, checked, number, option, show, single, tensor_of
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .tracked import is_tracked, tracked

FILTERS = ("bilinear", "bicubic")
EDGES = {"black": "zeros", "nearest": "border"}  # names here, and those of torch's grid_sample
_OUTSIDE = 1e4  # sides of the image: the position of what lies behind the viewer
_MOST_SHEAR = 80  # degrees
_MOST_JITTER = 0.24  # of a side: four corners that move by less always have an inner side
_CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))  # (x, y), clockwise from the upper left


class _Warp(Operator):
    """Base of warps of the same size. A subclass says where the pixels of the result come from."""

    filter: str
    edge: str

    def _warped(self, x: Tensor, filter: str) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return self._warped(x, self.filter)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None and self.edge == "nearest":
            return None
        batch, _, height, width = shape
        if seen is None:
            seen = torch.ones(1, 1, height, width, dtype=torch.float32, device="cpu")
        everywhere = seen.expand(batch, -1, -1, -1)
        return self._warped(everywhere, "bilinear").clamp(0, 1)


@register("affine", exact="SciPy's affine_transform", gradient="adjoint")
class Affine(_Warp):
    """Shear, scale, turn and move an image, about its centre.

    y(p) = x(c + A⁻¹(p - c - t)) at the centre p of each pixel, with the centre c of the image,
    A = rotation · scale · shear and t = (dx, dy). The adjoint adds each y to the pixels that it was
    mixed of.

    angle: in degrees, counterclockwise, -360 to 360; a number, or one per image, as all others.
    dy, dx: how far the image moves down and to the right, in pixels, also in fractions.
    scale: 0.05 to 20; above 1 enlarges. A reduction is not antialiased; blur before it.
    shear: in degrees, -80 to 80: an image row moves to the right by tan(shear) times its distance
        below the centre.
    filter: "bilinear", or "bicubic" (Keys' kernel with a = -0.75, as in torch and OpenCV).
    edge: what is beyond the image: "black", or "nearest", which repeats the pixels at the edge.

    Output: the same shape. Gradient: its own, the adjoint; that of every number is exact. Where a
    bilinear position is a whole pixel, as at 0 degrees, the values have a kink there and the
    gradient of a number is that of one side; "bicubic" has no kink.
    `visible` is the share of a pixel that lies within the image, unless the edge is repeated.
    """

    angle: Numbers = number(low=-360, high=360, learnable=True)
    dy: Numbers = number(default=0, low=-(2**16), high=2**16, learnable=True)
    dx: Numbers = number(default=0, low=-(2**16), high=2**16, learnable=True)
    scale: Numbers = number(default=1, low=0.05, high=20, learnable=True)
    shear: Numbers = number(default=0, low=-_MOST_SHEAR, high=_MOST_SHEAR, learnable=True)
    filter: str = option(*FILTERS, default="bilinear")
    edge: str = option(*EDGES, default="black")
    linear = True

    def _warped(self, x: Tensor, filter: str) -> Tensor:
        height, width = x.shape[2:]

        def turn(row: Tensor, *numbers: float) -> Tensor:
            grid = affine_grid(numbers, height, width)
            return sample(row, grid, filter, self.edge)

        return row_by_row(
            turn, x, angle=self.angle, dy=self.dy, dx=self.dx, scale=self.scale, shear=self.shear
        )

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        *_, height, width = shape
        values = (self.angle, self.dy, self.dx, self.scale, self.shear)
        numbers = tuple(map(single, values))
        return move_by(_affine_matrix(numbers, height, width), points)


def _affine_matrix(numbers: tuple[float, ...], height: int, width: int) -> Tensor:
    """The 3 × 3 matrix that takes (x, y, 1) of an image to that of the result, in pixels.

    numbers: angle, dy, dx, scale and shear.
    """
    angle, dy, dx, scale, shear = map(_as_tensor, numbers)
    radians = torch.deg2rad(angle)
    cosine = scale * torch.cos(radians)
    sine = scale * torch.sin(radians)
    slant = torch.tan(torch.deg2rad(shear))
    # the rotation and scale (cosine, sine; -sine, cosine) after the shear (1, slant; 0, 1)
    first_row = (cosine, cosine * slant + sine)
    second_row = (-sine, cosine - sine * slant)
    centre_x = width / 2
    centre_y = height / 2
    shift_x = centre_x + dx - first_row[0] * centre_x - first_row[1] * centre_y
    shift_y = centre_y + dy - second_row[0] * centre_x - second_row[1] * centre_y
    zero = torch.zeros_like(shift_x)
    one = torch.ones_like(shift_x)
    entries = [*first_row, shift_x, *second_row, shift_y, zero, zero, one]
    return torch.stack(entries).view(3, 3)


def affine_grid(numbers: tuple[float, ...], height: int, width: int) -> Tensor:
    """Where each pixel of an affine map's result lies in the image, for `sample`.

    numbers: angle, dy, dx, scale and shear, as in `Affine`.
    """
    build = _affine_grid if is_tracked(numbers) else _kept_affine_grid
    return build(numbers, height, width)


def _affine_grid(numbers: tuple[float, ...], height: int, width: int) -> Tensor:
    return _grid(_affine_matrix(numbers, height, width), height, width)


_kept_affine_grid = cached_constant(maxsize=8)(_affine_grid)  # a solver asks for it at every step


def _check_corners(given: object) -> tuple[float, ...]:
    """Eight numbers whose four corners are those of a convex picture."""
    corners = check_numbers("corners", tracked(given), -0.5, 0.5)
    if not isinstance(corners, tuple) or len(corners) != 8:
        raise ValueError(f"corners={show(given)} must be eight numbers dx|dy|…, a pair per corner")
    points = []
    for i, (x, y) in enumerate(_CORNERS):
        points.append((x + corners[2 * i], y + corners[2 * i + 1]))
    for i, (x, y) in enumerate(points):
        next_x, next_y = points[(i + 1) % 4]
        last_x, last_y = points[i - 1]
        turn = (next_x - x) * (last_y - y) - (next_y - y) * (last_x - x)
        if turn < 1e-3:
            raise ValueError(f"corners={show(given)} fold the image over; move them less")
    return corners


@register("perspective", exact="its homography", gradient="adjoint")
class Perspective(_Warp):
    """See an image aslant: its four corners move, and straight lines stay straight.

    y(p) = x(H⁻¹ p) with the homography H that takes each corner of the image to its new place. The
    adjoint adds each y to the pixels that it was mixed of.

    jitter: draws each coordinate of each corner from U[-jitter, jitter], 0 to 0.24, for each image.
        In shares of the image's width and height, as `corners`.
    corners: how far the corners move, dx|dy of the upper left, the upper right, the lower right and
        the lower left one; eight numbers from -0.5 to 0.5 of the width and of the height. Each
        inner angle must stay below 180°. `sample` sets them.
    filter, edge: as in `affine`.

    Output: the same shape. Gradient: its own, the adjoint; that of the corners is exact, as in
    `affine`. A solver knows the corners after `sample` only.
    Source of the drawn corners: Tancik et al. 2020 (StegaStamp), with a jitter of 0 to 0.1.
    """

    jitter: Number | None = number(default=None, low=0, high=_MOST_JITTER, per_image=False)
    corners: Sequence[float] | Tensor | None = checked(
        _check_corners,
        "eight numbers dx|dy|dx|dy|dx|dy|dx|dy from -0.5 to 0.5",
        default=None,
        learnable=True,
    )
    filter: str = option(*FILTERS, default="bilinear")
    edge: str = option(*EDGES, default="black")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.jitter is None) == (self.corners is None):
            raise ValueError("give either jitter or corners, as in perspective:jitter=0.1")

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.corners is not None

    @property
    def varies(self) -> bool:
        return self.corners is None

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.jitter is None:
            return self
        jitter = cast(float, self.jitter)  # drawn before, if it was a range
        corners = []
        for _ in range(2 * len(_CORNERS)):
            (uniform,) = rng.integers(2**53)
            corners.append(jitter * (2 * uniform / 2**53 - 1))
        return self.with_values({"jitter": None, "corners": tuple(corners)})

    def _warped(self, x: Tensor, filter: str) -> Tensor:
        height, width = x.shape[2:]
        build = _perspective_grid if is_tracked(self.corners) else _kept_perspective_grid
        grid = build(self._corners, height, width)

        def bend(row: Tensor) -> Tensor:
            return sample(row, grid, filter, self.edge)

        return row_by_row(bend, x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.corners is None:
            raise ValueError("its corners are not drawn yet; use .sample(shape, generator)")
        return super().visible(shape, seen)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        *_, height, width = shape
        return move_by(_perspective_matrix(self._corners, height, width), points)

    @property
    def _corners(self) -> tuple[float, ...]:
        return cast(tuple[float, ...], self.corners)  # drawn before, and stored as a tuple


def _perspective_matrix(moves: tuple[float, ...], height: int, width: int) -> Tensor:
    """The homography from (x, y, 1) of an image to that of the result, in pixels."""
    sides = torch.tensor([width, height], dtype=torch.float64, device="cpu")
    corners = torch.tensor(_CORNERS, dtype=torch.float64, device="cpu")
    shares = cast(Tensor, tensor_of(moves, corners))
    moved = corners + shares.view(4, 2)
    return homography(corners * sides, moved * sides)


def _perspective_grid(moves: tuple[float, ...], height: int, width: int) -> Tensor:
    return _grid(_perspective_matrix(moves, height, width), height, width)


_kept_perspective_grid = cached_constant(maxsize=8)(_perspective_grid)


def _as_tensor(value: float) -> Tensor:
    """A parameter as a tensor of one number in float64, with its gradient if it has one."""
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    number = tensor_of(value, like)
    return number if isinstance(number, Tensor) else like.new_tensor(number)


def move_by(matrix: Tensor, points: Tensor) -> Tensor:
    """Points [..., (x, y)] moved by a homography [3, 3]."""
    place = matrix.to(points)
    moved = points @ place[:, :2].mT + place[:, 2]
    return moved[..., :2] / moved[..., 2:]


def _grid(forth: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of the result lies in the image, from -1 to 1, [height, width, (x, y)].

    forth: the homography [3, 3] from (x, y, 1) of the image to that of the result, in pixels from
    the upper left corner; the centre of the first pixel is (0.5, 0.5).
    """
    rows = torch.arange(height, dtype=torch.float64, device="cpu")
    columns = torch.arange(width, dtype=torch.float64, device="cpu")
    x_and_y = torch.meshgrid(columns + 0.5, rows + 0.5, indexing="xy")
    centres = torch.stack(x_and_y, -1)
    back = torch.linalg.inv(forth)
    sources = centres @ back[:, :2].mT + back[:, 2]
    positions, depth = sources.split([2, 1], -1)
    is_in_front = depth > 1e-9
    safe_depth = torch.where(is_in_front, depth, 1.0)
    sides = back.new_tensor([width, height])
    shares = positions / safe_depth / sides
    grid = torch.where(is_in_front, 2 * shares - 1, _OUTSIDE)
    return grid.clamp(-_OUTSIDE, _OUTSIDE)


def sample(x: Tensor, grid: Tensor, filter: str, edge: str) -> Tensor:
    """Images [B, C, H, W] interpolated in float64 at the positions of a grid [H, W, (x, y)]."""
    batch = x.shape[0]  # not len(x), which torch.export would hold fixed
    positions = grid.to(x.device).expand(batch, -1, -1, -1)
    sampled = F.grid_sample(x.double(), positions, filter, EDGES[edge], align_corners=False)
    return sampled.to(x)
