"""Blur along a bent path, with the kernels that DPS, DiffPIR and DAPS are measured on."""

from __future__ import annotations

import math

import numpy
import torch
from torch import Tensor

from .constants import cached_constant
from .convolution import EDGES, convolve
from .operator import Shape
from .params import Integers, Number, decided, integer, number, option, random_seed
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .seeded import Seeded

_SLACK = 0.1  # keeps the steps of intensity 1, and the turns of intensity 0, above 0


@register("motionpath", exact="motionblur's code", gradient="adjoint")
class MotionPath(Seeded):
    """Blur along a random path of straight pieces, by a kernel that is drawn as a picture.

    Every pixel becomes the mean of its neighbours, weighted by a kernel k. The path of k is drawn
    twice as large: its length is 0.75·d·(U(0, 1) + U(0, intensity²)), with d the diagonal; a piece
    has the length d·(1.1 - intensity)·Beta(1, 30) and its own direction, of which the largest is
    U(0, π·intensity) and the sign changes with the probability Beta(2, 20). The centre of the
    points lies in the middle, and the whole is turned by U(0, π). Pillow draws it as a line,
    blurs it, and reduces it to 8 bits with its Lanczos filter; k is this picture over its sum. The
    adjoint weighs by k turned by 180°.

    size: side of the kernel in pixels, odd, 55 to 255; their line has no width below 54.
    intensity: 0 to 1; 0 is nearly a straight line, 1 turns often.
    edge: "mirror"; "nearest", which repeats the pixels at the edge; or "black".
    seed: fixes the path, as `numpy.random.seed` does for their code; `sample` draws it.

    Output: the same shape. Gradient: its own, the adjoint.
    Source: the package motionblur (Borodenko), as DPS (Chung et al. 2023) applies it.
    """

    size: int = integer(default=61, low=55, high=255, odd=True, per_image=False)
    intensity: Number = number(default=0.5, low=0, high=1, per_image=False)
    edge: str = option(*EDGES, default="mirror")
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        intensity = float(decided(self.intensity))

        def blur(row: Tensor, seed: int) -> Tensor:
            kernel = _kernel(seed, self.size, intensity)
            turned = kernel.flip(0, 1)  # a mean weighted by k is a convolution with k turned
            return convolve(row, turned, self.edge)

        return row_by_row(blur, x, seed=self.drawn_seed)

    def reach(self, shape: Shape) -> float:
        return self.size // 2


@cached_constant(maxsize=16)
def _kernel(seed: int, size: int, intensity: float) -> Tensor:
    """The kernel [size, size] of a seed, with sum 1."""
    from PIL import Image, ImageDraw, ImageFilter

    side = 2 * size
    diagonal = math.hypot(side, side)
    path = _path(numpy.random.RandomState(seed), side, diagonal, intensity)
    picture = Image.new("RGB", (side, side))
    ImageDraw.Draw(picture).line(path, width=int(diagonal / 150))
    blurred = picture.filter(ImageFilter.GaussianBlur(int(diagonal * 0.01)))
    reduced = blurred.resize((size, size), Image.Resampling.LANCZOS)
    levels = numpy.asarray(reduced.convert("L"), numpy.float64)
    return torch.from_numpy(levels / levels.sum())


def _path(
    draws: numpy.random.RandomState, side: int, diagonal: float, intensity: float
) -> list[tuple[float, float]]:
    """The corners of a path on a square of this side, to the right and down."""
    lengths = _lengths(draws, diagonal, intensity)
    angles = _angles(draws, len(lengths), intensity)
    points = numpy.cumsum(lengths * numpy.exp(1j * angles))
    points -= sum(points) / len(points)
    points *= numpy.exp(1j * draws.uniform(0, math.pi))
    points += (side + 1j * side) / 2
    return [(point.real, point.imag) for point in points]


def _lengths(draws: numpy.random.RandomState, diagonal: float, intensity: float) -> numpy.ndarray:
    """The lengths of the pieces; together they are about as long as the path."""
    whole = 0.75 * diagonal * (draws.uniform() + draws.uniform(0, intensity**2))
    lengths: list[float] = []
    while sum(lengths) < whole:
        length = draws.beta(1, 30) * (1 - intensity + _SLACK) * diagonal
        if length < whole:
            lengths.append(length)
    return numpy.asarray(lengths)


def _angles(draws: numpy.random.RandomState, count: int, intensity: float) -> numpy.ndarray:
    """The direction of each piece in radians."""
    largest = draws.uniform(0, intensity * math.pi)
    chance_to_turn = draws.beta(2, 20)
    angles = [draws.uniform(-largest, largest)]
    while len(angles) < count:
        size = draws.triangular(0, intensity * largest, largest + _SLACK)
        sign = numpy.sign(angles[-1])
        if draws.uniform() < chance_to_turn:
            sign = -sign
        angles.append(size * sign)
    return numpy.asarray(angles)
