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

Values = tuple[float, ...]
Sides = tuple[int, int]  # height and width

FILTERS = ("bilinear", "bicubic")
EDGES = {"black": "zeros", "nearest": "border"}  # names here, and those of torch's grid_sample
_OUTSIDE = 1e4  # sides of the image: the position of what lies behind the viewer
_MOST_SHEAR = 80  # degrees
_MOST_JITTER = 0.24  # of a side: four corners that move by less always have an inner side
_LEAST_TURN = 1e-3  # the area of the parallelogram at a corner, of an image of area 1
_FARTHEST = 2**16  # pixels that an image may move
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
        batch, _, *sides = shape
        if seen is None:
            seen = torch.ones(1, 1, *sides, dtype=torch.float32, device="cpu")
        of_each_image = seen.expand(batch, -1, -1, -1)
        warped = self._warped(of_each_image, "bilinear")
        return warped.clamp(0, 1)


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
    dy: Numbers = number(default=0, low=-_FARTHEST, high=_FARTHEST, learnable=True)
    dx: Numbers = number(default=0, low=-_FARTHEST, high=_FARTHEST, learnable=True)
    scale: Numbers = number(default=1, low=0.05, high=20, learnable=True)
    shear: Numbers = number(default=0, low=-_MOST_SHEAR, high=_MOST_SHEAR, learnable=True)
    filter: str = option(*FILTERS, default="bilinear")
    edge: str = option(*EDGES, default="black")
    linear = True

    @property
    def _numbers(self) -> dict[str, Numbers]:
        names = ("angle", "dy", "dx", "scale", "shear")
        return {name: getattr(self, name) for name in names}

    def _warped(self, x: Tensor, filter: str) -> Tensor:
        sides = _sides(x.shape)

        def turn(row: Tensor, *numbers: float) -> Tensor:
            grid = affine_grid(numbers, sides)
            return sample(row, grid, filter, self.edge)

        return row_by_row(turn, x, **self._numbers)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        values = self._numbers.values()
        numbers = tuple(map(single, values))
        matrix = _affine_matrix(numbers, _sides(shape))
        return move_by(matrix, points)


def _sides(shape: Shape) -> Sides:
    *_, height, width = shape
    return height, width


def _affine_matrix(numbers: Values, sides: Sides) -> Tensor:
    """The 3 × 3 matrix that takes (x, y, 1) of an image to that of the result, in pixels.

    numbers: angle, dy, dx, scale and shear.
    """
    angle, dy, dx, scale, shear = map(_as_tensor, numbers)
    radians = torch.deg2rad(angle)
    cosine = scale * torch.cos(radians)
    sine = scale * torch.sin(radians)
    slant = torch.tan(torch.deg2rad(shear))
    # the rotation and scale (a, b; -b, a) after the shear (1, slant; 0, 1)
    a, b = cosine, cosine * slant + sine
    c, d = -sine, cosine - sine * slant
    height, width = sides
    x = width / 2  # of the centre, which stays where it is, but for dx and dy
    y = height / 2
    shift_x = x + dx - a * x - b * y
    shift_y = y + dy - c * x - d * y
    zero = torch.zeros_like(shift_x)
    one = torch.ones_like(shift_x)
    entries = [a, b, shift_x, c, d, shift_y, zero, zero, one]
    return torch.stack(entries).view(3, 3)


def affine_grid(numbers: Values, sides: Sides) -> Tensor:
    """Where each pixel of an affine map's result lies in the image, for `sample`.

    numbers: angle, dy, dx, scale and shear, as in `Affine`.
    """
    if is_tracked(numbers):
        return _affine_grid(numbers, sides)
    return _kept_affine_grid(numbers, sides)


def _affine_grid(numbers: Values, sides: Sides) -> Tensor:
    matrix = _affine_matrix(numbers, sides)
    return _grid(matrix, sides)


_kept_affine_grid = cached_constant(maxsize=8)(_affine_grid)  # a solver asks for it at every step


def _check_corners(given: object) -> Values:
    """Eight numbers whose four corners are those of a convex picture."""
    corners = check_numbers("corners", tracked(given), -0.5, 0.5)
    if not isinstance(corners, tuple) or len(corners) != 8:
        raise ValueError(f"corners={show(given)} must be eight numbers dx|dy|…, a pair per corner")
    if not _is_convex(corners):
        raise ValueError(f"corners={show(given)} fold the image over; move them less")
    return corners


