"""DDRM: restoration by a diffusion model, for linear operators with Gaussian noise.

Every step applies functions f of the operator's singular values to images: V f(S) Vᵀ x and
V f(S) Uᵀ y, where H = U S Vᵀ is the operator (spectrum.py).
Source: Kawar et al. 2022, "Denoising Diffusion Restoration Models", eqs. 7 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from degrade import Gaussian
from degrade.operator import Operator, Shape, compose
from degrade.rng import Rng

from .method import Knob, RestorationMethod
from .problem import Problem, streams
from .result import Report, Restoration
from .sampling import Sampling, report_step, restoration
from .spectrum import Spectrum, nonzero, spectra
from .tree import finite_rows


@dataclass(frozen=True)
class DDRM(RestorationMethod):
    """Sample a diffusion model whose images agree with the observation, per singular value.

    steps: how many of the model's steps are used, evenly chosen; the last one is 0. eta: the share
    of new noise, 0 to 1. eta_b: how much the observation counts, 0 to 1. The operator must be
    linear, with Gaussian noise at its end, of one deviation for all images of a batch.
    assumes_linear: whether other stages that keep the size, such as a clamp, are left out, as if
    they had not happened.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    assumes_linear: bool = False
    source: str = "Kawar et al. 2022, Denoising Diffusion Restoration Models, eqs. 7 and 8"
    departures: str = "no classifier guidance"

    prior_kind = "denoiser"
    options = frozenset({"class_label"})
    knobs: tuple[Knob, ...] = ()

    def __post_init__(self) -> None:
        for name in ("eta", "eta_b"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be from 0 to 1")

    def stages(self) -> tuple[Sampling]:
        return (Sampling(self.steps),)

    def with_steps(self, steps: int) -> DDRM:
        return replace(self, steps=steps)

    def check(self, problem: Problem) -> None:
        problem.denoiser.schedule(self.steps)

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> Restoration:
        denoiser = problem.denoiser
        operators = []
        notes: list[str] = []
        for i in range(problem.batch):
            row_operator = problem.operator.row(i, problem.batch)
            if self.assumes_linear:
                row_operator, ignored = linear_model_of(row_operator, problem.image_shape)
                notes.extend(ignored)
            operators.append(row_operator)
        observed = Observed.of(problem, operators)
        draws = Rng.of(streams(problem.seeds, "ddrm"), problem.batch)
        levels = denoiser.schedule(self.steps)
        x = observed.start(levels[0].sigma, draws.child("start"))
        finite = finite_rows(x)
        (phase,) = self.stages()
        image = x
        losses = []
        next_sigmas = [level.sigma for level in levels[1:]]
        next_sigmas.append(0.0)
        for step, level in enumerate(levels):
            noise = denoiser.noise_in(x, level, problem.label)
            # An image that is not finite is given up; the others of its batch go on.
            finite = finite & finite_rows(noise)
            noise = torch.where(finite, noise, 0.0)
            x0 = x - level.sigma * noise
            next_sigma = next_sigmas[step]
            fresh = draws.child(f"step{step}").normal(x)
            x = observed.move(self, next_sigma, x0, noise, fresh)
            image = torch.where(finite, (x + 1) / 2, torch.nan)
            loss = report_step(phase, problem, step + 1, self.steps, image, report)
            losses.append(loss)
        return restoration(phase, image, torch.stack(losses), tuple(dict.fromkeys(notes)))

    def shares(self, s: Tensor, level: float, sigma: float) -> Shares:
        """How much of each part goes into the coordinates with singular values s (eq. 8).

        level: the next noise level. sigma: the noise of the observation.
        """
        is_visible = s > 0
        informative = is_visible & (s * level > sigma)  # the observation is better than the model
        noisy = is_visible & (s * level < sigma)
        hidden = ~(informative | noisy)
        kept = (1 - self.eta**2) ** 0.5 * level
        pull = kept / sigma if sigma else 0.0
        remaining = remaining_noise(level, self.eta_b * sigma, s)
        of_noisy = noisy * (1 - pull * s)
        of_informative = informative * (1 - self.eta_b)
        of_model = of_noisy + of_informative
        of_observation = informative * self.eta_b / nonzero(s)
        return Shares(
            x0=hidden * 1.0 + of_model,
            noise=hidden * kept,
            y=noisy * pull + of_observation,
            fresh=torch.where(informative, remaining, self.eta * level),
        )


class Shares(NamedTuple):
    """The factors of the parts that make up the next images, one per singular value.

    x0: of the model's image. noise: of the model's noise. y: of the observation. fresh: of new
    noise.
    """

    x0: Tensor
    noise: Tensor
    y: Tensor
    fresh: Tensor


@dataclass(frozen=True)
class Observed:
    """The observation in [-1, 1] units.

    sigma: the deviation of its noise. spectrum: of the operator. shape: of the images.
    """

    y: Tensor
    sigma: float
    spectrum: Spectrum
    shape: tuple[int, ...]

    @staticmethod
    def of(problem: Problem, operators: list[Operator]) -> Observed:
        """Decompose the operators, one for each image. Raises ValueError for one not linear."""
        linear_parts = []
        sigmas = set()
        for operator in operators:
            linear, sigma = parts(operator)
            linear_parts.append(linear)
            sigmas.add(sigma)
        if len(sigmas) > 1:
            raise ValueError("method='ddrm' takes one deviation of noise for all images of a batch")
        (sigma,) = sigmas
        shape = (1, *problem.image_shape[1:])
        white = torch.ones(shape, dtype=torch.float32, device=problem.device)
        # With x = (x' + 1) / 2 for x' in [-1, 1], 2y - H·1 = H x' + 2·noise.
        offsets = []
        for linear in linear_parts:
            offset = white if linear is None else linear(white)
            offsets.append(offset)
        y = 2 * problem.observation - torch.cat(offsets)
        spectrum = spectra(linear_parts, shape, problem.device)
        return Observed(y, 2 * sigma, spectrum, problem.image_shape)

    def start(self, level: float, rng: Rng) -> Tensor:
        """Draw the first images in [-1, 1] units, at the noise level `level`."""
        zeros = torch.zeros(self.shape, dtype=torch.float32, device=self.y.device)
        fresh = rng.normal(zeros)

        def is_informative(s: Tensor) -> Tensor:
            return (s > 0) & (s * level > self.sigma)

        def share_of_fresh(s: Tensor) -> Tensor:
            remaining = remaining_noise(level, self.sigma, s)
            return torch.where(is_informative(s), remaining, level)

        def share_of_observation(s: Tensor) -> Tensor:
            return is_informative(s) / nonzero(s)

        x = self.spectrum.of_image(share_of_fresh, fresh)
        return x + self.spectrum.of_observation(share_of_observation, self.y)

    def move(self, method: DDRM, level: float, x0: Tensor, noise: Tensor, fresh: Tensor) -> Tensor:
        """Compute the images at the next noise level (eqs. 7 and 8)."""

        def shares(s: Tensor) -> Shares:
            return method.shares(s, level, self.sigma)

        spectrum = self.spectrum
        x = spectrum.of_image(lambda s: shares(s).x0, x0)
        x = x + spectrum.of_image(lambda s: shares(s).noise, noise)
        x = x + spectrum.of_observation(lambda s: shares(s).y, self.y)
        return x + spectrum.of_image(lambda s: shares(s).fresh, fresh)


def remaining_noise(level: float, sigma: float, s: Tensor) -> Tensor:
    """The deviation of the noise to add to the observation's, sigma / s, to reach `level`."""
    of_observation = sigma / nonzero(s)
    variance = level**2 - of_observation**2
    return variance.clamp_min(0).sqrt()


def linear_model_of(operator: Operator, shape: Shape) -> tuple[Operator, list[str]]:
    """The operator without stages that are neither linear nor noise, and a note for each of these.

    A stage stays if it changes the size of the images, or is still to be drawn.
    """
    stages: list[Operator] = []
    notes: list[str] = []
    for stage in operator:
        output_shape = stage.output_shape(shape)
        keeps_size = tuple(output_shape) == tuple(shape)
        is_linear = stage.linear or stage.sample(shape).linear
        if is_linear or isinstance(stage, Gaussian) or not keeps_size:
            stages.append(stage)
        else:
            notes.append(f"assumed that there was no {stage}, since DDRM's model is linear")
        shape = output_shape
    return compose(stages), notes


def parts(operator: Operator) -> tuple[Operator | None, float]:
    """Split H x + noise into the linear part (None: the identity) and the noise's deviation.

    Raises ValueError for an operator that is not linear with Gaussian noise at its end.
    """
    *stages, last = operator
    sigma = 0.0
    if isinstance(last, Gaussian):
        if not isinstance(last.sigma, (int, float)):
            raise ValueError(f"method='ddrm' takes one deviation for all images, not {last}")
        sigma = float(last.sigma)
    else:
        stages.append(last)
    if not stages:
        return None, sigma
    for stage in stages:
        check_linear(stage)
    return compose(stages), sigma


def check_linear(stage: Operator) -> None:
    """Raise ValueError for a stage that is not linear, or is still to be drawn."""
    if stage.linear:
        return
    if stage.sample((1, 3, 64, 64)).linear:
        raise ValueError(
            f"method='ddrm' needs to know what happened: {stage} is still to be drawn; sample it"
        )
    raise ValueError(
        f"method='ddrm' needs a linear operator, and Gaussian noise at the end; {stage} is neither"
    )
