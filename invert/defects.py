"""Pixels that lost their value at unknown places: found in the observation, they become a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from degrade.forensics.defects import lost_pixels
from degrade.mask import Mask
from degrade.operator import Operator, compose

from .problem import Problem


@runtime_checkable
class LosesPixels(Protocol):
    """An operator that gives some pixels a fixed value, whatever they were."""

    def lost(self) -> dict[float, float]:
        """The probability of each value, 0 or 1, that a lost pixel may have."""


def with_found_mask(problem: Problem) -> tuple[Problem, str]:
    """The same problem of one image with a mask in place of unknown pixels, and a note.

    Only the last stage can be replaced, or one that is followed by stages that keep black and white
    pixels as they are. Otherwise the problem stays, and the note is "".
    """
    stages = list(problem.operator)
    for i, stage in enumerate(stages):
        if stage.linear or not isinstance(stage, LosesPixels):
            continue
        if not keeps_extremes(stages[i + 1 :], problem.observation):
            continue
        lost = lost_mask(stage, problem.observation)
        visible = (~lost).float()
        stages[i] = Mask(visible.cpu())
        found = replace(
            problem, observation=problem.observation * visible, operator=compose(stages)
        )
        return found, f"{int(lost.sum())} pixels without a value found and filled in"
    return problem, ""


def lost_mask(stage: LosesPixels, y: Tensor) -> Tensor:
    """The pixels [1, 1, H, W] of y that the stage took."""
    lost = torch.zeros(1, 1, *y.shape[2:], dtype=torch.bool, device=y.device)
    for value, probability in stage.lost().items():
        lost |= lost_pixels(y, value, probability)
    return lost


def keeps_extremes(stages: list[Operator], y: Tensor) -> bool:
    """Whether stages map black and white to themselves at every pixel, as clamp and quantize do."""
    for stage in stages:
        for value in (0.0, 1.0):
            flat = torch.full_like(y, value)
            if not stage.local or not torch.equal(stage(flat, 0), flat):
                return False
    return True
