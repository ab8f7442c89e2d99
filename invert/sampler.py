"""Samplers: restoration with a denoiser D as data, namely a schedule, a correction and new noise.

All noise is seen beside an image of scale 1 in [0, 1] units: z = x + σ n. A step is

    x0 = D(z, σ)
    x̂ = correct(x0)          with the observation, see `correction`
    z = renoise(x̂)           at the next, lower noise level

and the last x̂ is the result. `METHODS` holds the published ones, each with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .correction import Corrected, Correction, Guess
from .denoiser import Denoiser
from .evidence import Evidence
from .method import RestorationMethod
from .noise_table import NoiseTable
from .problem import Problem
from .result import Report, Restoration
from .sampling import Sampling, check_drawn, check_linear, report_step, restoration
from .tree import finite_rows

KARRAS_RANGE = (100.0, 0.1)  # in [-1, 1] units
KARRAS_EXPONENT = 7


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a sampler, falling.

    steps: how many. spacing: "even" takes every k-th step of the network's own table of noise
    levels, "quadratic" more of its high ones, and "karras" needs no table: the 7th roots of the
    levels are evenly spaced, from 100 to 0.1 in [-1, 1] units. A network without a table gets
    levels in a geometric series. start: the share of the table that is used, from its low end.
    """

    steps: int
    spacing: str = "even"
    start: float = 1.0

    def levels(self, denoiser: Denoiser) -> list[float]:
        """The noise levels in [0, 1] units. Raises ValueError for more than the table has."""
        if self.spacing == "karras":
            return self._karras(denoiser)
        if denoiser.table is None:
            return self._geometric(denoiser)
        table = denoiser.table.sigmas
        unit = 2 if denoiser.signed else 1
        count = round(self.start * len(table))
        if not 1 <= self.steps <= count:
            raise ValueError(f"steps={self.steps} must be 1 to {count} for this denoiser")
        if self.spacing == "quadratic":
            squares = torch.linspace(count**2, 0, self.steps, dtype=torch.float64, device="cpu")
            times = squares.sqrt().long().clamp_max(count - 1)
        else:
            stride = count // self.steps
            times = stride * torch.arange(self.steps, device="cpu")
        rising = table[times.unique()] / unit
        levels: list[float] = rising.flip(0).tolist()
        return levels

    def _karras(self, denoiser: Denoiser) -> list[float]:
        low, high = denoiser.sigma_range
        high = min(high, KARRAS_RANGE[0] / 2)
        low = max(low, KARRAS_RANGE[1] / 2)
        return karras_levels(high, low, self.steps)

    def _geometric(self, denoiser: Denoiser) -> list[float]:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be 1 or more")
        low, high = denoiser.sigma_range
        if self.start < 1:
            table = NoiseTable("linear").sigmas / 2
            high = min(high, float(table[round(self.start * len(table))]))
        levels = []
        for step in range(self.steps):
            share = step / max(self.steps - 1, 1)
            levels.append(high * math.pow(low / high, share))
        return levels


def karras_levels(high: float, low: float, count: int) -> list[float]:
    """`count` noise levels from high to low, whose 7th roots are evenly spaced."""
    first = math.pow(high, 1 / KARRAS_EXPONENT)
    last = math.pow(low, 1 / KARRAS_EXPONENT)
    roots = torch.linspace(first, last, count, dtype=torch.float64, device="cpu")
    levels: list[float] = roots.pow(KARRAS_EXPONENT).tolist()
    return levels


@dataclass(frozen=True)
class Renoise:
    """Base of the ways to reach the next noise level: z' = x + √(σ'² − u²) n̂ + u n.

    n̂ = (z − x) / σ is the noise that the sampler believes in; n is fresh, and u (`fresh`) its
    standard deviation.
    """

    def fresh(self, sigma: float, next_sigma: float) -> float:
        """u, the standard deviation of fresh noise, at most σ'."""
        raise NotImplementedError

    def noise_in(self, image: Tensor, guess: Guess) -> Tensor:
        """n̂."""
        return (guess.z - image) / guess.sigma

    def __call__(self, corrected: Corrected, guess: Guess) -> Tensor:
        """z'. Noise that the correction has left in the image is part of the next level."""
        image = corrected.image
        variance = torch.as_tensor(guess.next_sigma**2 - corrected.noise**2)
        level = variance.clamp_min(0).sqrt().to(image)
        share = self.fresh(guess.sigma, guess.next_sigma) / guess.next_sigma
        known = math.sqrt(1 - share**2) * self.noise_in(image, guess)
        fresh = share * guess.draws("noise").normal(image)
        noise: Tensor = level * (known + fresh)
        return image + noise


