"""Find pixels that lost their value: dead (black), hot (white), or both (salt and pepper)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels: the side of the square in which the density of extreme pixels is measured
DEVIATIONS = 4.0  # of that density, beyond which extreme pixels are an area of the picture


def lost_pixels(y: Tensor, value: float, probability: float) -> Tensor:
    """The pixels [B, 1, H, W] that have `value` in all channels, except those of whole areas.

    y: [B, C, H, W]. value: 0 or 1. probability: that a pixel is lost. Lost pixels lie apart: around
    each, the share of such pixels follows the probability. In areas that are black or white by
    themselves the share is larger.
    """
    has_value = (y == value).all(1, keepdim=True)
    density = F.avg_pool2d(
        has_value.float(), WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False
    )
    deviation = math.sqrt(probability * (1 - probability)) / WINDOW
    # A single lost pixel is 1/49 of its own square.
    highest = probability + DEVIATIONS * deviation + 1 / WINDOW**2
    return has_value & (density <= highest)
