"""Corrections: how a sampler brings the observation into an image that a denoiser has estimated.

A step of a sampler has an image with noise, z = x + σ n, and the denoiser's estimate x0 of x, both
in [0, 1] units. A correction moves x0 to where it also explains the observation y. They differ in
what they use of the operator f: what it fixes for certain (`Project`), its linear part A (`Prox`,
`Draw`, `Guide`), or only its gradient (`NormGuide`, `Descend`, `Langevin`, `AdamOnImage`).
Published constants are given in the [-1, 1] units of their papers and converted here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from degrade import Gaussian
from degrade.operator import Operator, compose
from degrade.rng import Rng

from .linear_model import ROUNDING, LinearModel, dot, linear_model
from .problem import Problem, streams
from .strength import measured_error, trial, trial_parts

_PROBE = 0.1  # of the noise level, by which an image is shifted to measure a derivative
_LEAST_SPREAD = 1e-3  # of x around its estimate, in [0, 1] units


@dataclass(frozen=True)
class Evidence:
    """What is known of a batch of images that one operator has damaged.

    model: y = A x + error, see `linear_model`. error: the standard deviation of the error, one per
    image [B, 1, 1, 1]. operator: what happened, without Gaussian noise at its end. observation: y
    as it is, while the model's has its curves undone.
    """

    model: LinearModel
    error: Tensor
    operator: Operator | None
    observation: Tensor

    @staticmethod
    def of(problem: Problem) -> Evidence:
        stages, _ = without_noise(problem.operator)
        errors = []
        for i in range(problem.batch):
            errors.append(max(error_of(problem.row(i)), ROUNDING))
        y = problem.observation
        return Evidence(
            model=linear_model(problem.operator, y),
            error=torch.tensor(errors, dtype=y.dtype, device=y.device).view(-1, 1, 1, 1),
            operator=compose(stages) if stages else None,
            observation=y,
        )

    def residual(self, x: Tensor, draws: tuple[torch.Generator, ...]) -> Tensor:
        """y − f(x), differentiable by f's surrogate gradient. draws: a generator per image."""
        prediction = x if self.operator is None else self.operator(x, draws)
        return self.observation - prediction


def without_noise(operator: Operator) -> tuple[list[Operator], float]:
    """The stages without Gaussian noise at their end, and the standard deviation of that noise."""
    stages = list(operator)
    last = stages[-1]
    if isinstance(last, Gaussian) and isinstance(last.sigma, (int, float)):
        return stages[:-1], float(last.sigma)
    return stages, 0.0


def error_of(problem: Problem) -> float:
    """The standard deviation of y − A x for one image.

    It is known where Gaussian noise follows linear stages, and measured on synthetic pictures for
    every other operator.
    """
    stages, sigma = without_noise(problem.operator)
    if all(stage.linear for stage in stages):
        return sigma
    trials = []
    for number, part in enumerate(trial_parts(problem)):
        trials.append(trial(problem, part, number))
    return measured_error(trials)


@dataclass(frozen=True)
class Guess:
    """A step of a sampler, before its correction.

    z: the image with noise, [B, C, H, W]. x0: the denoiser's estimate; with a gradient to z if the
    correction asks for it. sigma, next_sigma: the noise levels before and after the step. progress:
    of the sampler, from 0 to 1. key: of the step's random draws.
    """

    problem: Problem
    z: Tensor
    x0: Tensor
    sigma: float
    next_sigma: float
    progress: float
    key: str

    def draws(self, purpose: str) -> Rng:
        """The images' random streams for one purpose."""
        return self.problem.rng(f"{self.key}/{purpose}")

    def generators(self, purpose: str) -> tuple[torch.Generator, ...]:
        """The same for an operator."""
        return streams(self.problem.seeds, f"{self.key}/{purpose}")

    def pulled_back(self, v: Tensor) -> Tensor:
        """Jᵀ v with J = ∂x0/∂z, the denoiser's Jacobian matrix."""
        (gradient,) = torch.autograd.grad(self.x0, self.z, v)
        return gradient


@dataclass(frozen=True)
class Corrected:
    """The corrected image, and the standard deviation of the observation's noise in it."""

    image: Tensor
    noise: Tensor | float = 0.0


class Correction:
    """Base of all corrections. through_denoiser: whether it needs the gradient from x0 to z."""

    through_denoiser: bool = False

    def begin(self, evidence: Evidence, image: Tensor) -> object:
        """What the correction remembers from step to step; `image` is the first guess of x."""
        return None

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        raise NotImplementedError


# How far x may lie from x0 ------------------------------------------------------------------------


