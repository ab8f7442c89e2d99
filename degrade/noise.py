"""Noise of sensors: what is drawn anew at every call, and pixels that are dead for good."""

from __future__ import annotations

import torch
from torch import Tensor

from .levels import Clamp
from .operator import Operator, Shape, register
from .params import Numbers, choice, numbers, per_image
from .rng import Rng
from .surrogate import declare


@register("gaussian")
class Gaussian(Operator):
    """x + sigma·ε, ε ~ N(0, 1) for every channel of every pixel. Gradient: identity.

    sigma: standard deviation in units of [0, 1], ≥ 0; a number, or one per image.
    """

    sigma: Numbers

    def __post_init__(self):
        numbers(self, "sigma", 0)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x + per_image(self.sigma, x, "sigma") * rng.normal(x)


@register("poisson")
class Poisson(Operator):
    """Photon counts: Poisson(peak·x) / peak for every channel of every pixel; x < 0 counts as 0.

    peak: expected count at x = 1, > 0; a number, or one per image.
    model: "exact" draws counts. Gradient at the drawn y: 1 + (y - x) / (2(x + 10⁻³/peak)), the
    derivative of the Gaussian reparameterisation, finite at x = 0. "gaussian" is what a solver
    assumes: (λ - ½ + √(λ + 10⁻³)·ε) / peak with λ = peak·x, differentiated as written; `approx()`
    puts a clamp before it. Source: Poirier-Ginter & Lalonde 2023, eq. 10, with the constants of
    its published code.
    """

    peak: Numbers
    model: str = "exact"

    def __post_init__(self):
        numbers(self, "peak", 0, 1e9, above=True)  # counts must stay integers in float64
        choice(self, "model", ("exact", "gaussian"))

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        peak = per_image(self.peak, x, "peak")
        if self.model == "gaussian":
            rate = (peak * x).clamp(min=0)
            return (rate - 0.5 + (rate + 1e-3).sqrt() * rng.normal(x)) / peak
        p = x.detach().clamp(min=0)
        y = rng.poisson(peak * p) / peak
        return declare(x, y, 1 + (y - p) / (2 * (p + 1e-3 / peak)))

    def approx(self) -> Operator:
        return self if self.model == "gaussian" else Clamp() >> Poisson(self.peak, "gaussian")


@register("deadpixels")
class DeadPixels(Operator):
    """Each pixel is black in all its channels with probability prob. Gradient: the mask.

    prob: in [0, 1]; a number, or one per image. seed: fixes the map; `sample` sets it, and
    `approx` forgets it, since a solver does not know which pixels died.
    """

    prob: Numbers
    seed: Numbers | None = None

    def __post_init__(self):
        numbers(self, "prob", 0, 1)
        if self.seed is not None:
            numbers(self, "seed", 0, 2**32 - 1, integer=True)

    @property
    def linear(self) -> bool:
        return self.seed is not None

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        return self if self.linear else DeadPixels(self.prob, rng.integers(2**32))

    def approx(self) -> Operator:
        return DeadPixels(self.prob)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * self.visible(x.shape).to(x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.seed is None:
            return seen
        uniform = seeded_uniform(self.seed, (1, *shape[2:]))
        alive = (uniform >= per_image(self.prob, uniform, "prob")).float()
        return alive if seen is None else seen * alive.to(seen)


def seeded_uniform(seed: Numbers, size: Shape) -> Tensor:
    """U[0, 1) of `size` for each seed: [number of seeds, *size]."""
    seeds = seed if isinstance(seed, tuple) else (seed,)
    return torch.stack([torch.rand(size, generator=torch.Generator().manual_seed(s)) for s in seeds])
