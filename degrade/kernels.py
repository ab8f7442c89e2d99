"""Kernels of blur with a name: Gaussian, plateau, motion, defocus, trail, disc, line."""

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
_SMALL_DISC = 8  # pixels: up to this radius, a disc lies in a square of 17 pixels
_DIAMOND = 3  # pixels from the centre of a line, counted along rows and columns
_CUT = 4  # standard deviations after which a kernel without a side ends

Value = float | Tensor  # a parameter: a tensor of one number where its gradient is asked for


class Form(NamedTuple):
    """The parameters of a named kernel, as `Blur` describes them."""

    size: Value
    across: Value
    angle: Value
    beta: Value
    side: int | None


Formula = Callable[[Form], Tensor]  # → kernel [k, k]


# Gaussian and plateau ----------------------------------------------------------------------------


def _oriented_gaussian(form: Form) -> Tensor:
    """exp(-q^β / 2), scaled to sum 1."""
    power = _elliptic_power(form)
    bell = torch.exp(-power / 2)
    return bell / bell.sum()


def _plateau(form: Form) -> Tensor:
    """1 / (1 + q^β), scaled to sum 1."""
    power = _elliptic_power(form)
    flat_top = 1 / (1 + power)
    return flat_top / flat_top.sum()


def _elliptic_power(form: Form) -> Tensor:
    """q^β with q = (u / size)² + (v / across)²: u along the angle, v across it."""
    x, y = _coordinates(_whole_side(form))
    cosine, sine = _direction(form.angle)
    u = x * cosine - y * sine
    v = x * sine + y * cosine
    along_share = u / at_least(form.size, _THINNEST)
    across_share = v / at_least(form.across, _THINNEST)
    q = along_share.square() + across_share.square()
    is_centre = q.detach() == 0  # where the derivative of a power may be infinite
    safe_q = torch.where(is_centre, 1.0, q)
    power = safe_q**form.beta
    return torch.where(is_centre, 0.0, power)


def _coordinates(side: int) -> tuple[Tensor, Tensor]:
    """x [1, side] and y [side, 1] of the pixels, from the centre; y grows downwards."""
    pixels = torch.arange(side, dtype=torch.float64)
    position = pixels - side // 2
    return position[None, :], position[:, None]


def _whole_side(form: Form) -> int:
    """The side that was given, or the one that ends at four standard deviations."""
    if form.side is not None:
        return form.side
    widest = max(_plain(form.size), _plain(form.across))
    return _side(widest)


def _side(sigma: float) -> int:
    """The side of a kernel that ends at four standard deviations."""
    reach = int(_CUT * sigma + 0.5)
    return 2 * reach + 1


@cached_constant(maxsize=16)
def _round_gaussian(sigma: float) -> Tensor:
    """The ordinary Gaussian, which ends at four standard deviations."""
    from kornia.filters import get_gaussian_kernel2d

    side = _side(sigma)
    if side == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    sigmas = torch.tensor([[sigma, sigma]], dtype=torch.float64)
    kernel: Tensor = get_gaussian_kernel2d((side, side), sigmas)
    return kernel[0]


# Motion and defocus ------------------------------------------------------------------------------


def _motion(form: Form) -> Tensor:
    """A straight line of length `size`, one pixel thick."""
    to_the_right, up = _direction(form.angle)
    ones = torch.ones(1, dtype=torch.float64)
    direction = torch.cat([ones * to_the_right, ones * -up])
    end = direction * (form.size - 1) / 2
    return _near(end, 0.5)


def _defocus(form: Form) -> Tensor:
    """A disc with the radius `size`."""
    centre = torch.zeros(2, dtype=torch.float64)
    return _near(centre, form.size)


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


# The kernels of ImageNet-C ------------------------------------------------------------------------


def _trail(form: Form) -> Tensor:
    """Half of a Gaussian along a line, each tap at the nearest pixel."""
    return _along_line(form, _whole_pixels)


