"""A photo is padded where a face that a generator draws reaches beyond its border."""

from __future__ import annotations

import math
from typing import Literal

import numpy
import torch
from torch import Tensor

import degrade

from .spot import Spot

REFLECTED = 0.3  # a photo is continued by at least this share of the square's side
Margins = tuple[int, int]  # pixels before and after a line


def padded(photo: Tensor, spot: Spot) -> tuple[Tensor, tuple[int, int]]:
    """Continue a photo where the square leaves it; also the number of columns and rows added.

    FFHQ's alignment does the same: it reflects the photo at its borders, blurs the added pixels and
    fades them to the median colour with the distance from the photo. The number is (left, top).
    Source: Karras et al. 2019 (StyleGAN), appendix A, and its published recipe.
    """
    height, width = photo.shape[2:]
    border = max(round(spot.side * 0.1), 3)
    across = _missing(spot, 0, width, border)
    down = _missing(spot, 1, height, border)
    if max(*across, *down) <= border - 4:
        return photo, (0, 0)
    least = round(spot.side * REFLECTED)
    left, right = (max(count, least) for count in across)
    top, bottom = (max(count, least) for count in down)
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    mode: Literal["reflect", "edge"] = "reflect"
    if min(height, width) == 1:  # a single row has nothing to reflect
        mode = "edge"
    continued = numpy.pad(photo.numpy(), widths, mode)
    x = torch.from_numpy(continued)
    outside_across = _outside(x.shape[3], left, right)
    outside_down = _outside(x.shape[2], top, bottom)
    outside = torch.maximum(outside_across, outside_down[:, None])
    sigma = min(100.0, spot.side * 0.02)
    blur = degrade.Blur("gaussian", sigma)
    blurred_share = (3 * outside + 1).clamp(0, 1)
    x = x + (blur(x) - x) * blurred_share
    median = x.flatten(2).median(2).values
    colour = median[..., None, None]
    x = x + (colour - x) * outside.clamp(0, 1)
    return x, (left, top)


def _missing(spot: Spot, axis: int, size: int, border: int) -> Margins:
    """How many pixels the square and a border need before and after the photo, along an axis."""
    low, high = spot.extent(axis)
    before = math.ceil(border - low)
    after = math.ceil(high - size + border)
    return max(0, before), max(0, after)


def _outside(size: int, before: int, after: int) -> Tensor:
    """For each pixel of a padded line: 1 at its ends, 0 where the photo begins, negative inside."""
    positions = torch.arange(size, dtype=torch.float32)
    from_start = positions / before
    from_end = (size - 1 - positions) / after
    return 1 - torch.minimum(from_start, from_end)
