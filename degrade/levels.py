"""What a file can hold: values clamped to [0, 1] on a grid of levels."""

from __future__ import annotations

import torch
from torch import Tensor

from . import surrogate as s
from .operator import Operator
from .params import Integer, integer, option
from .registry import register
from .rng import Rng

_SAFE = (
    0.5 - 1 / 64
)  # of a step: what stays of half a cell, so that later rounding errors do not leave it


@register("clamp", exact="min and max", gradient="2σ(1-σ) of 2x-1")
class Clamp(Operator):
    """Clamp to [0, 1].

    Gradient: d/dx σ(2(x-½)) = 2σ(1-σ), ½ at mid-grey and 0.39 at 0 and 1. Source: eq. 11 of
    Poirier-Ginter & Lalonde 2023.

    `project`: y where 0 < y < 1; where y is 0 or 1, only what is on the wrong side of it moves.
    """

    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return s.clamp(x)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(y <= 0, x.clamp(max=0), torch.where(y >= 1, x.clamp(min=1), y))


@register("quantize", exact="round half to even", gradient="cubic, or ste")
class Quantize(Operator):
    """Round half to even to the grid k/(levels-1) of a file; values outside [0, 1] stay outside.

    levels: 2 to 2^16, 256 for 8-bit files. surrogate: "cubic", (1-α) + 3α d² with d the distance
    to the grid in steps and α = 0.8 (eq. 15), or "ste", straight through.

    `project`: the nearest value that is rounded to y, 1/64 of a step off the edges of its cell.
    """

    levels: Integer = integer(default=256, low=2, high=2**16, per_image=False)
    surrogate: str = option("cubic", "ste", default="cubic")
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return s.round_half_even(x * (self.levels - 1), self.surrogate) / (self.levels - 1)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        steps = self.levels - 1
        level = (y * steps).round()
        return torch.clamp(x * steps, level - _SAFE, level + _SAFE) / steps
