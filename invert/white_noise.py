"""The last step of a restoration where nothing happened but white Gaussian noise.

A small network sees little of a photo at once, so that it smooths texture that repeats itself. Its
estimates of the image in all four orientations are averaged, and groups of similar patches give
another estimate (`similar`). How far that one is trusted is measured in the observation itself, by
Stein's unbiased estimate of the risk, at every place of the image.
Source: Stein 1981, "Estimation of the Mean of a Multivariate Normal Distribution"; Ramani, Blu &
Unser 2008, "Monte-Carlo SURE", for the divergence.
"""

from __future__ import annotations

from torch import Tensor

from degrade.levels import Clamp, Quantize
from degrade.noise import Gaussian
from degrade.operator import Operator

from .linear_model import linear_model
from .orientation import ALL_TURNS, averaged, known_turns, turned
from .problem import Problem
from .similar import ridge_estimate
from .strength import Strength
from .trials import local_mean

PROBE = 0.2  # of the noise level, by which the observation is moved to measure a derivative
WINDOW = 97  # pixels: the side of the square in which the risk is measured
LEAST = 1e-12  # of a mean square difference, so that nothing is divided by 0


def white_noise(operator: Operator) -> Gaussian | None:
    """The Gaussian noise that is all that happened, or that was only clamped and rounded then."""
    noise, *others = operator
    rounds_only = all(isinstance(stage, (Clamp, Quantize)) for stage in others)
    return noise if isinstance(noise, Gaussian) and rounds_only else None


def refines(operator: Operator, strength: Strength) -> bool:
    """Whether the error is white noise, as strong everywhere, that the network removes."""
    noise = white_noise(operator)
    if noise is None or strength.fixed is not None or not strength.levels:
        return False
    differs_by_channel = noise.gray == 0
    return differs_by_channel and isinstance(noise.sigma, (int, float))


def refined(problem: Problem, strength: Strength, x0: Tensor) -> Tensor:
    """A better estimate of the image than the network's, x0 [1, C, H, W]."""
    noise = white_noise(problem.operator)
    assert noise is not None and isinstance(noise.sigma, (int, float))
    sigma = noise.sigma / strength.response.slope
    (level,) = strength.levels
    y = linear_model(problem.operator, problem.observation, strength.response).observation

    def network(x: Tensor) -> Tensor:
        return problem.denoiser.denoise(x, level, problem.label)

    other_turns = known_turns(problem.denoiser, ALL_TURNS)
    pilot = averaged(x0, other_turns, lambda number: network(turned(y, number)))
    change = ridge_estimate(y, pilot, sigma) - pilot
    probe = PROBE * sigma * problem.rng("probe").normal(y)
    moved_y = y + probe
    moved_pilot = pilot + network(moved_y) - x0
    moved_change = ridge_estimate(moved_y, moved_pilot, sigma) - moved_pilot
    derivative = probe * (moved_change - change) / PROBE**2  # times sigma²
    return pilot + best_share(y - pilot, change, derivative) * change


def best_share(residual: Tensor, change: Tensor, derivative: Tensor) -> Tensor:
    """How much of a change makes the estimate best, from 0 to 1, [1, 1, H, W].

    residual: y minus the estimate. derivative: σ² ∂change/∂y of every pixel. The expected risk of
    the estimate plus a · change is least for a = E (residual · change − derivative) / E change².
    """
    agreement = (residual * change - derivative).mean(1, keepdim=True)
    size = change.square().mean(1, keepdim=True)
    share = local_mean(agreement, WINDOW) / local_mean(size, WINDOW).clamp_min(LEAST)
    return share.clamp(0, 1)
