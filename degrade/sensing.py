"""Compressed sensing: fewer numbers than pixels, and each number is a mixture of all pixels."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .constants import cached_constant
from .operator import Shape
from .params import Integers, Number, decided, number, random_seed
from .registry import register
from .rng import Rng, drawn_alike
from .rows import row_by_row
from .seeded import Seeded


@register("compressedsensing", exact="its dense matrix", gradient="adjoint")
class CompressedSensing(Seeded):
    """Measure m random mixtures of all n = C·H·W values: a partial circulant matrix.

    y = (g ∗ (s ⊙ x))_S / √n with g ~ N(0, 1)ⁿ, signs s ∈ {-1, 1}ⁿ, S a random subset of m indices
    and ∗ the circular convolution; x is flattened by channel, row and column. The adjoint is
    s ⊙ (g ⋆ y_S) / √n with ⋆ the circular correlation and y_S zero outside S.

    ratio: m / n, above 0 to 1; m = max(1, round(ratio·n)).
    seed: fixes g, s and S, which the solver knows; a number, or one per image; `sample` draws it.

    Output [B, 1, 1, m] in the order of the indices, each about N(0, mean x²). It is no picture, so
    a loss compares its values only. Gradient: its own, the adjoint; `adjoint` needs the shape.
    The division by √n, which makes a measurement as large as a pixel, is ours. Source: Daras et
    al. 2021 (ILO).
    """

    ratio: Number = number(above=0, high=1, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def output_shape(self, shape: Shape) -> Shape:
        batch, *sides = shape
        n = math.prod(sides)
        measurements = round(decided(self.ratio) * n)
        m = max(1, measurements)
        return (batch, 1, 1, m)

    def input_shape(self, shape: Shape) -> Shape:
        raise ValueError(
            f"{self}: measurements do not tell the size of the image; give adjoint its shape, "
            "or restore them with a generator, which has a size"
        )

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        raise ValueError(f"{self}: a measurement mixes all pixels, so it has no position of one")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        *_, measurements = self.output_shape(x.shape)

        def measure(row: Tensor, seed: int) -> Tensor:
            return _measure(row, seed, measurements)

        return row_by_row(measure, x, seed=self.drawn_seed)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        """Every measurement mixes all pixels, so each carries the visible share of the image."""
        return share_of_each(seen, self.output_shape(shape))


def share_of_each(seen: Tensor | None, output: Shape) -> Tensor | None:
    """The visible share of an image for each measurement, where each mixes all of its pixels.

    seen: the mask of the image, [1 or B, 1, H, W]. output: the shape of the measurements.
    """
    if seen is None:
        return None
    *_, measurements = output
    share = seen.mean((2, 3), keepdim=True)
    return share.expand(-1, -1, -1, measurements)


def _measure(x: Tensor, seed: int, m: int) -> Tensor:
    n = math.prod(x.shape[1:])
    g, signs, kept = draw_sensing(seed, n, m)
    values = x.double().flatten(1)
    with_signs = signs.to(x.device) * values
    spectrum = torch.fft.rfft(with_signs)
    filter = g.to(x.device)
    filter_spectrum = torch.fft.rfft(filter)
    product = filter_spectrum * spectrum
    mixed = torch.fft.irfft(product, n)
    indices = kept.to(x.device)
    measurements: Tensor = mixed[:, indices] / n**0.5
    by_image = measurements.view(-1, 1, 1, m)
    return by_image.to(x)


@cached_constant(maxsize=4)  # a solver asks for the same at every step; 75 MB each at 1024 x 1024
def draw_sensing(seed: int, n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw g [n] and the signs [n] in float64, and the m kept indices in order."""
    generator = torch.Generator("cpu")
    generator.manual_seed(seed)
    draw = partial(torch.randn, n, generator=generator, dtype=torch.float64)
    g = drawn_alike(draw)
    bits = torch.randint(2, (n,), generator=generator, dtype=torch.float64)
    signs = bits * 2 - 1
    order = torch.randperm(n, generator=generator)
    kept = order[:m].sort()
    return g, signs, kept.values