class Spread:
    """The standard deviation r of x around its estimate x0, per pixel."""

    def __call__(self, guess: Guess) -> Tensor | float:
        raise NotImplementedError


@dataclass(frozen=True)
class UnitPrior(Spread):
    """r² = σ² / (1 + σ²) in [-1, 1] units: that of a prior N(0, 1). Source: ΠGDM."""

    def __call__(self, guess: Guess) -> float:
        return guess.sigma / alpha(guess.sigma, -1)


@dataclass(frozen=True)
class NoiseShare(Spread):
    """r² = σ² / weight with σ in [-1, 1] units and r in [0, 1] units. Source: DiffPIR's λ."""

    weight: float

    def __call__(self, guess: Guess) -> float:
        return 2 * guess.sigma / math.sqrt(self.weight)


@dataclass(frozen=True)
class NetworkSpread(Spread):
    """r² = σ² tr(J) / N, the denoiser's own uncertainty (Tweedie's second formula).

    A network that has learned its variance is asked for it. For others the trace is measured by one
    random probe and a finite difference, which takes a second call.
    """

    def __call__(self, guess: Guess) -> Tensor:
        denoiser, sigma = guess.problem.denoiser, guess.sigma
        z, x0 = guess.z.detach(), guess.x0.detach()
        if denoiser.learned_variance:
            variance = denoiser.variance(z, sigma, guess.problem.label)
        else:
            probe = guess.draws("probe").normal(z).sign()
            shift = _PROBE * sigma
            shifted = denoiser.denoise(z + shift * probe, sigma, guess.problem.label)
            variance = sigma**2 * probe * (shifted - x0) / shift
        mean_variance = variance.mean((1, 2, 3), keepdim=True)
        return mean_variance.clamp(_LEAST_SPREAD**2, sigma**2).sqrt()


def alpha(sigma: float, power: int = 1) -> float:
    """√ᾱ = 1 / √(1 + σ²) of the noise level in [-1, 1] units, to a power."""
    return float((1 + (2 * sigma) ** 2) ** (-power / 2))


# The corrections ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project(Correction):
    """Data consistency: x̂ = x0 + b λ A⁺(y − A x0).

    Where f says something for certain, such as the cells of a JPEG's coefficients, x0 is projected
    onto it (`Operator.project`), exactly. For other operators A⁺ is the pseudo-inverse, and noise
    that is larger than the next noise level σ' counts less: λ = min(1, σ' / error).

    blend: b, 0 to 1. Sources: DDNM (Wang et al. 2023), eqs. 13 and 19; DDRM-JPEG (Kawar et al.
    2022).
    """

    blend: float = 1.0

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        x0, operator = guess.x0, guess.problem.operator
        if operator.certain:
            projected = operator.project(x0, evidence.observation)
            return Corrected(torch.lerp(x0, projected, self.blend))
        least_squares = evidence.model.nearest(x0, 1.0, ROUNDING)
        error = torch.where(evidence.error > ROUNDING, evidence.error, 0.0)
        share = (guess.next_sigma / error.clamp_min(1e-9)).clamp_max(1) * self.blend
        return Corrected(x0 + share * (least_squares - x0), share * error)


@dataclass(frozen=True)
class Prox(Correction):
    """The proximal point: x̂ = argmin ‖y − A x‖² / error² + ‖x − x0‖² / r².

    spread: r. Source: DiffPIR (Zhu et al. 2023), eq. 12.
    """

    spread: Spread

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        return Corrected(evidence.model.nearest(guess.x0, self.spread(guess), evidence.error))


@dataclass(frozen=True)
class Draw(Correction):
    """Draw x̂ from the density exp(−‖y − A x‖² / 2 error² − ‖x − x0‖² / 2 r²).

    The proximal point of an x0 and a y with fresh noise is an exact draw. spread: r.
    Source: DAPS (Zhang et al. 2024), eq. 7, for a linear model.
    """

    spread: Spread

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        r, y = self.spread(guess), evidence.model.observation
        x0 = guess.x0 + r * guess.draws("x").normal(guess.x0)
        noisy_y = y + evidence.error * guess.draws("y").normal(y)
        model = replace(evidence.model, observation=noisy_y)
        return Corrected(model.nearest(x0, r, evidence.error))


@dataclass(frozen=True)
class Guide(Correction):
    """Follow the likelihood through the denoiser: x̂ = x0 + σ² Jᵀ Aᵀ(error² + r² A Aᵀ)⁻¹(y − A x0).

    spread: r. Source: ΠGDM (Song et al. 2023), eq. 7, with the factor of Tweedie's formula.
    """

    spread: Spread
    through_denoiser = True

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        x0, r = guess.x0.detach(), self.spread(guess)
        step = evidence.model.nearest(x0, r, evidence.error) - x0
        return Corrected(x0 + (guess.sigma / r) ** 2 * guess.pulled_back(step))


