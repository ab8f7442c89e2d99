"""Weather in front of an image: fog, snow and frost.

Source: ImageNet-C (Hendrycks & Dietterich 2019), by its published code. Values may leave [0, 1]; it
clamps them afterwards.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .constants import cached_constant
from .convolution import convolve
from .displacement import zoom
from .filter import Gray
from .held import Held
from .images import check_channels
from .kernels import KERNELS
from .operator import Operator, Shape
from .params import (
    Integer,
    Integers,
    Number,
    decided,
    integer,
    number,
    random_seed,
    tensor,
    tensor_of,
)
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .seeded import Draws, Unknown
from .surrogate import declare, with_gradient_of

_STEEPEST = 100.0  # of the heights that a fog begins with


@register("fog", exact="ImageNet-C's code", gradient="its own, but for the largest value")
class Fog(Unknown):
    """Add clouds, and darken so that the largest value of the image is kept.

    y = (x + amount·p)·m / (m + amount), where m is the largest value of the image, and p a plasma
    fractal from 0 to 1: a square with the next power of two as its side is divided again and again,
    and each new point gets the mean of four, plus a uniform number that shrinks by `decay` at each
    step. Gradient: m / (m + amount), in which m counts as constant; that of the amount is exact.

    amount: 0 to 100.
    decay: 1 to 100; large ones give smooth clouds.
    seed: fixes the clouds; `sample` draws it, and `approx` removes it.
    """

    amount: Number = number(low=0, high=100, per_image=False, learnable=True)
    decay: Number = number(default=2, low=1, high=100, per_image=False)
    seed: Integers | None = random_seed(default=None)
    linear = False

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        amount = decided(self.amount)
        decay = decided(self.decay)

        def cover(row: Tensor, seed: int) -> Tensor:
            height, width = row.shape[2:]
            side = _power_of_two(max(height, width))
            clouds = plasma(seed, decay, side)[:height, :width]
            brightest = row.detach().amax((1, 2, 3), keepdim=True).clamp(min=0)
            added = tensor_of(amount, row)
            total = brightest + added
            is_black = total == 0
            share = torch.where(is_black, 1.0, brightest / torch.where(is_black, 1.0, total))
            return (row + added * clouds.to(row)) * share

        return row_by_row(cover, x, seed=self.drawn_seed)


def _power_of_two(n: int) -> int:
    """The next power of two, at least 2."""
    return max(2, 1 << (n - 1).bit_length())


@cached_constant(maxsize=8)
def plasma(seed: int, decay: float, side: int) -> Tensor:
    """A plasma fractal [side, side] from 0 to 1, by the diamond-square algorithm.

    At each step the middles of squares are drawn first, then those of their upper, then of their
    left sides.
    """
    draws = Draws(seed)
    heights = torch.zeros(side, side, dtype=torch.float64)
    step = side
    steepness = _STEEPEST
    while step >= 2:
        half = step // 2

        def mean_and_noise(total: Tensor, steepness: float = steepness) -> Tensor:
            noise = draws.uniform(*total.shape, low=-steepness, high=steepness)
            return total / 4 + steepness * noise

        corners = heights[::step, ::step]
        of_two = corners + corners.roll(-1, 0)
        middles = mean_and_noise(of_two + of_two.roll(-1, 1))
        heights[half::step, half::step] = middles
        beside = middles + middles.roll(1, 0) + corners + corners.roll(-1, 1)
        heights[::step, half::step] = mean_and_noise(beside)
        beside = middles + middles.roll(1, 1) + corners + corners.roll(-1, 0)
        heights[half::step, ::step] = mean_and_noise(beside)
        step = half
        steepness /= decay
    heights = heights - heights.min()
    return heights / heights.max()


@register("snow", exact="ImageNet-C's code", gradient="the kept share")
class Snow(Unknown):
    """Bleach an image, and let flakes fall over it.

    y = keep·x + (1 - keep)·max(x, 1.5·luma + 0.5) + s + s turned by 180°. The flakes s are a field
    of N(mean, deviation²), enlarged by `zoom`, set to 0 below the threshold, and blurred along a
    line at a drawn angle, from 45° to the left of straight down to 45° to its right; they have 8
    bits. Gradient: `keep`; that of `keep` itself is exact.

    mean, deviation: of the field, 0 to 1.
    zoom: 1 to 10.
    threshold: 0 to 1.
    length: of the blur in pixels, odd, 1 to 501.
    size: standard deviation of the blur in pixels, 0 to 100.
    keep: 0 to 1.
    seed: fixes the flakes; `sample` draws it, and `approx` removes it.
    """

    mean: Number = number(low=0, high=1, per_image=False)
    deviation: Number = number(default=0.3, low=0, high=1, per_image=False)
    zoom: Number = number(default=3, low=1, high=10, per_image=False)
    threshold: Number = number(default=0.5, low=0, high=1, per_image=False)
    length: Integer = integer(default=21, low=1, high=501, odd=True, per_image=False)
    size: Number = number(default=4, low=0, high=100, per_image=False)
    keep: Number = number(default=0.8, low=0, high=1, per_image=False, learnable=True)
    seed: Integers | None = random_seed(default=None)
    linear = False

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        keep = tensor_of(decided(self.keep), x)
        image = x.detach()
        pale = 1.5 * Gray().forward(image, rng) + 0.5
        bleached = keep * image + (1 - keep) * torch.maximum(image, pale)
        exact = row_by_row(self._under_flakes, bleached, seed=self.drawn_seed)
        declared = declare(x, exact, torch.full_like(image, decided(self.keep)))
        return with_gradient_of(declared, exact)

    def _under_flakes(self, x: Tensor, seed: int) -> Tensor:
        height, width = x.shape[2:]
        field = (decided(self.mean), decided(self.deviation))
        blur = (decided(self.length), decided(self.size))
        flakes = _flakes(
            seed, field, decided(self.zoom), decided(self.threshold), blur, height, width
        )
        return x + (flakes + flakes.rot90(2)).to(x)


@cached_constant(maxsize=8)
def _flakes(
    seed: int,
    field: tuple[float, float],
    factor: float,
    threshold: float,
    blur: tuple[int, float],
    height: int,
    width: int,
) -> Tensor:
    """Flakes [height, width] of 8 bits. field: mean and deviation. blur: length and size."""
    draws = Draws(seed)
    mean, deviation = field
    normal = mean + deviation * draws.normal(height, width)
    enlarged = zoom(height, factor) @ normal @ zoom(width, factor).mT
    whole = torch.where(enlarged < threshold, 0.0, enlarged).clamp(0, 1)
    levels = torch.floor(whole * 255)
    fall = float(draws.uniform(low=-135, high=-45))  # in ImageMagick's sense, opposite to ours
    length, size = blur
    kernel = KERNELS["trail"].draw(size, size, 180 - fall, 1, length)
    blurred = convolve(levels[None, None], kernel, "nearest")
    of_16_bits = (blurred[0, 0] * 257).round()
    return torch.floor(of_16_bits / 257) / 255


@register("frost", exact="ImageNet-C's code", gradient="its weight")
class Frost(Unknown, Held):
    """Lay a part of a photograph of frost over an image, where you have one.

    y = keep·x + weight·f, where f is a part of the photograph with the size of x, at a drawn place.
    Gradient: `keep`; those of `keep` and `weight` are exact.

    photograph: a tensor [1, 3, H, W] in [0, 1], or the path of a file, larger than the image. A
        grey image gets the mean of its channels.
    keep, weight: 0 to 1.
    seed: fixes the place; `sample` draws it, and `approx` removes it.
    """

    photograph: Tensor | str | Path = tensor(channels=3)
    keep: Number = number(default=0.7, low=0, high=1, per_image=False, learnable=True)
    weight: Number = number(default=0.7, low=0, high=1, per_image=False, learnable=True)
    seed: Integers | None = random_seed(default=None)
    linear = False
    __eq__, __hash__ = Held.same, Held.kind

    def row(self, index: int, batch: int) -> Operator:
        values = self.row_values(index, batch)
        return self.with_values(values)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        keep = tensor_of(decided(self.keep), x)
        weight = tensor_of(decided(self.weight), x)

        def freeze(row: Tensor, seed: int) -> Tensor:
            part = self._part(seed, row.shape)
            if row.shape[1] == 1:
                part = part.mean(1, keepdim=True)
            frost: Tensor = weight * part.to(row)
            return keep * row + frost

        return row_by_row(freeze, x, seed=self.drawn_seed)

    def _part(self, seed: int, shape: Shape) -> Tensor:
        """The part of the photograph for an image, first its row, then its column drawn."""
        height, width = shape[2:]
        count, _, whole_height, whole_width = self._tensor.shape
        if count > 1:
            raise ValueError(f"photograph holds {count} pictures; give one, [1, 3, H, W]")
        if whole_height <= height or whole_width <= width:
            raise ValueError(
                f"the photograph has {whole_height}x{whole_width} pixels, and the image "
                f"{height}x{width}; give a larger photograph"
            )
        draws = Draws(seed)
        top = int(draws.integers(whole_height - height))
        left = int(draws.integers(whole_width - width))
        return self._tensor[..., top : top + height, left : left + width]
