"""Estimates of turned images, averaged: the errors of a network differ in every orientation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import Denoiser

ALL_TURNS = (1, 2, 3)  # quarter turns
HALF_TURN = (2,)
_SIDES = (2, 3)  # the dimensions of height and width


def averaged(x0: Tensor, turns: Sequence[int], estimate: Callable[[int], Tensor]) -> Tensor:
    """The mean of x0 [B, C, H, W] and of the estimates of images that were turned and back.

    turns: how many quarter turns for each. estimate: takes that number, and returns the estimate of
    the turned image.
    """
    total = x0
    for number in turns:
        total = total + turned(estimate(number), -number)
    return total / (1 + len(turns))


def turned(x: Tensor, number: int) -> Tensor:
    """An image or a map [B, C, H, W] after quarter turns, counted against the clock."""
    return torch.rot90(x, number, _SIDES)


def known_turns(denoiser: Denoiser, turns: Sequence[int]) -> Sequence[int]:
    """Those turns after which the denoiser knows the image: none if it is for upright ones."""
    return () if denoiser.upright else turns
