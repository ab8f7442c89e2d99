"""Clamp and quantize: the values that an image file can hold."""

from __future__ import annotations

import torch
from torch import Tensor

from . import surrogate
from .operator import Operator
from .params import Integer, decided, integer, option
from .registry import register
from .rng import Rng

# in steps: half a rounding interval, less a margin for later rounding errors
_SAFE = 0.5 - 1 / 64


@register("clamp", exact="min and max", gradient="2σ(1-σ) of 2x-1")
class Clamp(Operator):
    """Clamp to [0, 1].

    y = min(max(x, 0), 1). Gradient: the derivative 2σ(1-σ) of the sigmoid σ = σ(2x-1), which is ½
    at mid-grey and 0.39 at 0 and 1. Source: Poirier-Ginter & Lalonde 2023, eq. 11.

    `project`: y where 0 < y < 1. Where y is 0 or 1, only values on the wrong side of it move to it.
    """

    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return surrogate.clamp(x)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        where_white = x.clamp(min=1)
        where_black = x.clamp(max=0)
        not_black = torch.where(y >= 1, where_white, y)
        return torch.where(y <= 0, where_black, not_black)


@register("quantize", exact="round half to even, or down", gradient="cubic, or ste")
class Quantize(Operator):
    """Round to the grid k/(levels-1); values outside [0, 1] stay outside.

    y = round(x·(levels-1)) / (levels-1), with halves to even.

    levels: an integer from 2 to 2^16; 256 for 8-bit files.
    surrogate: the gradient. "cubic" is (1-α) + 3α d², with d the distance to the grid in steps and
        α = 0.8 (Poirier-Ginter & Lalonde 2023, eq. 15); "ste" is the straight-through estimator, 1.
    rounding: "nearest", or "down" to the next lower level, as numpy's uint8 does it. A value that
        differs from a level by less than 10⁻⁵ steps has this level, whatever the rounding errors
        before it were.

    `project`: the nearest value that rounds to y, kept 1/64 of a step inside the rounding interval.
    """

    levels: Integer = integer(default=256, low=2, high=2**16, per_image=False)
    surrogate: str = option("cubic", "ste", default="cubic")
    rounding: str = option("nearest", "down", default="nearest")
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        steps = decided(self.levels) - 1
        scaled = x * steps
        if self.rounding == "nearest":
            rounded = surrogate.round_half_even(scaled, self.surrogate)
        else:
            rounded = surrogate.round_down(scaled, self.surrogate)
        return rounded / steps

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        steps = decided(self.levels) - 1
        level = (y * steps).round()
        middle = level if self.rounding == "nearest" else level + 0.5
        lowest = middle - _SAFE
        highest = middle + _SAFE
        inside = torch.clamp(x * steps, lowest, highest)
        return inside / steps
