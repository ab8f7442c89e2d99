"""Pixels that lost their value at unknown places: found in the observation, they become a mask.

Where the observation shows them as they were lost, they are found at once. Where a JPEG or noise
came later, they are found by what a first restoration predicts for them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from degrade.forensics.defects import lost_pixels
from degrade.mask import Mask
from degrade.operator import Operator, Shape, compose

from .draws import uniform
from .linear_model import linear_model
from .problem import Problem, streams

NORMAL_MEDIAN = 0.6745  # of |n|, for n from N(0, 1)
LEAST_ERROR = 1 / 255  # of an observation of 8 bits
LEAST_CONTRAST = 0.05  # of a lost pixel; below, it cannot be seen


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
        return with_mask(problem, i, lost)
    return problem, ""


def with_mask(problem: Problem, position: int, lost: Tensor) -> tuple[Problem, str]:
    """The same problem with a mask of the lost pixels in place of a stage, and a note."""
    stages = list(problem.operator)
    visible = (~lost).float()
    stages[position] = Mask(visible.cpu())
    observation = problem.observation * visible
    found = replace(problem, observation=observation, operator=compose(stages))
    return found, f"{int(lost.sum())} pixels without a value found and filled in"


def buried_losses(operator: Operator, shape: Shape) -> int | None:
    """The position of a stage that loses pixels at unknown places; None if there is none.

    Only a stage after which the image keeps its size counts, so that y shows where they were.
    shape: of the images.
    """
    position = None
    for i, stage in enumerate(operator):
        output = tuple(stage.output_shape(shape))
        if not stage.linear and isinstance(stage, LosesPixels):
            position = i
        elif output != shape:
            position = None
        shape = output
    return position


def with_likely_mask(problem: Problem, position: int, image: Tensor) -> tuple[Problem, str]:
    """The same problem of one image with a mask of the pixels that were probably lost, and a note.

    position: of the stage that loses pixels. image: a first restoration, [1, C, H, W].

    A x is what y would show without a loss, and d the change that a loss would make. Stages that
    follow leave the share s of it, and y − A x is s·d or 0, and an error of standard deviation e.
    With the probability p of a loss, a pixel was probably lost where
    s·d·(y − A x) − (s·d)² / 2 > e² log((1 − p) / p). Means over the channels are compared, since
    their errors are alike.
    """
    model = linear_model(problem.operator, problem.observation)
    undamaged = model.forward(image)
    residual = model.observation - undamaged
    is_shown = model.shown() > 0
    error = float(residual[is_shown].abs().median()) / NORMAL_MEDIAN
    error = max(error, LEAST_ERROR)
    lost = torch.zeros_like(residual[:, :1], dtype=torch.bool)
    stage = problem.operator[position]
    assert isinstance(stage, LosesPixels)
    for value, probability in stage.lost().items():
        contrast = contrast_left(problem, position, image, value)
        if not 0 < probability < 1 or contrast < LEAST_CONTRAST:
            continue
        change = contrast * (value - undamaged)
        evidence = (change * residual - change.square() / 2).mean(1, keepdim=True)
        lost |= evidence > error**2 * math.log((1 - probability) / probability)
    lost &= is_shown.all(1, keepdim=True)
    return with_mask(problem, position, lost)


def contrast_left(problem: Problem, position: int, image: Tensor, value: float) -> float:
    """The share of a lost pixel's change that is left after the stages which follow the loss.

    It is measured on pixels of `image` [1, C, H, W] that are lost at random. value: theirs.
    """
    stages = list(problem.operator)
    before = image.clamp(0, 1)
    for stage in stages[:position]:
        before = stage(before) if stage.linear else before
    lossy = stages[position]
    assert isinstance(lossy, LosesPixels)
    (generator,) = streams(problem.seeds, f"lost{value:g}")
    draws = uniform((1, 1, *before.shape[2:]), generator).to(before)
    is_lost = draws < lossy.lost()[value]
    damaged = torch.where(is_lost, value, before)
    if position + 1 < len(stages):
        damaged = compose(stages[position + 1 :])(damaged, generator)
    model = linear_model(problem.operator, damaged)
    counts = is_lost * model.shown()
    change = counts * (value - before)
    left = counts * (model.observation - model.forward(image))
    total = float(change.square().sum())
    return float((change * left).sum()) / total if total > 0 else 0.0


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
