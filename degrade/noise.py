"""Noise of sensors: what is drawn anew at every call, and pixels that are lost for good.

A parameter is a number or one per image; sigma, width and the like are in units of [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .levels import Clamp
from .operator import Operator, Shape
from .params import Integers, Numbers, check_count, number, option, per_image, random_seed
from .registry import register
from .rng import Rng
from .surrogate import declare

LOUDEST = 1e6  # so that no float32 overflows
DARKEST, BRIGHTEST = (
    1e-6,
    1e9,
)  # peaks: counts stay integers in float64, quotients finite in float32


@register("gaussian", exact="N(x, σ²)", gradient="identity")
class Gaussian(Operator):
    """x + sigma·ε, ε ~ N(0, 1) for every channel of every pixel. Gradient: identity.

    sigma: standard deviation in units of [0, 1], ≥ 0; a number, or one per image.
    """

    sigma: Numbers = number(low=0, high=LOUDEST)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x + per_image(self.sigma, x, "sigma") * rng.normal(x)


@register("poisson", exact="Poisson's law", gradient="at the draw")
class Poisson(Operator):
    """Photon counts: Poisson(peak·x) / peak for every channel of every pixel; x < 0 counts as 0.

    peak: expected count at x = 1, 10⁻⁶ to 10⁹; a number, or one per image.
    model: "exact" draws counts. Gradient at the drawn y: 1 + (y - x) / (2(x + 10⁻³/peak)), the
    derivative of the Gaussian reparameterisation, finite at x = 0. "gaussian" is what a solver
    assumes: (λ - ½ + √(λ + 10⁻³)·ε) / peak with λ = peak·x, differentiated as written; `approx()`
    puts a clamp before it. Source: Poirier-Ginter & Lalonde 2023, eq. 10, with the constants of
    its published code.
    """

    peak: Numbers = number(low=DARKEST, high=BRIGHTEST)
    model: str = option("exact", "gaussian", default="exact")
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        peak = per_image(self.peak, x, "peak")
        if self.model == "gaussian":
            rate = (peak * x).clamp(min=0)
            return (rate - 0.5 + (rate + 1e-3).sqrt() * rng.normal(x)) / peak
        return _photons(x, peak, rng)

    def approx(self) -> Operator:
        return self if self.model == "gaussian" else Clamp() >> Poisson(self.peak, "gaussian")


def _photons(x: Tensor, peak: float | Tensor, rng: Rng) -> Tensor:
    p = x.detach().clamp(min=0)
    return _declared_photons(x, rng.poisson(peak * p), peak)


def _declared_photons(x: Tensor, counts: Tensor, peak: float | Tensor) -> Tensor:
    """counts / peak, with the gradient that `Poisson` declares."""
    p = x.detach().clamp(min=0)
    y = counts / peak
    return declare(x, y, 1 + (y - p) / (2 * (p + 1e-3 / peak)))


@register("poissongaussian", exact="Poisson's law + N(0, σ²)", gradient="at the draw")
class PoissonGaussian(Operator):
    """Photon counts and read noise: n / peak + sigma·ε, n ~ Poisson(peak·x), ε ~ N(0, 1), for every
    channel of every pixel; x < 0 counts as 0.

    peak: expected count at x = 1, 10⁻⁶ to 10⁹. sigma: standard deviation of the read noise, ≥ 0.
    Each a number, or one per image. Gradient: that of `poisson` at the drawn n. `approx()` is itself, with
    fresh draws. Source: Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling".
    """

    peak: Numbers = number(low=DARKEST, high=BRIGHTEST)
    sigma: Numbers = number(low=0, high=LOUDEST)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        peak = per_image(self.peak, x, "peak")
        sigma = per_image(self.sigma, x, "sigma")
        rate = peak * x.detach().clamp(min=0)
        both = rng.draw(lambda rate: torch.cat([rng.poisson(rate), rng.normal(rate)], 1), rate)
        counts, normal = both.chunk(2, 1)
        return _declared_photons(x, counts, peak) + sigma * normal


@register("speckle", exact="N(x, σ²x²)", gradient="at the draw")
class Speckle(Operator):
    """x + sigma·x·ε, ε ~ N(0, 1) for every channel of every pixel. Gradient: 1 + sigma·ε, at the drawn ε.

    sigma: standard deviation relative to the pixel, ≥ 0; a number, or one per image. Source: the
    multiplicative noise of Lee 1980, with Gaussian ε.
    """

    sigma: Numbers = number(low=0, high=LOUDEST)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * (1 + per_image(self.sigma, x, "sigma") * rng.normal(x))


@register("uniform", exact="U of its width", gradient="identity")
class Uniform(Operator):
    """x + width·(u - ½), u ~ U[0, 1) for every channel of every pixel. Gradient: identity.

    width: of the interval, in units of [0, 1], ≥ 0, so that the standard deviation is width/√12;
    a number, or one per image. Width 1/255 is the usual model of rounding to 8 bits (Bennett 1948).
    """

    width: Numbers = number(low=0, high=LOUDEST)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x + per_image(self.width, x, "width") * (rng.uniform(x) - 0.5)


@register("saltpepper", exact="its probabilities", gradient="the untouched")
class SaltPepper(Operator):
    """Each pixel is struck with probability prob, in all its channels: to white, or else to black.

    Drawn anew at every call. prob: in [0, 1]. salt: share of white among the struck, in [0, 1].
    Each a number, or one per image. Gradient: 1 where nothing struck, else 0. Source: Gonzalez &
    Woods, "Digital Image Processing", bipolar impulse noise.
    """

    prob: Numbers = number(low=0, high=1)
    salt: Numbers = number(default=0.5, low=0, high=1)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        prob, salt = per_image(self.prob, x, "prob"), per_image(self.salt, x, "salt")
        u = rng.uniform(x[:, :1])
        return torch.where(u < prob, (u < prob * salt).to(x), x)


class Seeded(Operator):
    """Shared by what `sample` decides with a seed; a subclass has the field `seed`, None until then."""

    seed: Integers | None

    @property
    def linear(self) -> bool:
        return self.seed is not None

    @property
    def decided(self) -> bool:
        return self.seed is not None and super().decided

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        return self if self.seed is not None else replace(self, seed=rng.integers(2**32))


class _Defects(Seeded):
    """Shared by pixels that lost all their channels, with probability prob each."""

    prob: Numbers

    @property
    def local(self) -> bool:
        return self.seed is None  # a seed draws for a size

    def approx(self) -> Operator:
        return replace(self, seed=None)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.seed is None:
            return seen
        alive = survivors(self.prob, self.seed, shape)
        return alive if seen is None else seen * alive.to(seen)


@register("deadpixels", exact="its probability", gradient="the mask")
class DeadPixels(_Defects):
    """Each pixel is black in all its channels with probability prob. Gradient: the mask.

    prob: in [0, 1]; a number, or one per image. seed: fixes the map; `sample` sets it, and
    `approx` forgets it, since a solver does not know which pixels died. Source: the Bernoulli mask
    of Poirier-Ginter & Lalonde 2023.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * self.visible(x.shape).to(x)


