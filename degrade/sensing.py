"""Compressed sensing: fewer numbers than pixels, each of them a mixture of all pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import cached_constant
from .noise import Seeded
from .operator import Shape
from .params import Integers, Number, decided, number, random_seed
from .registry import register
from .rng import Rng
from .rows import row_by_row


@register("compressedsensing", exact="its dense matrix", gradient="adjoint")
class CompressedSensing(Seeded):
    """m random measurements of an image's n = C·H·W values, a partial circulant with random signs:

        y = (g ∗ (s ⊙ x))_S / √n,   g ~ N(0, 1)ⁿ,  s ∈ {-1, 1}ⁿ,  S a random subset of m indices

    with ∗ the circular convolution, of x flattened by channel, row and column. ratio: m / n, above
    0 to 1; m = max(1, round(ratio·n)). seed: fixes g, s and S, which the solver knows; a number, or
    one per image; `sample` sets it. Output [B, 1, 1, m], in the order of the indices, about
    N(0, mean x²) each; it is no picture, so a loss on it is one of pixels. Gradient: its own, the
    adjoint; `adjoint` must be given the shape. The division by √n, which makes a measurement as
    large as a pixel, is ours. Source: Daras et al. 2021 (ILO).
    """

    ratio: Number = number(above=0, high=1, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def output_shape(self, shape: Shape) -> Shape:
        n = shape[1] * shape[2] * shape[3]
        return (shape[0], 1, 1, max(1, round(decided(self.ratio) * n)))

    def input_shape(self, shape: Shape) -> Shape:
        raise ValueError("measurements do not tell the image's size; give adjoint its shape")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        m = self.output_shape(x.shape)[3]
        return row_by_row(lambda row, seed: _measure(row, seed, m), x, seed=self.seed)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        """Every measurement has seen the same share of the pixels."""
        return (
            None
            if seen is None
            else seen.mean((2, 3), keepdim=True).expand(-1, -1, -1, self.output_shape(shape)[3])
        )


def _measure(x: Tensor, seed: int, m: int) -> Tensor:
    n = x.numel()
    g, signs, kept = (t.to(x.device) for t in draw_sensing(seed, n, m))
    mixed = torch.fft.irfft(torch.fft.rfft(g) * torch.fft.rfft(signs * x.double().flatten()), n)
    return (mixed[kept] / n**0.5).view(1, 1, 1, m).to(x)


@cached_constant(
    maxsize=4
)  # a solver asks for the same ones at every step; 75 MB each at 1024 x 1024
def draw_sensing(seed: int, n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """g [n] and the signs [n] in float64, and the m kept indices in order."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(n, generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (n,), generator=generator, dtype=torch.float64) * 2 - 1
    return g, signs, torch.randperm(n, generator=generator)[:m].sort().values
