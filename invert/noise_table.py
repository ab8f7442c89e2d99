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
    return _straight_line(first, last, steps)


def scaled_linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Variances whose square roots are in a straight line (Rombach et al. 2022)."""
    roots = _straight_line(first**0.5, last**0.5, steps)
    return roots.square()


def cosine(steps: int = 1000, first: float = 0.0, last: float = 0.0) -> Tensor:
    """Variances for which ᾱ is a squared cosine, at most 0.999 (Nichol & Dhariwal 2021).

    first and last have no effect.
    """
    numbers = torch.arange(steps + 1, dtype=torch.float64, device="cpu")
    times = numbers / steps
    angles = (times + 0.008) / 1.008 * math.pi / 2
    alpha_bar = angles.cos().square()
    ratios = alpha_bar[1:] / alpha_bar[:-1]
    variances = 1 - ratios
    return variances.clamp_max(0.999)


def _straight_line(first: float, last: float, steps: int) -> Tensor:
    return torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")


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
            variances = _variances(betas)
            self.alpha_bar = (1 - variances).cumprod(0)
        else:
            self.alpha_bar = _numbers(alpha_bar)
        _check_falling(self.alpha_bar)
        squares = (1 - self.alpha_bar) / self.alpha_bar
        self.sigmas = squares.sqrt()

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def time(self, sigma: Tensor) -> Tensor:
        """Return the time at which the noise level is sigma: linear in log σ between the steps.

        Times are fractions, in float64 on the CPU. A level outside the table gets the first or the
        last time.
        """
        log_table = self.sigmas.log()
        log_sigma = sigma.detach().cpu().double().log()
        last = len(self) - 1
        above = torch.searchsorted(log_table, log_sigma)
        above = above.clamp(1, last)
        below = above - 1
        low = log_table[below]
        high = log_table[above]
        share = (log_sigma - low) / (high - low)
        return below + share.clamp(0, 1)

    def variance(self, share: Tensor, sigma: Tensor, time: Tensor) -> Tensor:
        """Return Var[x0 | x] in float64, from the learned variance of a denoising step.

        share: the network's output v ∈ [-1, 1], which stands for the variance Σ of x_{t-1} given
        x_t, log Σ = ½(v+1) log β + ½(1−v) log β̃ (Nichol & Dhariwal 2021), where
        β̃ = β (1−ᾱ')/(1−ᾱ) and ᾱ' = ᾱ/(1−β). By the law of total variance
        Var[x0 | x_t] = (Σ − β̃)/c² with c = β √ᾱ'/(1−ᾱ) (Peng et al. 2024).
        sigma: the noise level. time: its time. Between the steps log β is interpolated linearly.
        """
        beta = self.beta(time)
        square = sigma.double().square()
        alpha_bar = 1 / (1 + square)
        alpha_bar_before = alpha_bar / (1 - beta)
        alpha_bar_before = alpha_bar_before.clamp_max(1)
        lower = beta * (1 - alpha_bar_before) / (1 - alpha_bar)
        # The lower variance β̃ of the first step is 0. Networks are trained with the second step's.
        trained_lower = lower.clamp_min(self._second_variance())
        upper_part = (1 + share) / 2 * beta.log()
        lower_part = (1 - share) / 2 * trained_lower.log()
        total = (upper_part + lower_part).exp()
        scale = beta * alpha_bar_before.sqrt() / (1 - alpha_bar)
        return (total - lower) / scale.square()

    def beta(self, time: Tensor) -> Tensor:
        """Return the variance β of the step at fractional times, by interpolating log β."""
        log_table = self._betas().log()
        log_table = log_table.to(time.device)
        last_but_one = len(self) - 2
        below = time.long().clamp(0, last_but_one)
        above = below + 1
        share = time - below
        log_beta = log_table[below] * (1 - share) + log_table[above] * share
        return log_beta.exp()

    def _second_variance(self) -> float:
        """β̃ of the second step, the smallest that is not 0."""
        first, second = self.alpha_bar[:2]
        beta = self._betas()[1]
        lower = beta * (1 - first) / (1 - second)
        return float(lower)

    def _betas(self) -> Tensor:
        """The variance of every step."""
        earlier = self.alpha_bar[:-1]
        before_first = torch.ones_like(self.alpha_bar[:1])
        before = torch.cat([before_first, earlier])
        return 1 - self.alpha_bar / before


def _check_falling(alpha_bar: Tensor) -> None:
    """Raise ValueError unless the products of 1 − β fall within (0, 1)."""
    falling = (alpha_bar.diff() < 0).all()
    below_one = alpha_bar[0] < 1
    above_zero = alpha_bar[-1] > 0
    if not (falling and below_one and above_zero):
        raise ValueError("alpha_bar must fall from step to step, between 1 and 0")


def _variances(betas: Betas | None) -> Tensor:
    if isinstance(betas, str):
        if betas not in NAMED:
            raise ValueError(f"betas={betas!r} is none of {', '.join(NAMED)}; give the variances")
        return NAMED[betas]()
    variances = _numbers(betas)
    possible = (variances > 0) & (variances < 1)
    if not possible.all():
        raise ValueError("betas must be variances between 0 and 1, one for each step")
    return variances


def _numbers(values: object) -> Tensor:
    """The values as a float64 tensor on the CPU. Raises ValueError for anything but a row."""
    numbers = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError("the table of steps must be a row of at least two numbers")
    return numbers.detach()