def _trail_with_gradient(form: Form) -> Tensor:
    """The same; that it turns with the angle is taken from taps between pixels."""
    return _along_line(form, _whole_pixels_with_gradient)


def _along_line(form: Form, place: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Taps 0, 1, 2, … of a Gaussian, which lie that many pixels from the centre along the angle."""
    length = _trail_length(form)
    taps = torch.arange(length, dtype=torch.float64)
    shares = taps / at_least(form.size, _THINNEST)
    weights = torch.exp(-shares.square() / 2)
    to_the_right, up = _direction(form.angle)
    position = torch.arange(1 - length, length, dtype=torch.float64)
    across_columns = place(taps * to_the_right, position)
    across_rows = place(taps * -up, position)
    kernel = (across_rows * weights) @ across_columns.mT
    return kernel / kernel.sum()


def _whole_pixels(at: Tensor, position: Tensor) -> Tensor:
    """[pixels, taps]: 1 where a tap lies, with halves rounded up, as ImageMagick does it."""
    nearest = torch.floor(at + 0.5)
    is_there = position[:, None] == nearest
    return is_there.double()


def _whole_pixels_with_gradient(at: Tensor, position: Tensor) -> Tensor:
    """The same, with the gradient of the shares of a tap in the two pixels beside it."""
    distance = position[:, None] - at
    overlap = 1 - distance.abs()
    return declare(overlap.clamp(min=0), _whole_pixels(at, position))


def _trail_length(form: Form) -> int:
    """The number of taps that was given, or those within four standard deviations."""
    if form.side is not None:
        return form.side
    return int(_CUT * _plain(form.size) + 0.5) + 1


def _disc(form: Form) -> Tensor:
    """A disc of whole pixels, smoothed by a small Gaussian."""
    return _smoothed_disc(form, _whole_disc)


def _disc_with_gradient(form: Form) -> Tensor:
    """The same; that it grows with the radius is taken from pixels that lie partly in the disc."""
    return _smoothed_disc(form, _whole_disc_with_gradient)


def _smoothed_disc(form: Form, disc: Callable[[Tensor, Value], Tensor]) -> Tensor:
    radius = _plain(form.size)
    is_small = radius <= _SMALL_DISC
    reach = _SMALL_DISC if is_small else math.ceil(radius)
    side = 2 * reach + 1
    x, y = _coordinates(side)
    spread = disc(torch.hypot(x, y), form.size)
    smoothing = _smoothing(side, form.across, taps=1 if is_small else 2)
    return smoothing @ spread @ smoothing.mT


def _whole_disc(distance: Tensor, radius: Value) -> Tensor:
    inside = (distance <= _plain(radius)).double()
    return inside / inside.sum()


def _whole_disc_with_gradient(distance: Tensor, radius: Value) -> Tensor:
    inside = radius + 0.5 - distance
    shares = inside.clamp(0, 1)
    return declare(shares / shares.sum(), _whole_disc(distance, radius))


def _smoothing(side: int, sigma: Value, taps: int) -> Tensor:
    """The matrix of a Gaussian of 2·taps + 1 pixels on `side` pixels with mirrored edges."""
    offsets = torch.arange(-taps, taps + 1, dtype=torch.float64)
    shares = offsets / at_least(sigma, _THINNEST)
    weights = torch.exp(-shares.square() / 2)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    last = side - 1
    for offset, weight in zip(range(-taps, taps + 1), weights / weights.sum(), strict=True):
        pixels = torch.arange(side) + offset
        mirrored = last - (last - pixels.abs()).abs()
        shifted = torch.nn.functional.one_hot(mirrored, side)
        matrix = matrix + weight * shifted
    return matrix


# Line --------------------------------------------------------------------------------------------


def _line(form: Form) -> Tensor:
    """A Gaussian across a line, within the diamond of three pixels around the centre."""
    x, y = _coordinates(2 * _DIAMOND + 1)
    cosine, sine = _direction(form.angle)
    across = x * sine + y * cosine
    share = across / form.size
    profile = torch.exp(-share.square() / 2)
    is_inside = x.abs() + y.abs() <= _DIAMOND
    kernel = profile * is_inside
    return kernel / kernel.sum()


# Values ------------------------------------------------------------------------------------------


def _plain(value: Value) -> float:
    """The number alone, where it decides a size in whole pixels."""
    if isinstance(value, Tensor):
        return float(value.detach())
    return value


def _direction(angle: Value) -> tuple[Value, Value]:
    """Cosine and sine of an angle in degrees."""
    if isinstance(angle, Tensor):
        turn = torch.deg2rad(angle)
        return turn.cos(), turn.sin()
    turn_of_number = math.radians(angle)
    return math.cos(turn_of_number), math.sin(turn_of_number)


@cached_constant(maxsize=64)
def _built(
    formula: Formula, size: float, across: float, angle: float, beta: float, side: int | None
) -> Tensor:
    # torch.compile takes no NamedTuple as the argument of a constant
    form = Form(size, across, angle, beta, side)
    return formula(form)


def _cached(formula: Formula, form: Form) -> Tensor:
    """A kernel by its formula, from plain numbers."""
    return _built(
        formula,
        _plain(form.size),
        _plain(form.across),
        _plain(form.angle),
        _plain(form.beta),
        form.side,
    )


def _cached_gaussian(form: Form) -> Tensor:
    """The Gaussian of plain numbers; kornia's where it is round and has no side."""
    is_round = form.across == form.size and form.beta == 1
    if is_round and form.side is None:
        return _round_gaussian(_plain(form.size))
    return _cached(_oriented_gaussian, form)


def with_gradient(
    exact: Tensor, formula: Callable[..., Tensor], numbers: Sequence[float]
) -> Tensor:
    """`exact`, made of plain numbers, with the gradient of formula(*numbers)."""
    if not is_tracked(tuple(numbers)):
        return exact
    values = [tensor_of(number, exact) for number in numbers]
    with ordinary_tensors():
        by_formula = formula(*values)
    return declare(by_formula, exact)


def _half(side: int) -> int:
    return side // 2


class NamedKernel(NamedTuple):
    """What `Blur` needs to know of a kernel with a name."""

    smallest: float  # size
    largest: float
    formula: Formula
    of_plain_numbers: Formula  # the same kernel, cached
    takes: tuple[str, ...] = ()  # the parameters besides `size`
    reach_of: Callable[[int], int] = _half  # the reach in pixels of a side
    least_reach: int = 0  # in pixels, however small the size is

    def draw(
        self, size: float, across: float, angle: float, beta: float, side: int | None
    ) -> Tensor:
        """The kernel [k, k], with the gradients of its parameters."""
        # a cache must not keep a graph of autograd
        plain = Form(float(size), float(across), float(angle), float(beta), side)
        exact = self.of_plain_numbers(plain)

        def formula(size: Value, across: Value, angle: Value, beta: Value) -> Tensor:
            return self.formula(Form(size, across, angle, beta, side))

        return with_gradient(exact, formula, [size, across, angle, beta])


_ORIENTED = ("across", "angle", "beta", "side")


def _all_but_one(side: int) -> int:
    return side - 1


KERNELS = {
    "gaussian": NamedKernel(0, 100, _oriented_gaussian, _cached_gaussian, _ORIENTED),
    "plateau": NamedKernel(0, 100, _plateau, partial(_cached, _plateau), _ORIENTED),
    "motion": NamedKernel(1, 1000, _motion, partial(_cached, _motion), ("angle",)),
    "defocus": NamedKernel(0, 500, _defocus, partial(_cached, _defocus)),
    "trail": NamedKernel(
        0, 100, _trail_with_gradient, partial(_cached, _trail), ("angle", "side"), _all_but_one
    ),
    "line": NamedKernel(
        0.05, 100, _line, partial(_cached, _line), ("angle",), least_reach=_DIAMOND
    ),
    "disc": NamedKernel(0, 100, _disc_with_gradient, partial(_cached, _disc), ("across",)),
}