@dataclass(frozen=True)
class Ddim(Renoise):
    """u = η σ' √(1 − σ'² / σ²): from deterministic (0) to the ancestral step (1) of DDPM."""

    eta: float = 1.0

    def fresh(self, sigma: float, next_sigma: float) -> float:
        return self.eta * next_sigma * math.sqrt(1 - (next_sigma / sigma) ** 2)


@dataclass(frozen=True)
class Mix(Renoise):
    """u = √share · σ'. of_estimate: n̂ is that of x0, not of the corrected image."""

    share: float = 1.0
    of_estimate: bool = False

    def fresh(self, sigma: float, next_sigma: float) -> float:
        return math.sqrt(self.share) * next_sigma

    def noise_in(self, image: Tensor, guess: Guess) -> Tensor:
        if self.of_estimate:
            image = guess.x0
        return super().noise_in(image, guess)


@dataclass(frozen=True)
class Sampler(RestorationMethod):
    """A sampler, as data.

    ode_steps: how many Euler steps of the probability-flow ODE give x0; 1 is the denoiser itself.
    runs: how many samples are averaged.
    """

    schedule: Schedule
    correct: Correction
    renoise: Renoise = field(default_factory=Ddim)
    ode_steps: int = 1
    runs: int = 1
    source: str = ""
    departures: str = ""

    prior_kind = "denoiser"
    options = frozenset({"class_label"})

    def stages(self) -> tuple[Sampling]:
        return (Sampling(self.schedule.steps * self.runs),)

    def with_steps(self, steps: int) -> Sampler:
        each = max(1, steps // self.runs)
        return replace(self, schedule=replace(self.schedule, steps=each))

    def check(self, problem: Problem) -> None:
        self.schedule.levels(problem.denoiser)
        check_drawn(problem)
        if self.correct.needs_linear:
            check_linear(problem)

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> Restoration:
        parts = [problem]
        if any(stage.varies for stage in problem.operator):
            parts = [problem.row(i) for i in range(problem.batch)]
        (phase,) = self.stages()
        total = len(self.schedule.levels(problem.denoiser)) * self.runs * len(parts)
        done = 0
        images, histories = [], []
        for part in parts:
            evidence = Evidence(part)
            samples, losses = [], []
            for run in range(self.runs):
                for image in self._images(part, evidence, f"run{run}"):
                    done += 1
                    losses.append(report_step(phase, part, done, total, image, report))
                samples.append(image)
            images.append(torch.stack(samples).mean(0))
            histories.append(torch.stack(losses))
        return restoration(phase, torch.cat(images), torch.cat(histories, 1))

    def _images(self, problem: Problem, evidence: Evidence, key: str) -> Iterator[Tensor]:
        """Yield the corrected image of each noise level; the last one is the sample.

        key: of the random draws.
        """
        levels = self.schedule.levels(problem.denoiser)
        following = [*levels[1:], 0.0]
        first_guess = evidence.first_guess()
        memory = self.correct.begin(evidence, first_guess)
        noise = problem.rng(f"{key}/start").normal(first_guess)
        z = first_guess + levels[0] * noise
        for step, (sigma, next_sigma) in enumerate(zip(levels, following, strict=True)):
            z = z.detach().requires_grad_(self.correct.through_denoiser)
            with torch.set_grad_enabled(self.correct.through_denoiser):
                x0 = self._estimate(problem, z, sigma)
            guess = Guess(
                problem=problem,
                z=z,
                x0=x0,
                sigma=sigma,
                next_sigma=next_sigma,
                progress=step / len(levels),
                key=f"{key}/step{step}",
            )
            corrected = self.correct(guess, evidence, memory)
            finite = finite_rows(corrected.image)
            yield torch.where(finite, corrected.image, torch.nan)
            if next_sigma > 0:
                guess = replace(guess, z=z.detach(), x0=x0.detach())
                z = torch.nan_to_num(self.renoise(corrected, guess))

    def _estimate(self, problem: Problem, z: Tensor, sigma: float) -> Tensor:
        """x0, by `ode_steps` Euler steps of dz/dσ = (z − D(z, σ)) / σ down to no noise."""
        denoise = problem.denoiser.denoise
        if self.ode_steps == 1:
            return denoise(z, sigma, problem.label)
        lowest = min(problem.denoiser.sigma_range[0], sigma)
        levels = karras_levels(sigma, lowest, self.ode_steps + 1)
        for level, next_level in zip(levels[:-1], levels[1:], strict=True):
            noise = (z - denoise(z, level, problem.label)) / level
            z = z + (next_level - level) * noise
        return z