@register("hotpixels", exact="its probability", gradient="the mask")
class HotPixels(_Defects):
    """Each pixel is white in all its channels with probability prob. Gradient: 0 there, else 1.

    prob: in [0, 1]; a number, or one per image. seed: fixes the map; `sample` sets it, and
    `approx` forgets it, since a solver does not know which pixels are hot.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)
    linear = False  # white is no multiple of x

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return torch.where(self.visible(x.shape).to(x.device) > 0, x, 1.0)


def survivors(prob: Numbers, seed: Integers, shape: Shape) -> Tensor:
    """[1 or B, 1, H, W]: 0 with probability prob, else 1, for images of `shape`."""
    uniform = seeded_uniform(seed, (1, *shape[2:]), shape[0])
    if isinstance(prob, tuple):
        uniform = uniform.expand(shape[0], -1, -1, -1)
    return (uniform >= per_image(prob, uniform, "prob")).float()


def seeded_uniform(seed: Integers, size: Shape, batch: int) -> Tensor:
    """U[0, 1) of `size` for each seed: [1 or batch, *size]."""
    check_count("seed", seed, batch)
    seeds = seed if isinstance(seed, tuple) else (seed,)
    return torch.stack([_uniform(one_seed, size) for one_seed in seeds])


def _uniform(seed: int, size: Shape) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.rand(size, generator=generator, dtype=torch.float32, device="cpu")
