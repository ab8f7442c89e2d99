"""Estimate the strength of noise together with the image, by expectation maximisation.

The image and its uncertainty are estimated with the present sigma, then sigma from what the
denoiser removed and from that uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.choice import Identity
from degrade.levels import Clamp, Quantize
from degrade.noise import Gaussian
from degrade.operator import Operator, compose
from degrade.values import Range

from .denoiser import Denoiser
from .strength import local_mean

ROUNDS = 4  # of expectation maximisation
PART = 128  # pixels: sigma is estimated in parts of this side
PARTS = 2  # along the diagonal
PROBE = 0.1  # of sigma: the step of the finite difference that measures the divergence
FEWEST = 300  # values that sigma is measured from
LEAST_SHARE = 0.05  # of the noise that a denoiser removes at least
FAINTEST = 1.6 / 255  # photos show at most this much noise by themselves


@dataclass(frozen=True)
class Refined:
    """operator: with the refined sigma. words: what was refined, for readers; "" for nothing."""

    operator: Operator
    words: str = ""


@torch.no_grad()
def refine(operator: Operator, y: Tensor, denoiser: Denoiser) -> Refined:
    """Estimate the sigma of Gaussian noise that was only clamped and rounded afterwards.

    y: [1, C, h, w]. sigma: of the operator, is where the estimate starts; it may be a range. Noise
    that turns out to be no stronger than in every photo is left out. Other operators stay as they
    are.
    """
    noise, *others = operator
    if not isinstance(noise, Gaussian) or not only_rounds(others):
        return Refined(operator)
    sigma = noise_sigma(y, middle(noise.sigma), denoiser)
    if sigma < FAINTEST:
        return Refined(Identity(), "noise is no stronger than in every photo")
    refined = noise.with_values({"sigma": sigma})
    words = f"sigma refined from {noise.sigma} to {sigma:g}"
    return Refined(compose([refined, *others]), words)


def only_rounds(stages: Sequence[Operator]) -> bool:
    """Whether stages only bring values into the range and to the steps of a file."""
    return all(isinstance(stage, (Clamp, Quantize)) for stage in stages)


def middle(sigma: object) -> float:
    """Where to start: the value itself, or the geometric middle of a range."""
    if isinstance(sigma, Range):
        low = max(sigma.low, FAINTEST)
        return math.sqrt(low * max(low, sigma.high))
    assert isinstance(sigma, (int, float))
    return float(sigma)


def noise_sigma(y: Tensor, start: float, denoiser: Denoiser) -> float:
    """The standard deviation of white noise in y, with three digits.

    E (y − D)² = σ² (1 − d) for the best denoiser D, with d the mean of ∂Dᵢ/∂yᵢ: the posterior
    variance of the image is σ² d. The iteration σ² ← mean (y − D)² / (1 − d) ends where both agree.
    """
    parts = diagonal_parts(y)
    lowest, highest = denoiser.sigma_range
    sigma = min(max(start, lowest), highest)
    for _ in range(ROUNDS):
        removed, kept_share = removed_by(denoiser, parts, sigma)
        removable = max(1 - kept_share, LEAST_SHARE)
        sigma = min(max(math.sqrt(removed / removable), lowest), highest)
    return float(f"{sigma:.3g}")


def diagonal_parts(y: Tensor) -> Tensor:
    """Square parts [PARTS, C, s, s] from the upper left to the lower right."""
    height, width = y.shape[2:]
    side = min(PART, height, width)
    parts = []
    for number in range(1, PARTS + 1):
        share = number / (PARTS + 1)
        top = round(share * (height - side))
        left = round(share * (width - side))
        parts.append(y[..., top : top + side, left : left + side])
    return torch.cat(parts)


def removed_by(denoiser: Denoiser, parts: Tensor, sigma: float) -> tuple[float, float]:
    """(mean square of what is removed, mean of ∂Dᵢ/∂yᵢ), the latter with one random probe.

    Only the smoother half of the pixels counts: in texture, a denoiser errs more than it expects.
    """
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(parts.shape, generator=generator, dtype=torch.float32, device="cpu")
    signs = draws.sign().to(parts)
    step = PROBE * sigma
    estimate = denoiser.denoise(parts, sigma)
    moved = denoiser.denoise(parts + step * signs, sigma)
    texture = local_mean(estimate.square()) - local_mean(estimate).square()
    # Nearer to black or white, clipping took some of the noise.
    is_whole = (estimate > 2 * sigma) & (estimate < 1 - 2 * sigma)
    counts = is_whole & (texture <= texture.median())
    if int(counts.sum()) < FEWEST:
        return sigma**2, 0.0  # nothing is known, and sigma stays
    derivatives = signs * (moved - estimate) / step
    squares = (parts - estimate).square()
    return float(squares[counts].mean()), float(derivatives[counts].mean())