def _is_convex(moves: Values) -> bool:
    """Whether each corner of the image still turns the same way after these moves."""
    points = _moved_corners(moves)
    to_next = points.roll(-1, 0) - points
    to_last = points.roll(1, 0) - points
    next_x, next_y = to_next.unbind(1)
    last_x, last_y = to_last.unbind(1)
    turns = next_x * last_y - next_y * last_x
    return bool((turns >= _LEAST_TURN).all())


def _moved_corners(moves: Values) -> Tensor:
    """Where the corners [4, (x, y)] of an image with sides of 1 move, with gradients."""
    corners = _constant(_CORNERS)
    shares = cast(Tensor, tensor_of(moves, corners))
    return corners + shares.view(4, 2)


def _constant(values: Sequence | float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


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
            from_centre = 2 * rng.share() - 1
            corners.append(jitter * from_centre)
        return self.with_values({"jitter": None, "corners": tuple(corners)})

    def _warped(self, x: Tensor, filter: str) -> Tensor:
        build = _perspective_grid if is_tracked(self.corners) else _kept_perspective_grid
        grid = build(self._corners, _sides(x.shape))

        def bend(row: Tensor) -> Tensor:
            return sample(row, grid, filter, self.edge)

        return row_by_row(bend, x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.corners is None:
            raise ValueError("its corners are not drawn yet; use .sample(shape, generator)")
        return super().visible(shape, seen)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        matrix = _perspective_matrix(self._corners, _sides(shape))
        return move_by(matrix, points)

    @property
    def _corners(self) -> Values:
        return cast(Values, self.corners)  # drawn before, and stored as a tuple


def _perspective_matrix(moves: Values, sides: Sides) -> Tensor:
    """The homography from (x, y, 1) of an image to that of the result, in pixels."""
    height, width = sides
    width_and_height = _constant([width, height])
    corners = _constant(_CORNERS)
    moved = _moved_corners(moves)
    return homography(corners * width_and_height, moved * width_and_height)


def _perspective_grid(moves: Values, sides: Sides) -> Tensor:
    matrix = _perspective_matrix(moves, sides)
    return _grid(matrix, sides)


_kept_perspective_grid = cached_constant(maxsize=8)(_perspective_grid)


def _as_tensor(value: float) -> Tensor:
    """A parameter as a tensor of one number in float64, with its gradient if it has one."""
    like = _constant([])
    number = tensor_of(value, like)
    if isinstance(number, Tensor):
        return number
    return _constant(number)


def move_by(matrix: Tensor, points: Tensor) -> Tensor:
    """Points [..., (x, y)] moved by a homography [3, 3]."""
    moved = _homogeneous(matrix.to(points), points)
    return moved[..., :2] / moved[..., 2:]


def _homogeneous(matrix: Tensor, points: Tensor) -> Tensor:
    """The product of a matrix [3, 3] and (x, y, 1) of each point."""
    of_x_and_y = matrix[:, :2]
    of_one = matrix[:, 2]
    return points @ of_x_and_y.mT + of_one


def _grid(forth: Tensor, sides: Sides) -> Tensor:
    """Where each pixel of the result lies in the image, from -1 to 1, [height, width, (x, y)].

    forth: the homography [3, 3] from (x, y, 1) of the image to that of the result, in pixels from
    the upper left corner; the centre of the first pixel is (0.5, 0.5).
    """
    height, width = sides
    back = torch.linalg.inv(forth)
    sources = _homogeneous(back, _centres(sides))
    positions, depth = sources.split([2, 1], -1)
    is_in_front = depth > 1e-9
    safe_depth = torch.where(is_in_front, depth, 1.0)
    width_and_height = back.new_tensor([width, height])
    shares = positions / safe_depth / width_and_height
    grid = torch.where(is_in_front, 2 * shares - 1, _OUTSIDE)
    return grid.clamp(-_OUTSIDE, _OUTSIDE)


def _centres(sides: Sides) -> Tensor:
    """The centres of pixels, [height, width, (x, y)]."""
    rows, columns = map(_centres_along, sides)
    x_and_y = torch.meshgrid(columns, rows, indexing="xy")
    return torch.stack(x_and_y, -1)


def _centres_along(side: int) -> Tensor:
    pixels = torch.arange(side, dtype=torch.float64, device="cpu")
    return pixels + 0.5


def sample(x: Tensor, grid: Tensor, filter: str, edge: str) -> Tensor:
    """Images [B, C, H, W] interpolated in float64 at the positions of a grid [H, W, (x, y)]."""
    batch = x.shape[0]  # not len(x), which torch.export would hold fixed
    shared = grid.to(x.device)
    positions = shared.expand(batch, -1, -1, -1)
    beyond = EDGES[edge]
    sampled = F.grid_sample(x.double(), positions, filter, beyond, align_corners=False)
    return sampled.to(x)
