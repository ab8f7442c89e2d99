"""Kernels of blur with a name: Gaussian, plateau, motion, defocus."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .constants import cached_constant, ordinary_tensors
from .segment import distance_to_segment
from .surrogate import declare
from .tracked import at_least, is_tracked, tensor_of

_THINNEST = 1e-6  # pixels: a standard deviation that is zero for every purpose
_CUT = 4  # standard deviations after which a kernel without a side ends

Profile = Callable[[Tensor], Tensor]  # of a kernel: q^β → weight
Value = float | Tensor  # a parameter: a tensor of one number where its gradient is asked for


def _bell(q: Tensor) -> Tensor:
    return torch.exp(-q / 2)


def _flat_top(q: Tensor) -> Tensor:
    return 1 / (1 + q)


@cached_constant(maxsize=16)
def _plain_gaussian(sigma: float) -> Tensor:
    """A round Gaussian that ends at four standard deviations."""
    from kornia.filters import get_gaussian_kernel2d

    side = _side(sigma)
    if side == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    sigmas = torch.tensor([[sigma, sigma]], dtype=torch.float64)
    kernel: Tensor = get_gaussian_kernel2d((side, side), sigmas)
    return kernel[0]


def _side(sigma: float) -> int:
    """The side of a kernel that ends at four standard deviations."""
    return 2 * int(_CUT * sigma + 0.5) + 1


def _gaussian(size: float, across: float, angle: float, beta: float, side: int | None) -> Tensor:
    if side is None and across == size and beta == 1:
        return _plain_gaussian(size)
    return _cached(_oriented_gaussian, size, across, angle, beta, side)


def _oriented(
    profile: Profile, size: Value, across: Value, angle: Value, beta: Value, side: int | None
) -> Tensor:
    """profile(q^β) with q = (u / size)² + (v / across)²: u along the angle, v across it."""
    whole_side = _side(max(_plain(size), _plain(across))) if side is None else side
    pixels = torch.arange(whole_side, dtype=torch.float64)
    position = pixels - whole_side // 2
    x = position[None, :]
    y = position[:, None]  # rows grow downwards
    cosine, sine = _direction(angle)
    u = x * cosine - y * sine
    v = x * sine + y * cosine
    along_share = u / at_least(size, _THINNEST)
    across_share = v / at_least(across, _THINNEST)
    q = along_share.square() + across_share.square()
    is_centre = q.detach() == 0  # where the derivative of a power may be infinite
    power = torch.where(is_centre, 1.0, q) ** beta
    kernel = profile(torch.where(is_centre, 0.0, power))
    return kernel / kernel.sum()


_oriented_gaussian = partial(_oriented, _bell)
_plateau = partial(_oriented, _flat_top)


def _plain(value: Value) -> float:
    """The number alone, where it decides a size in whole pixels."""
    return float(value.detach()) if isinstance(value, Tensor) else value


def _direction(angle: Value) -> tuple[Value, Value]:
    """Cosine and sine of an angle in degrees."""
    if isinstance(angle, Tensor):
        turn = torch.deg2rad(angle)
        return turn.cos(), turn.sin()
    turn_of_number = math.radians(angle)
    return math.cos(turn_of_number), math.sin(turn_of_number)


def _motion(length: Value, across: Value, angle: Value, beta: Value, side: int | None) -> Tensor:
    to_the_right, up = _direction(angle)
    ones = torch.ones(1, dtype=torch.float64)
    direction = torch.cat([ones * to_the_right, ones * -up])
    end = direction * (length - 1) / 2
    return _near(end, 0.5)


def _defocus(radius: Value, across: Value, angle: Value, beta: Value, side: int | None) -> Tensor:
    centre = torch.zeros(2, dtype=torch.float64)
    return _near(centre, radius)


def _near(end: Tensor, radius: Value) -> Tensor:
    """A kernel: the share of each pixel within `radius` of the segment from -end to end."""
    components = end.detach().abs()
    farthest = float(components.max())
    reach = math.ceil(farthest + _plain(radius))
    position = torch.arange(-reach, reach + 1, dtype=torch.float64)
    coordinates = torch.meshgrid(position, position, indexing="xy")
    pixels = torch.stack(coordinates, -1)
    distance = distance_to_segment(pixels, -end, end)
    inside = radius + 0.5 - distance
    kernel = inside.clamp(0, 1)
    return kernel / kernel.sum()


Formula = Callable[..., Tensor]  # size, across, angle, beta, side → kernel [k, k]


@cached_constant(maxsize=64)
def _cached(
    formula: Formula, size: float, across: float, angle: float, beta: float, side: int | None
) -> Tensor:
    """A kernel by its formula, from plain numbers."""
    return formula(size, across, angle, beta, side)


def with_gradient(
    exact: Tensor, formula: Callable[..., Tensor], numbers: Sequence[float], side: int | None
) -> Tensor:
    """`exact`, made of plain numbers, with the gradient of formula(*numbers, side)."""
    if not is_tracked(tuple(numbers)):
        return exact
    values = [tensor_of(number, exact) for number in numbers]
    with ordinary_tensors():
        by_formula = formula(*values, side)
    return declare(by_formula, exact)


class NamedKernel(NamedTuple):
    """What `Blur` needs to know of a kernel with a name."""

    smallest: float  # size
    largest: float
    formula: Formula
    values: Callable[..., Tensor]  # the same kernel of plain numbers, which is kept
    oriented: bool = False  # has `across`, `beta` and `side`

    def draw(
        self, size: float, across: float, angle: float, beta: float, side: int | None
    ) -> Tensor:
        """The kernel [k, k], with the gradients of its parameters."""
        numbers = (size, across, angle, beta)
        plain = map(float, numbers)  # what is kept must not keep a graph of autograd
        exact = self.values(*plain, side)
        return with_gradient(exact, self.formula, numbers, side)


KERNELS = {
    "gaussian": NamedKernel(0, 100, _oriented_gaussian, _gaussian, oriented=True),
    "plateau": NamedKernel(0, 100, _plateau, partial(_cached, _plateau), oriented=True),
    "motion": NamedKernel(1, 1000, _motion, partial(_cached, _motion)),
    "defocus": NamedKernel(0, 500, _defocus, partial(_cached, _defocus)),
}