@dataclass(frozen=True)
class NormGuide(Correction):
    """Step down the gradient of ‖y − f(x0)‖ through the denoiser, by a step of fixed factor.

    With the ancestral step (`Ddim`) this is x_t' − ζ ∇‖y − f(x0)‖ in the paper's units.
    step: ζ. Source: DPS (Chung et al. 2023), algorithm 1, as its code has it.
    """

    step: float
    through_denoiser = True

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        residual = evidence.residual(guess.x0.clamp(0, 1), guess.generators("operator"))
        norm = dot(residual, residual).sqrt()
        (gradient,) = torch.autograd.grad(norm.sum(), guess.z)
        before, after = guess.sigma, guess.next_sigma
        factor = self.step / 2 / (alpha(before) * alpha(after))
        weight_of_image = 1 - (after / before) ** 2  # in the ancestral step
        return Corrected(guess.x0.detach() - factor / weight_of_image * gradient)


@dataclass(frozen=True)
class Descend(Correction):
    """One step of steepest descent on ‖y − f(x)‖² / error² + ‖x − x0‖² / σ² from x0.

    f's surrogate gradient gives the direction. The length is the vertex of the parabola through the
    objective at three points. The denoiser is not differentiated.
    Source: MPGD (He et al. 2024), algorithm 1, which has a step size per task.
    """

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        with torch.enable_grad():
            x0 = guess.x0.detach().requires_grad_()
            residual = evidence.residual(x0, guess.generators("operator"))
            (slope,) = torch.autograd.grad(dot(residual, residual).sum() / 2, x0)
        x0 = x0.detach()

        def objective(length: float) -> Tensor:
            difference = evidence.residual(x0 - length * slope, guess.generators("operator"))
            data = dot(difference, difference) / evidence.error**2
            return data + length**2 * dot(slope, slope) / guess.sigma**2

        at_0, at_1, at_2 = objective(0.0), objective(1.0), objective(2.0)
        curvature = at_0 - 2 * at_1 + at_2
        vertex = 1 + (at_0 - at_2) / (2 * curvature).clamp_min(1e-12)
        return Corrected(x0 - vertex.clamp(0, 16) * slope)


@dataclass(frozen=True)
class Langevin(Correction):
    """Langevin steps from x0: x += h s + √(2h) n with s = (x0 − x) / σ² − ∇‖y − f(x)‖² / τ².

    step: h of the first level, which falls linearly to a hundredth. count: of steps. tau: τ. All in
    the paper's [-1, 1] units. Source: DAPS (Zhang et al. 2024), algorithm 1, as its code has it.
    """

    step: float
    count: int
    tau: float

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        h = self.step / 4 * (1 - 0.99 * guess.progress)
        x0 = guess.x0
        x = x0.clone()
        for i in range(self.count):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                residual = evidence.residual(leaf, guess.generators(f"langevin{i}/operator"))
                (slope,) = torch.autograd.grad(dot(residual, residual).sum(), leaf)
            score = (x0 - x) / guess.sigma**2 - slope / (self.tau / 2) ** 2
            noise = guess.draws(f"langevin{i}").normal(x)
            x = x + h * score + (2 * h) ** 0.5 * noise
        return Corrected(x)


@dataclass(frozen=True)
class AdamOnImage(Correction):
    """One step of Adam on an image μ that persists; the denoiser sees μ with fresh noise.

    The loss is ½ mean (y − f(μ))² + weight · mean (μ − x0)² / 2, where x0 is a constant.
    lr: the learning rate in [-1, 1] units. Source: RED-diff (Mardani et al. 2024), algorithm 1,
    with its linear weighting.
    """

    lr: float = 0.1
    weight: float = 0.25

    def begin(self, evidence: Evidence, image: Tensor) -> torch.optim.Adam:
        leaf = image.detach().clone().requires_grad_()
        return torch.optim.Adam([leaf], self.lr / 2, betas=(0.9, 0.99))

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        assert isinstance(memory, torch.optim.Adam)
        (image,) = memory.param_groups[0]["params"]
        with torch.enable_grad():
            residual = evidence.residual(image, guess.generators("operator"))
            data = residual.square().mean((1, 2, 3)) / 2
            prior = (image - guess.x0.detach()).square().mean((1, 2, 3)) / 2
            (image.grad,) = torch.autograd.grad((data + self.weight * prior).sum(), image)
        memory.step()
        return Corrected(image.detach().clone())
