"""The Bayer pattern of a sensor: which colour each pixel sees, and how the others are guessed."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import cached_constant


@cached_constant(maxsize=8)
def bayer(height: int, width: int) -> Tensor:
    """1 where a pixel keeps a colour, [1, 3, height, width]: RG in even rows, GB in odd ones."""
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    odd_row = rows[:, None] % 2
    odd_column = columns % 2
    red = (1 - odd_row) * (1 - odd_column)
    blue = odd_row * odd_column
    green = 1 - red - blue
    colors = torch.stack([red, green, blue])
    return colors[None]


def demosaicked(raw: Tensor) -> Tensor:
    """Bilinear demosaicking of raw values [B, 1, H, W] of even sides: [B, 3, H, W].

    A missing red or blue is the mean of its two or four neighbours, a missing green the mean of its
    two horizontal and its two vertical neighbours. Beyond the border the nearest sample counts.
    """
    height, width = raw.shape[2:]
    even_rows = _between(height, 0).to(raw)
    odd_rows = _between(height, 1).to(raw)
    even_columns = _between(width, 0).to(raw)
    odd_columns = _between(width, 1).to(raw)
    red = even_rows @ raw @ even_columns.mT
    blue = odd_rows @ raw @ odd_columns.mT
    green_beside_red = even_rows @ raw @ odd_columns.mT
    green_beside_blue = odd_rows @ raw @ even_columns.mT
    missing = (green_beside_red + green_beside_blue) / 2
    pattern = bayer(height, width).to(raw)
    is_green = pattern[:, 1:2] > 0
    green = torch.where(is_green, raw, missing)
    return torch.cat([red, green, blue], 1)


@cached_constant(maxsize=16)
def _between(n: int, first: int) -> Tensor:
    """Linear interpolation from each second of n pixels, from `first` on, to all, [n, n]."""
    matrix = torch.zeros(n, n, dtype=torch.float64)
    last = n - 2 + first
    for i in range(n):
        distance = (i + first) % 2  # to the samples on both sides
        for neighbour in (i - distance, i + distance):
            at_least_first = max(neighbour, first)
            nearest = min(at_least_first, last)
            matrix[i, nearest] += 0.5
    return matrix
