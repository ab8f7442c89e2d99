"""Blur by a hand that shakes the camera while the shutter is open."""

from __future__ import annotations

import cmath
import math
from functools import partial

import torch
from torch import Tensor

from .constants import cached_constant
from .convolution import EDGES, convolve
from .kernels import Value, with_gradient
from .operator import Shape
from .params import Integers, Number, decided, number, option, random_seed
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .seeded import Draws, Unknown

_STEPS = 1999  # of the path
_CALM = 1e-100  # an anxiety below it counts as 0, since a speed would be too small for a float
_MARGIN = 7  # pixels that the kernel is wider than the path is long


@register("shake", exact="DeblurGAN's code", gradient="adjoint")
class Shake(Unknown):
    """Blur with a random path of the camera, as a photo out of a shaking hand is blurred.

    y = k ∗ x, where k has at each pixel the share of time that the path spends there, distributed
    bilinearly, and the sum 1. The path has 1999 steps of equal length. At each one the velocity v
    changes by anxiety·(a·n - c·p)·(length of a step) and is scaled back, where n is a complex
    normal number and p the position. With the probability anxiety·s a jolt is added, which turns v
    back: -2·v, turned by up to half a radian. The numbers a, c and s are drawn once, below 10, 0.7
    and 0.2, and so is the first direction. The path begins at a pixel, and its middle is within two
    pixels of the kernel's. The adjoint correlates y with k.

    length: of the path in pixels, 1 to 500.
    anxiety: 0 to 1; 0 is a straight line.
    exposure: the share of the path until the shutter closes, 1e-6 to 1.
    edge: "mirror"; "nearest", which repeats the pixels at the edge; or "black".
    seed: fixes the path; `sample` draws it, and `approx` removes it.

    Output: the same shape. Gradient: its own, the adjoint; that of `exposure` is exact, and 0 at 1.
    Source: Boracchi & Foi 2012, by the code of DeblurGAN (Kupyn et al. 2018). That draws anxieties
    from 0.001 to 0.01 for a length of 60, and exposures of 0.001, 0.1, 0.5 and 1; its edge is
    black, and it stretches the contrast of the result, which is left out.
    """

    length: Number = number(low=1, high=500, per_image=False)
    anxiety: Number = number(default=0.005, low=0, high=1, per_image=False)
    exposure: Number = number(default=1, low=1e-6, high=1, per_image=False, learnable=True)
    edge: str = option(*EDGES, default="mirror")
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        length = decided(self.length)
        anxiety = decided(self.anxiety)
        exposure = decided(self.exposure)

        def blur(row: Tensor, seed: int) -> Tensor:
            exact = _kernel(seed, length, anxiety, float(exposure))
            path = _path(seed, length, anxiety)
            formula = partial(_time_at_pixels, path, _side(length))
            kernel = with_gradient(exact, formula, [exposure])
            return convolve(row, kernel, self.edge)

        return row_by_row(blur, x, seed=self.drawn_seed)

    def reach(self, shape: Shape) -> float:
        if isinstance(self.length, (int, float)):
            return _side(self.length) // 2
        return math.inf


def _side(length: float) -> int:
    """The odd side of a kernel that holds a path of this length wherever it goes."""
    half = math.ceil((length + _MARGIN) / 2)
    return 2 * half + 1


@cached_constant(maxsize=16)
def _kernel(seed: int, length: float, anxiety: float, exposure: float) -> Tensor:
    path = _path(seed, length, anxiety)
    return _time_at_pixels(path, _side(length), exposure)


def _time_at_pixels(path: Tensor, side: int, exposure: Value) -> Tensor:
    """The kernel [side, side] of a path until the shutter closes, with sum 1."""
    column, row = path
    columns = _shares(column, side)
    rows = _shares(row, side)
    of_steps = rows * _time_of_steps(exposure)
    kernel = of_steps @ columns.mT
    normalised: Tensor = kernel / kernel.sum()
    return normalised


def _time_of_steps(exposure: Value) -> Tensor:
    """The share of each step that is over when the shutter closes."""
    steps = torch.arange(_STEPS, dtype=torch.float64)
    time = (_STEPS + 1) * exposure - steps
    is_over = (time >= 1).double()
    is_running = (time >= 0) & (time < 1)  # at 0 too, so that the gradient is never lost
    return torch.where(is_running, time, is_over)


def _shares(position: Tensor, side: int) -> Tensor:
    """[side, steps]: how much of each step falls on a pixel, linear between two pixels."""
    pixels = torch.arange(side, dtype=torch.float64)
    distance = pixels[:, None] - position
    overlap = 1 - distance.abs()
    return overlap.clamp(min=0)


@cached_constant(maxsize=16)
def _path(seed: int, length: float, anxiety: float) -> Tensor:
    """Columns and rows [2, steps] of a path within its kernel, after each step."""
    draws = Draws(seed)
    positions = _positions(draws, length, anxiety)
    complex_numbers = torch.tensor(positions, dtype=torch.complex128)
    coordinates = torch.view_as_real(complex_numbers)
    from_corner = coordinates - coordinates.amin(0)
    to_whole_pixel = from_corner[0].remainder(1)
    at_pixel = from_corner - to_whole_pixel + 1
    room = _side(length) - at_pixel.amax(0)
    margin = (room / 2).ceil()
    after_each_step = (at_pixel + margin)[1:]
    return after_each_step.mT.contiguous()


def _positions(draws: Draws, length: float, anxiety: float) -> list[complex]:
    """Where a path begins, and where it is after each step; real is right, imaginary is down."""
    pull, jolts, tremor, turn = draws.uniform(4).tolist()
    chances = draws.uniform(_STEPS).tolist()
    turns = draws.uniform(_STEPS).tolist()
    noise = torch.view_as_complex(draws.normal(_STEPS, 2)).tolist()
    step = length / _STEPS
    speed = anxiety if anxiety > _CALM else step
    velocity = cmath.rect(speed, 2 * math.pi * turn)
    position = 0j
    positions = [position]
    for chance, turn_back, push in zip(chances, turns, noise, strict=True):
        change = 10 * tremor * push - 0.7 * pull * position
        if chance < 0.2 * jolts * anxiety:
            velocity += _jolt(velocity, turn_back)
        velocity += anxiety * change * step
        velocity *= step / abs(velocity)
        position += velocity
        positions.append(position)
    return positions


def _jolt(velocity: complex, share: float) -> complex:
    """What turns a path back: twice the velocity, at 180° less or more half a radian."""
    angle = math.pi + share - 0.5
    return 2 * velocity * cmath.rect(1, angle)
