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

from degrade.rng import Rng

from .evidence import Evidence
from .linear_model import ROUNDING, dot
from .problem import Problem, streams

_PROBE = 0.1  # of the noise level, by which an image is shifted to measure a derivative
_LEAST_SPREAD = 1e-3  # of x around its estimate, in [0, 1] units
_LONGEST = 16.0  # step of `Descend`, in units of the gradient


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
    """Base of all corrections.

    through_denoiser: whether it needs the gradient from x0 to z. needs_linear: whether it needs the
    operator's linear part A, and not its gradient alone.
    """

    through_denoiser: bool = False
    needs_linear: bool = True

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
        if guess.problem.denoiser.learned_variance:
            variance = self._learned(guess)
        else:
            variance = self._probed(guess)
        mean_variance = variance.mean((1, 2, 3), keepdim=True)
        within_range = mean_variance.clamp(_LEAST_SPREAD**2, guess.sigma**2)
        return within_range.sqrt()

    def _learned(self, guess: Guess) -> Tensor:
        problem = guess.problem
        return problem.denoiser.variance(guess.z.detach(), guess.sigma, problem.label)

    def _probed(self, guess: Guess) -> Tensor:
        """σ² p ⊙ J p for a random p of signs, whose mean is σ² tr(J) / N."""
        problem = guess.problem
        z = guess.z.detach()
        probe = guess.draws("probe").normal(z).sign()
        shift = _PROBE * guess.sigma
        shifted = problem.denoiser.denoise(z + shift * probe, guess.sigma, problem.label)
        derivative = (shifted - guess.x0.detach()) / shift
        return guess.sigma**2 * probe * derivative


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
        x0 = guess.x0
        operator = guess.problem.operator
        if operator.certain:
            projected = operator.project(x0, evidence.observation)
            return Corrected(torch.lerp(x0, projected, self.blend))
        least_squares = evidence.model.nearest(x0, 1.0, ROUNDING)
        error = torch.where(evidence.error > ROUNDING, evidence.error, 0.0)
        trust = guess.next_sigma / error.clamp_min(1e-9)
        share = self.blend * trust.clamp_max(1)
        corrected = x0 + share * (least_squares - x0)
        return Corrected(corrected, share * error)


@dataclass(frozen=True)
class Prox(Correction):
    """The proximal point: x̂ = argmin ‖y − A x‖² / error² + ‖x − x0‖² / r².

    spread: r. Source: DiffPIR (Zhu et al. 2023), eq. 12.
    """

    spread: Spread

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        r = self.spread(guess)
        nearest = evidence.model.nearest(guess.x0, r, evidence.error)
        return Corrected(nearest)


@dataclass(frozen=True)
class Draw(Correction):
    """Draw x̂ from the density exp(−‖y − A x‖² / 2 error² − ‖x − x0‖² / 2 r²).

    The proximal point of an x0 and a y with fresh noise is an exact draw. spread: r.
    Source: DAPS (Zhang et al. 2024), eq. 7, for a linear model.
    """

    spread: Spread

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        x0 = guess.x0
        y = evidence.model.observation
        r = self.spread(guess)
        noisy_x0 = x0 + r * guess.draws("x").normal(x0)
        noisy_y = y + evidence.error * guess.draws("y").normal(y)
        model = replace(evidence.model, observation=noisy_y)
        drawn = model.nearest(noisy_x0, r, evidence.error)
        return Corrected(drawn)


@dataclass(frozen=True)
class Guide(Correction):
    """Follow the likelihood through the denoiser: x̂ = x0 + σ² Jᵀ Aᵀ(error² + r² A Aᵀ)⁻¹(y − A x0).

    spread: r. Source: ΠGDM (Song et al. 2023), eq. 7, with the factor of Tweedie's formula.
    """

    spread: Spread
    through_denoiser = True

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        x0 = guess.x0.detach()
        r = self.spread(guess)
        nearest = evidence.model.nearest(x0, r, evidence.error)
        factor = (guess.sigma / r) ** 2
        step = factor * guess.pulled_back(nearest - x0)
        return Corrected(x0 + step)


