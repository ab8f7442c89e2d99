"""Kernels of blur with a name: Gaussian, plateau, motion, defocus."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .constants import cached_constant
from .segment import distance_to_segment

_THINNEST = 1e-6  # pixels: a standard deviation that is zero for every purpose
_CUT = 4  # standard deviations after which a kernel without a side ends

Profile = Callable[[Tensor], Tensor]  # of a kernel: q^β → weight


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
    return _oriented(_bell, size, across, angle, beta, side)


@cached_constant(maxsize=16)
def _oriented(
    profile: Profile, size: float, across: float, angle: float, beta: float, side: int | None
) -> Tensor:
    """profile(q^β) with q = (u / size)² + (v / across)²: u along the angle, v across it."""
    whole_side = _side(max(size, across)) if side is None else side
    pixels = torch.arange(whole_side, dtype=torch.float64)
    position = pixels - whole_side // 2
    x = position[None, :]
    y = position[:, None]  # rows grow downwards
    turn = math.radians(angle)
    cosine = math.cos(turn)
    sine = math.sin(turn)
    u = x * cosine - y * sine
    v = x * sine + y * cosine
    along_share = u / max(size, _THINNEST)
    across_share = v / max(across, _THINNEST)
    q = along_share.square() + across_share.square()
    kernel = profile(q**beta)
    return kernel / kernel.sum()


@cached_constant(maxsize=16)
def _motion(length: float, across: float, angle: float, beta: float, side: int | None) -> Tensor:
    turn = math.radians(angle)
    to_the_right = math.cos(turn)
    down = -math.sin(turn)
    direction = torch.tensor([to_the_right, down], dtype=torch.float64)
    end = direction * (length - 1) / 2
    return _near(end, 0.5)


@cached_constant(maxsize=16)
def _defocus(radius: float, across: float, angle: float, beta: float, side: int | None) -> Tensor:
    centre = torch.zeros(2, dtype=torch.float64)
    return _near(centre, radius)


def _near(end: Tensor, radius: float) -> Tensor:
    """A kernel: the share of each pixel within `radius` of the segment from -end to end."""
    components = end.abs()
    farthest = float(components.max())
    reach = math.ceil(farthest + radius)
    position = torch.arange(-reach, reach + 1, dtype=torch.float64)
    coordinates = torch.meshgrid(position, position, indexing="xy")
    pixels = torch.stack(coordinates, -1)
    distance = distance_to_segment(pixels, -end, end)
    inside = radius + 0.5 - distance
    kernel = inside.clamp(0, 1)
    return kernel / kernel.sum()


class NamedKernel(NamedTuple):
    """What `Blur` needs to know of a kernel with a name."""

    smallest: float  # size
    largest: float
    draw: Callable[..., Tensor]  # size, across, angle, beta, side → kernel [k, k]
    oriented: bool = False  # has `across`, `beta` and `side`


KERNELS = {
    "gaussian": NamedKernel(0, 100, _gaussian, oriented=True),
    "plateau": NamedKernel(0, 100, partial(_oriented, _flat_top), oriented=True),
    "motion": NamedKernel(1, 1000, _motion),
    "defocus": NamedKernel(0, 500, _defocus),
}
