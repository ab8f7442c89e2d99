"""Samplers: restoration with a denoiser D as data, namely a schedule, a correction and new noise.

All noise is seen beside an image of scale 1 in [0, 1] units: z = x + σ n. A step is

    x0 = D(z, σ)
    x̂ = correct(x0)          with the observation, see `correction`
    z = renoise(x̂)           at the next, lower noise level

and the last x̂ is the result. `METHODS` holds the published ones, each with its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .correction import Corrected, Correction, Evidence, Guess
from .denoiser import Denoiser
from .method import RestorationMethod
from .noise_table import NoiseTable
from .problem import Problem
from .result import Report, Restoration
from .sampling import Sampling, check_drawn, finite_rows, report_step, restoration

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
            squares = torch.linspace(count**2, 0, self.steps, dtype=torch.float64)
            times = squares.sqrt().long().clamp_max(count - 1)
        else:
            times = count // self.steps * torch.arange(self.steps)
        levels = table[times.unique()] / unit
        return levels.flip(0).tolist()

    def _karras(self, denoiser: Denoiser) -> list[float]:
        low, high = denoiser.sigma_range
        high = min(high, KARRAS_RANGE[0] / 2)
        low = max(low, KARRAS_RANGE[1] / 2)
        ends = torch.tensor([high, low], dtype=torch.float64) ** (1 / KARRAS_EXPONENT)
        roots = torch.linspace(float(ends[0]), float(ends[1]), self.steps, dtype=torch.float64)
        return (roots**KARRAS_EXPONENT).tolist()

    def _geometric(self, denoiser: Denoiser) -> list[float]:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be 1 or more")
        low, high = denoiser.sigma_range
        if self.start < 1:
            table = NoiseTable("linear").sigmas / 2
            high = min(high, float(table[round(self.start * len(table))]))
        if self.steps == 1:
            return [high]
        return torch.logspace(0, 1, self.steps, low / high, dtype=torch.float64).mul(high).tolist()


@dataclass(frozen=True)
class Renoise:
    """Base of the ways to reach the next noise level: z' = x + √(σ'² − u²) n̂ + u n.

    n̂ = (z − x) / σ is the noise that the sampler believes in, n is fresh and u its share (`fresh`).
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
        level = torch.as_tensor(guess.next_sigma**2 - corrected.noise**2)
        level = level.clamp_min(0).sqrt().to(image)
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
        return super().noise_in(guess.x0 if self.of_estimate else image, guess)


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

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> Restoration:
        parts = [problem]
        if any(stage.varies for stage in problem.operator):
            parts = [problem.row(i) for i in range(problem.batch)]
        images, histories = [], []
        for number, part in enumerate(parts):
            evidence = Evidence.of(part)
            samples = []
            losses: list[Tensor] = []
            for run in range(self.runs):
                done = (number * self.runs + run, len(parts) * self.runs)
                samples.append(self._sample(part, evidence, done, losses, report))
            images.append(torch.stack(samples).mean(0))
            histories.append(torch.stack(losses))
        (phase,) = self.stages()
        return restoration(phase, torch.cat(images), torch.cat(histories, 1))

    def _sample(
        self,
        problem: Problem,
        evidence: Evidence,
        done: tuple[int, int],
        losses: list[Tensor],
        report: Report,
    ) -> Tensor:
        """Draw one sample for each image. done: how many of how many samples came before."""
        (phase,) = self.stages()
        levels = [*self.schedule.levels(problem.denoiser), 0.0]
        before, total = (count * (len(levels) - 1) for count in done)
        key = f"run{done[0] % self.runs}"
        image = evidence.model.first_guess()
        memory = self.correct.begin(evidence, image)
        z = image + levels[0] * problem.rng(f"{key}/start").normal(image)
        for step, sigma in enumerate(levels[:-1]):
            next_sigma = levels[step + 1]
            z = z.detach().requires_grad_(self.correct.through_denoiser)
            with torch.set_grad_enabled(self.correct.through_denoiser):
                x0 = self._estimate(problem, z, sigma)
            progress = step / len(levels)
            guess = Guess(problem, z, x0, sigma, next_sigma, progress, f"{key}/step{step}")
            corrected = self.correct(guess, evidence, memory)
            image = torch.where(finite_rows(corrected.image), corrected.image, torch.nan)
            guess = replace(guess, z=z.detach(), x0=x0.detach())
            if next_sigma > 0:
                z = torch.nan_to_num(self.renoise(corrected, guess))
            losses.append(report_step(phase, problem, before + step + 1, total, image, report))
        return image

    def _estimate(self, problem: Problem, z: Tensor, sigma: float) -> Tensor:
        """x0, by `ode_steps` Euler steps of dz/dσ = (z − D(z, σ)) / σ down to no noise."""
        denoise, label = problem.denoiser.denoise, problem.label
        if self.ode_steps == 1:
            return denoise(z, sigma, label)
        lowest = min(problem.denoiser.sigma_range[0], sigma)
        ends = torch.tensor([sigma, lowest], dtype=torch.float64) ** (1 / KARRAS_EXPONENT)
        roots = torch.linspace(float(ends[0]), float(ends[1]), self.ode_steps + 1)
        levels = (roots.double() ** KARRAS_EXPONENT).tolist()
        for level, next_level in zip(levels[:-1], levels[1:], strict=True):
            z = z + (next_level - level) / level * (z - denoise(z, level, label))
        return z
