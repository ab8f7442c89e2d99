"""The noise levels of a diffusion model that was trained at numbered times.

At time t the model is given x_t = √ᾱ_t x0 + √(1−ᾱ_t) n with n ~ N(0, I), ᾱ_t = ∏(1−β_i) for i ≤ t.
Beside an image of scale 1 the noise has σ_t = √((1−ᾱ_t)/ᾱ_t), since x_t/√ᾱ_t = x0 + σ_t n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Betas = Tensor | Sequence[float] | str


def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Variances in a straight line (Ho et al. 2020)."""
    return torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")


def scaled_linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Variances whose square roots are in a straight line (Rombach et al. 2022)."""
    roots = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64, device="cpu")
    return roots.square()


def cosine(steps: int = 1000, first: float = 0.0, last: float = 0.0) -> Tensor:
    """Variances for which ᾱ is a squared cosine, at most 0.999 (Nichol & Dhariwal 2021).

    first and last have no effect.
    """
    times = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    alpha_bar = ((times + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(0.999)


NAMED: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
}


class NoiseTable:
    """The noise level of each time.

    betas: the variances of the steps, in (0, 1), or a name of NAMED. alpha_bar: the products of
    1 − β, falling within (0, 1); give one of the two. Raises ValueError for anything else.
    """

    def __init__(
        self, betas: Betas | None = None, alpha_bar: Tensor | Sequence[float] | None = None
    ):
        if (betas is None) == (alpha_bar is None):
            raise ValueError("give betas or alpha_bar, one of the two")
        if alpha_bar is None:
            self.alpha_bar = (1 - _variances(betas)).cumprod(0)
        else:
            self.alpha_bar = _numbers(alpha_bar)
        falling = (self.alpha_bar[1:] < self.alpha_bar[:-1]).all()
        within = ((self.alpha_bar > 0) & (self.alpha_bar < 1)).all()
        if not (falling and within):
            raise ValueError("alpha_bar must fall from step to step, between 1 and 0")
        self.sigmas = ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def time(self, sigma: Tensor) -> Tensor:
        """Return the time at which the noise level is sigma: linear in log σ between the steps.

        Times are fractions. Below and above the table they are its first and last time.
        """
        log_sigmas = self.sigmas.log().to(sigma.device)
        wanted = sigma.double().clamp_min(1e-30).log()
        above = torch.searchsorted(log_sigmas, wanted).clamp(1, len(self) - 1)
        below = above - 1
        gap = log_sigmas[above] - log_sigmas[below]
        share = (wanted - log_sigmas[below]) / gap
        return below + share.clamp(0, 1)

    def beta(self, time: Tensor) -> Tensor:
        """Return the variance β of the step at fractional times, by interpolating log β."""
        log_betas = self._betas().log().to(time.device)
        below = time.long().clamp(0, len(self) - 2)
        share = time - below
        return (log_betas[below] * (1 - share) + log_betas[below + 1] * share).exp()

    @property
    def second_variance(self) -> float:
        """β̃ = β (1−ᾱ')/(1−ᾱ) of the second step, the smallest that is not 0."""
        first, second = self.alpha_bar[:2]
        return float(self._betas()[1] * (1 - first) / (1 - second))

    def _betas(self) -> Tensor:
        before = torch.cat([torch.ones_like(self.alpha_bar[:1]), self.alpha_bar[:-1]])
        return 1 - self.alpha_bar / before


def _variances(betas: Betas | None) -> Tensor:
    if isinstance(betas, str):
        if betas not in NAMED:
            raise ValueError(f"betas={betas!r} is none of {', '.join(NAMED)}; give the variances")
        return NAMED[betas]()
    variances = _numbers(betas)
    if not ((variances > 0) & (variances < 1)).all():
        raise ValueError("betas must be variances between 0 and 1, one for each step")
    return variances


def _numbers(values: object) -> Tensor:
    """The values as a float64 tensor on the CPU. Raises ValueError for anything but a row."""
    numbers = torch.as_tensor(values, dtype=torch.float64, device="cpu").detach()
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError("the table of steps must be a row of at least two numbers")
    return numbers
