"""The noise levels of a diffusion model that was trained at numbered times.

At time t the model is given x_t = √ᾱ_t x0 + √(1−ᾱ_t) n with n ~ N(0, I), ᾱ_t = ∏(1−β_i) for i ≤ t.
Beside an image of scale 1 the noise has σ_t = √((1−ᾱ_t)/ᾱ_t), since x_t/√ᾱ_t = x0 + σ_t n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Values = Tensor | Sequence[float]
Betas = Values | str


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

    def __init__(self, betas: Betas | None = None, alpha_bar: Values | None = None):
        if (betas is None) == (alpha_bar is None):
            raise ValueError("give betas or alpha_bar, one of the two")
        if alpha_bar is None:
            self.alpha_bar = (1 - _variances(betas)).cumprod(0)
        else:
            self.alpha_bar = _numbers(alpha_bar)
        steps = self.alpha_bar.diff()
        first, last = self.alpha_bar[0], self.alpha_bar[-1]
        if not ((steps < 0).all() and first < 1 and last > 0):
            raise ValueError("alpha_bar must fall from step to step, between 1 and 0")
        squares = (1 - self.alpha_bar) / self.alpha_bar
        self.sigmas = squares.sqrt()

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def time(self, sigma: Tensor) -> Tensor:
        """Return the time at which the noise level is sigma: linear in log σ between the steps.

        Times are fractions, in float64 on the CPU. Below and above the table they are its first and
        last time.
        """
        table = self.sigmas.log()
        wanted = sigma.detach().cpu().double().log()
        above = torch.searchsorted(table, wanted)
        above = above.clamp(1, len(self) - 1)
        below = above - 1
        share = (wanted - table[below]) / (table[above] - table[below])
        return below + share.clamp(0, 1)

    def variance(self, share: Tensor, sigma: Tensor, time: Tensor) -> Tensor:
        """Return Var[x0 | x], in float64, from what a network learned of the step before.

        share: the network's output v ∈ [-1, 1], which stands for the variance Σ of x_{t-1} given
        x_t, log Σ = ½(v+1) log β + ½(1−v) log β̃ (Nichol & Dhariwal 2021), where
        β̃ = β (1−ᾱ')/(1−ᾱ) and ᾱ' = ᾱ/(1−β). By the law of total variance
        Var[x0 | x_t] = (Σ − β̃)/c² with c = β √ᾱ'/(1−ᾱ) (Peng et al. 2024).
        sigma: the noise level. time: its time. Between the steps log β is interpolated linearly.
        """
        beta = self.beta(time)
        alpha_bar = 1 / (1 + sigma.double().square())
        alpha_bar_before = (alpha_bar / (1 - beta)).clamp_max(1)
        lower = beta * (1 - alpha_bar_before) / (1 - alpha_bar)
        # at the first step the lower variance is 0, and networks are trained with the second's
        trained_lower = lower.clamp_min(self._second_variance())
        upper_part = (1 + share) / 2 * beta.log()
        lower_part = (1 - share) / 2 * trained_lower.log()
        total = (upper_part + lower_part).exp()
        scale = beta * alpha_bar_before.sqrt() / (1 - alpha_bar)
        return (total - lower) / scale.square()

    def beta(self, time: Tensor) -> Tensor:
        """Return the variance β of the step at fractional times, by interpolating log β."""
        table = self._betas().log().to(time.device)
        below = time.long().clamp(0, len(self) - 2)
        above = below + 1
        share = time - below
        log_beta = table[below] * (1 - share) + table[above] * share
        return log_beta.exp()

    def _second_variance(self) -> float:
        """β̃ of the second step, the smallest that is not 0."""
        first, second = self.alpha_bar[:2]
        beta = self._betas()[1]
        return float(beta * (1 - first) / (1 - second))

    def _betas(self) -> Tensor:
        ones = torch.ones_like(self.alpha_bar[:1])
        before = torch.cat([ones, self.alpha_bar[:-1]])
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
