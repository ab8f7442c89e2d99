"""The gradients of JPEG by name, by use, and as slopes of the quantiser.

A slope is the declared derivative of a rounded coefficient with respect to the unrounded one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import Range, check_choice, check_numbers
from ..surrogate import CUBIC_BLEND

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

# α of the surrogates that have one. That of "residual" was chosen by descent to files of quality 50
# and 90.
ALPHAS = {"residual": 0.95, "cubic": CUBIC_BLEND, "smoothed": 1.0}
_NOISE = 2.0  # levels; half of the changes that "smoothed" expects of a coefficient are smaller

# (distance of a coefficient to the nearest integer, its quantiser step in levels) → slope. The
# memory of the distances is used for the slopes.
Slope = Callable[[Tensor, Tensor], Tensor]


class Surrogate(NamedTuple):
    """A gradient of JPEG by its name, and how much of its slope depends on the coefficient."""

    name: str
    alpha: float


def surrogate_for(
    surrogate: str | None, for_use: str | None, alpha: float | None = None
) -> Surrogate:
    """The surrogate that is given, or the best one for a use, with the given α or its own."""
    name = _name_for(surrogate, for_use)
    if alpha is None:
        return Surrogate(name, ALPHAS.get(name, 0.0))
    if name not in ALPHAS:
        names = ", ".join(ALPHAS)
        raise ValueError(f"alpha={alpha}: the surrogate {name} has no alpha; these have: {names}")
    checked = check_numbers("alpha", alpha, 0, 1)
    if isinstance(checked, (tuple, Range)):
        raise ValueError(f"alpha={alpha} must be one number from 0 to 1")
    return Surrogate(name, float(checked))


def _name_for(surrogate: str | None, for_use: str | None) -> str:
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


def slope_of_quantiser(surrogate: str, alpha: float, luma: bool) -> Slope | None:
    """The slope of a plane's quantiser for the gradient of the image; None where it is 1.

    It is (1-α) + α s(d), where s is large near a jump (d = ½) and small elsewhere.
    """
    if alpha == 0 or (surrogate == "residual" and not luma):
        return None
    if surrogate == "smoothed":
        return partial(smoothed, alpha=alpha)
    return partial(cubic, alpha=alpha)


def cubic(distance: Tensor, _: Tensor, alpha: float) -> Tensor:
    """(1-α) + 3α d²: Poirier-Ginter & Lalonde 2023, eq. 15, from Shin & Song 2017."""
    return distance.square_().mul_(3 * alpha).add_(1 - alpha)


def smoothed(distance: Tensor, step: Tensor, alpha: float = 1) -> Tensor:
    """The derivative of the expected rounded coefficient if noise is added before the rounding.

    Rounding jumps by 1 at each tie, and so the derivative of its expectation is the density of the
    noise, in steps, summed over all ties. The noise has a Cauchy distribution, of which half is
    within 2 levels, and the sum has a closed form: with t = tanh(2π/q) for a step of q levels, the
    slope is t / (t² + (1 - t²) cos² πd). Its mean over d is 1. It is 1 where q is small. Where q is
    large it is about 2π/q far from a tie, and the inverse of that at the tie. α blends it with 1.
    """
    least = torch.tanh(math.pi * _NOISE / step)
    range_of_inverse = least.reciprocal() - least
    cosine = distance.mul_(math.pi).cos_()
    inverse = cosine.square_().mul_(range_of_inverse).add_(least)
    slope = inverse.reciprocal_()
    return slope if alpha == 1 else slope.mul_(alpha).add_(1 - alpha)