@dataclass(frozen=True)
class NormGuide(Correction):
    """Step down the gradient of ‖y − f(x0)‖ through the denoiser, by a step of fixed factor.

    With the ancestral step (`Ddim`) this is x_t' − ζ ∇‖y − f(x0)‖ in the paper's units.
    step: ζ. Source: DPS (Chung et al. 2023), algorithm 1, as its code has it.
    """

    step: float
    through_denoiser = True
    needs_linear = False

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        with torch.enable_grad():
            image = guess.x0.clamp(0, 1)
            residual = evidence.residual(image, guess.generators("operator"))
            norm = dot(residual, residual).sqrt()
            (gradient,) = torch.autograd.grad(norm.sum(), guess.z)
        factor = self.step / 2
        factor /= alpha(guess.sigma) * alpha(guess.next_sigma)
        weight_of_x0 = 1 - (guess.next_sigma / guess.sigma) ** 2  # in the ancestral step
        step = factor / weight_of_x0 * gradient
        return Corrected(guess.x0.detach() - step)


@dataclass(frozen=True)
class Descend(Correction):
    """One step of steepest descent on ‖y − f(x)‖² / error² + ‖x − x0‖² / σ² from x0.

    f's surrogate gradient gives the direction. The length is the vertex of the parabola through the
    objective at three points. The denoiser is not differentiated.
    Source: MPGD (He et al. 2024), algorithm 1, which has a step size per task.
    """

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        x0 = guess.x0.detach()
        slope = slope_of_residual(x0, guess, evidence, "operator")

        def objective(length: float) -> Tensor:
            x = x0 - length * slope
            residual = evidence.residual(x, guess.generators("operator"))
            data = dot(residual, residual) / evidence.error**2
            prior = length**2 * dot(slope, slope) / guess.sigma**2
            return data + prior

        at_0 = objective(0.0)
        at_1 = objective(1.0)
        at_2 = objective(2.0)
        curvature = at_0 - 2 * at_1 + at_2
        length = 1 + (at_0 - at_2) / (2 * curvature).clamp_min(1e-12)
        step = length.clamp(0, _LONGEST) * slope
        return Corrected(x0 - step)


@dataclass(frozen=True)
class Langevin(Correction):
    """Langevin steps from x0: x += h s + √(2h) n with s = (x0 − x) / σ² − ∇‖y − f(x)‖² / τ².

    step: h of the first level, which falls linearly to a hundredth. count: of steps. tau: τ. All in
    the paper's [-1, 1] units. Source: DAPS (Zhang et al. 2024), algorithm 1, as its code has it.
    """

    step: float
    count: int
    tau: float
    needs_linear = False

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        h = self.step / 4 * (1 - 0.99 * guess.progress)
        tau = self.tau / 2
        x0 = guess.x0
        x = x0.clone()
        for i in range(self.count):
            key = f"langevin{i}"
            slope = slope_of_residual(x, guess, evidence, f"{key}/operator")
            towards_x0 = (x0 - x) / guess.sigma**2
            score = towards_x0 - 2 * slope / tau**2
            noise = guess.draws(key).normal(x)
            x = x + h * score + math.sqrt(2 * h) * noise
        return Corrected(x)


def slope_of_residual(x: Tensor, guess: Guess, evidence: Evidence, purpose: str) -> Tensor:
    """The gradient of ½ ‖y − f(x)‖², by f's surrogate gradient."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        residual = evidence.residual(leaf, guess.generators(purpose))
        half_square = dot(residual, residual).sum() / 2
        (slope,) = torch.autograd.grad(half_square, leaf)
    return slope


@dataclass(frozen=True)
class AdamOnImage(Correction):
    """One step of Adam on an image μ that persists; the denoiser sees μ with fresh noise.

    The loss is ½ mean (y − f(μ))² + weight · mean (μ − x0)² / 2, where x0 is a constant.
    lr: the learning rate in [-1, 1] units. Source: RED-diff (Mardani et al. 2024), algorithm 1,
    with its linear weighting.
    """

    lr: float = 0.1
    weight: float = 0.25
    needs_linear = False

    def begin(self, evidence: Evidence, image: Tensor) -> torch.optim.Adam:
        leaf = image.detach().clone().requires_grad_()
        return torch.optim.Adam([leaf], self.lr / 2, betas=(0.9, 0.99))

    def __call__(self, guess: Guess, evidence: Evidence, memory: object) -> Corrected:
        assert isinstance(memory, torch.optim.Adam)
        (image,) = memory.param_groups[0]["params"]
        with torch.enable_grad():
            residual = evidence.residual(image, guess.generators("operator"))
            away = image - guess.x0.detach()
            data = residual.square().mean((1, 2, 3)) / 2
            prior = away.square().mean((1, 2, 3)) / 2
            loss = data + self.weight * prior
            (image.grad,) = torch.autograd.grad(loss.sum(), image)
        memory.step()
        return Corrected(image.detach().clone())
