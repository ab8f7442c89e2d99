"""Estimate parameters of the operator: the strength of noise, and ranges of a blur.

The strength of noise is estimated together with the image, by expectation maximisation. One round
estimates the image and its uncertainty with the present sigma, then a new sigma from what the
denoiser removed and from that uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.choice import Identity
from degrade.filter import Blur
from degrade.operator import Operator, compose
from degrade.values import Range

from .blind_blur import estimated_blur, is_at_end, unknown_in
from .denoiser import Denoiser
from .descent import within
from .trials import local_mean
from .white_noise import white_noise

ROUNDS = 4  # of expectation maximisation
PART = 128  # pixels: sigma is estimated in parts of this side
PARTS = 2  # how many parts there are, along the diagonal
PROBE = 0.1  # the step of the finite difference that measures the divergence, relative to sigma
FEWEST = 300  # values: sigma is not measured from fewer
LEAST_SHARE = 0.05  # the share of the noise that a denoiser removes at least
FAINTEST = 1.6 / 255  # photos show at most this much noise by themselves


@dataclass(frozen=True)
class Refined:
    """operator: with the refined sigma. words: what was changed, for readers; "" if nothing was."""

    operator: Operator
    words: str = ""


@torch.no_grad()
def refine(operator: Operator, y: Tensor, denoiser: Denoiser) -> Refined:
    """Estimate the sigma of Gaussian noise that was only clamped and rounded afterwards.

    y: [1, C, h, w]. The estimate starts at the operator's sigma, which may be a range. Noise that
    is no stronger than in every photo is left out. Ranges of the size and the angle of a blur are
    estimated if no later stage changes the size of the image. Other operators are returned as they
    are.
    """
    first, *others = operator
    if isinstance(first, Blur) and unknown_in(first):
        return _with_blur(first, others, y)
    noise = white_noise(operator)
    if noise is None:
        return Refined(operator)
    start = middle(noise.sigma)
    sigma = noise_sigma(y, start, denoiser)
    if sigma < FAINTEST:
        return Refined(Identity(), "noise is no stronger than in every photo")
    refined = noise.with_values({"sigma": sigma})
    words = f"sigma refined from {noise.sigma} to {sigma:g}"
    return Refined(compose([refined, *others]), words)


def _with_blur(blur: Blur, others: list[Operator], y: Tensor) -> Refined:
    """The operator with the estimated size and angle of its blur."""
    shape = tuple(y.shape)
    keep_size = all(tuple(stage.output_shape(shape)) == shape for stage in others)
    if not keep_size:
        return Refined(compose([blur, *others]))
    estimate = estimated_blur(y, blur)
    words = f"{blur} estimated as {estimate}"
    if is_at_end(blur, estimate):
        words += ", the end of a range; a wider range may fit better"
    return Refined(compose([estimate, *others]), words)


def middle(sigma: object) -> float:
    """The geometric middle of a range of sigma, or sigma itself if it is a number."""
    if isinstance(sigma, Range):
        low = max(sigma.low, FAINTEST)
        high = max(low, sigma.high)
        return math.sqrt(low * high)
    assert isinstance(sigma, (int, float))
    return float(sigma)


def noise_sigma(y: Tensor, start: float, denoiser: Denoiser) -> float:
    """Estimate the standard deviation of white noise in y [1, C, h, w], with three digits.

    For the best denoiser D, the posterior variance of the image is σ² d, where d is the mean of
    ∂Dᵢ/∂yᵢ, so that E (y − D)² = σ² (1 − d). The iteration is σ² ← mean (y − D)² / (1 − d).
    """
    parts = diagonal_parts(y)
    lowest, highest = denoiser.sigma_range
    sigma = within(start, lowest, highest)
    for _ in range(ROUNDS):
        removed, kept_share = removed_by(denoiser, parts, sigma)
        removed_share = max(1 - kept_share, LEAST_SHARE)
        estimate = math.sqrt(removed / removed_share)
        sigma = within(estimate, lowest, highest)
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
        rows = slice(top, top + side)
        columns = slice(left, left + side)
        parts.append(y[..., rows, columns])
    return torch.cat(parts)


def removed_by(denoiser: Denoiser, parts: Tensor, sigma: float) -> tuple[float, float]:
    """Return the mean square of what is removed, and the mean of ∂Dᵢ/∂yᵢ, measured by one probe.

    Only the smoother half of the pixels counts: in texture, a denoiser errs more than it expects.
    """
    signs = random_signs(parts)
    step = PROBE * sigma
    estimate = denoiser.denoise(parts, sigma)
    moved = denoiser.denoise(parts + step * signs, sigma)
    counts = is_reliable(estimate, sigma)
    if int(counts.sum()) < FEWEST:
        return sigma**2, 0.0  # nothing can be measured, and sigma stays
    derivatives = signs * (moved - estimate) / step
    squares = (parts - estimate).square()
    removed = squares[counts].mean()
    kept_share = derivatives[counts].mean()
    return float(removed), float(kept_share)


def random_signs(like: Tensor) -> Tensor:
    """The same random -1 and 1 at every call, in the shape, type and device of a tensor."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(like.shape, generator=generator, dtype=torch.float32, device="cpu")
    return draws.sign().to(like)


def is_reliable(estimate: Tensor, sigma: float) -> Tensor:
    """Which values are in smooth areas, and so far from 0 and 1 that no noise was clipped."""
    texture = local_mean(estimate.square()) - local_mean(estimate).square()
    is_smooth = texture <= texture.median()
    is_above_black = estimate > 2 * sigma
    is_below_white = estimate < 1 - 2 * sigma
    is_unclipped = is_above_black & is_below_white
    return is_unclipped & is_smooth
