"""The gradients of JPEG by name, by use, and as slopes of the quantiser.

A slope is the declared derivative of a rounded coefficient with respect to the unrounded one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..params import check_choice
from ..surrogate import CUBIC_BLEND

_BLEND_FORTH = 0.95  # α of "residual"; chosen by descent to files of quality 50 and 90

SURROGATES = ("identity", "residual", "cubic", "ste", "smoothed")
CLAMPS = ("sigmoid", "hard", "ste")
# What the gradient is used for, and the surrogate that is measured to be the best for it
USES = {
    "inversion": "identity",
    "descent": "residual",
    "robustness": "smoothed",
    "quality": "identity",  # the gradient to quality and tables is the same for every surrogate
}
_DEFAULT_USE = "inversion"

_NOISE = 4.0  # levels; the standard deviation that "smoothed" assumes for each coefficient
_FLOOR = 0.1  # the least slope of "smoothed", so that a coefficient far from a tie can still move

# (distance of a coefficient to the nearest integer, its quantiser step in levels) → slope
Slope = Callable[[Tensor, Tensor], Tensor]


def surrogate_for(surrogate: str | None, for_use: str | None) -> str:
    """The name of the surrogate: the one that is given, or the best one for a use."""
    if surrogate is not None and for_use is not None:
        raise ValueError(
            f"surrogate={surrogate} and for_use={for_use} both choose the gradient; give one"
        )
    if surrogate is not None:
        check_choice("surrogate", surrogate, SURROGATES)
        return surrogate
    use = _DEFAULT_USE if for_use is None else for_use
    check_choice("for_use", use, tuple(USES))
    return USES[use]


def slope_of_quantiser(surrogate: str, luma: bool) -> Slope | None:
    """The slope of a plane's quantiser for the gradient of the image; None where it is 1."""
    if surrogate == "residual":
        return _cubic_of_residual if luma else None
    return {"cubic": _cubic_of_image, "smoothed": smoothed}.get(surrogate)


def _cubic(distance: Tensor, blend: float) -> Tensor:
    """(1-α) + 3α d²: Poirier-Ginter & Lalonde 2023, eq. 15, from Shin & Song 2017."""
    slope = distance.square().mul_(3 * blend)
    return slope.add_(1 - blend)


def _cubic_of_image(distance: Tensor, _: Tensor) -> Tensor:
    return _cubic(distance, CUBIC_BLEND)


def _cubic_of_residual(distance: Tensor, _: Tensor) -> Tensor:
    return _cubic(distance, _BLEND_FORTH)


def smoothed(distance: Tensor, step: Tensor) -> Tensor:
    """The derivative of the expected rounded coefficient if noise is added before the rounding.

    Rounding jumps by 1 at each tie, and so the derivative of its expectation is the density of the
    noise at the ties. The noise has a standard deviation of σ levels and a von Mises distribution,
    which is nearly normal and has a closed form over all ties: with κ = (q / 2πσ)², the slope is
    exp(-κ (1 + cos 2πd)) / (e⁻ᵏ I₀(κ)). Its mean over d is 1. It is narrow where the step q is
    large, and 1 where q is small.
    """
    concentration = (step / (2 * math.pi * _NOISE)).square()
    peak = (1 - _FLOOR) / torch.special.i0e(concentration)
    angle = distance * (2 * math.pi)
    below_peak = angle.cos_().add_(1).mul_(-concentration)
    return below_peak.exp_().mul_(peak).add_(_FLOOR)
