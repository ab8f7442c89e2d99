"""Find the operator that explains an observation best: each one predicts hidden pixels.

A tenth of the pixels of a small part of the observation is hidden. For each operator, a few turns
of plug-and-play restore the part from the other pixels, and the operator degrades the result. A
wrong operator predicts the hidden pixels worse. No operator can win by reproducing its input.
This cannot compare operators that differ in their noise only: the one with more noise smooths more,
and so fills in the hidden pixels better. `refine` measures noise.
Source: cross-validation; for denoisers Batson & Royer 2019, "Noise2Self".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.locality import can_cut
from degrade.mask import Mask
from degrade.operator import Operator, Shape
from degrade.seeded import survivors

from .denoiser import Denoiser
from .descent import geometric, within
from .linear_model import ROUNDING
from .problem import Problem
from .strength import Strength, turns
from .trials import TrialPart, draw_trial, measured_error

PART = 96  # pixels: about the side of the part that is restored
LARGEST = 256  # pixels: the longest side that is restored whole, where the operators cannot be cut
HIDDEN = 0.1  # share of hidden pixels
TURNS = 3  # of plug-and-play
FIRST_SIGMA = 0.2  # the noise level of the first turn
CLEARLY = 3.0  # standard errors: a mean error must be lower by this to count
PAIRS = 3  # pairs of random draws that measure the error of a mean prediction


@dataclass(frozen=True)
class Explanation:
    """How well an operator predicts hidden pixels.

    squares: [n], the squared error at each hidden pixel. For an operator with random draws it is an
    unbiased estimate for the mean prediction. own_error: the standard deviation of the errors that
    the operator itself makes on synthetic pictures. values: how many values of the image pass the
    operator's narrowest stage.
    """

    squares: Tensor
    own_error: float
    values: int

    @property
    def error(self) -> float:
        """The root mean squared error at hidden pixels."""
        mean_square = float(self.squares.mean())
        return math.sqrt(max(0.0, mean_square))

    def beats(self, other: Explanation) -> bool:
        """Whether this explanation is better than another.

        Between operators that pass the same number of values, the error must be lower by more than
        chance. An operator that passes fewer values, such as an enlargement, claims more about the
        picture. It is better if its error is below half of the error that the operator itself makes
        and below twice the error of the other.
        """
        if self.values > other.values:
            return not other.beats(self)
        if self.values < other.values:
            limit = min(self.own_error / 2, 2 * other.error)
            return self.error < limit
        gain = other.squares - self.squares
        standard_error = gain.std() / math.sqrt(len(gain))
        is_clear = gain.mean() > CLEARLY * standard_error
        return bool(is_clear)


@torch.no_grad()
def explanations(
    y: Tensor, operators: Sequence[Operator], denoiser: Denoiser
) -> list[Explanation] | None:
    """Measure how well each operator explains y [1, C, h, w]. No operator changes the size.

    Returns None if the observation is large and has no part that every operator can be cut to.
    """
    shape = tuple(y.shape)
    rows = shared_span(operators, shape, 0)
    columns = shared_span(operators, shape, 1)
    if rows is None or columns is None:
        return None
    y_part = y[..., rows, columns]
    results = []
    for operator in operators:
        part = operator.part(shape, (rows, columns))
        assert part is not None  # its edges are where every operator can be cut
        part_operator, _ = part
        results.append(explanation(y_part, part_operator, denoiser))
    return results


def best(candidates: Sequence[Explanation]) -> int:
    """The index of the explanation to keep; without clear evidence it is the first."""
    winner = 0
    for i, candidate in enumerate(candidates):
        if i > 0 and candidate.beats(candidates[winner]):
            winner = i
    return winner


def shared_span(operators: Sequence[Operator], shape: Shape, axis: int) -> slice | None:
    """Rows (axis 0) or columns in the middle, about PART long, to which every operator can be cut.

    All of them if there is no such part and the side is short; None if it is long.
    """
    length = shape[2 + axis]
    wanted = (length - PART) // 2
    start = shared_cut(operators, shape, wanted, axis)
    if start is not None:
        stop = shared_cut(operators, shape, start + PART, axis)
        if stop is not None and stop > start + PART // 2:
            return slice(start, stop)
    if length > LARGEST:
        return None
    return slice(0, length)


def shared_cut(operators: Sequence[Operator], shape: Shape, wanted: int, axis: int) -> int | None:
    """The last position up to `wanted` at which every operator can be cut."""
    before_first = max(0, wanted - PART)
    for position in range(wanted, before_first, -1):
        if all_can_cut(operators, shape, position, axis):
            return position
    return None


def all_can_cut(operators: Sequence[Operator], shape: Shape, position: int, axis: int) -> bool:
    """Whether every operator can be cut at a position."""
    return all(can_cut(operator, shape, position, axis) for operator in operators)


def explanation(y: Tensor, operator: Operator, denoiser: Denoiser) -> Explanation:
    """Restore y [1, C, h, w] without its hidden pixels, and measure how well they are predicted."""
    shape = tuple(y.shape)
    _, channels, height, width = shape
    pattern = survivors(HIDDEN, 0, (1, channels, height, width))
    mask = Mask(pattern)
    masked = operator >> mask
    problem = Problem(
        observation=mask(y), operator=masked, prior=denoiser, seeds=(0,), method_name="pnp"
    )
    synthetic = draw_trial(problem, TrialPart(masked, height, width), 0)
    own_error = max(measured_error([synthetic]), ROUNDING)
    image = restored(problem, own_error)
    squares = squared_error(operator, image, y)
    hidden = pattern[0, 0].to(y.device) == 0
    values = narrowest(operator, shape)
    return Explanation(squares[hidden], own_error, values)


def restored(problem: Problem, own_error: float) -> Tensor:
    """Restore the image [1, C, h, w] with a few turns of plug-and-play, and clamp it to [0, 1]."""
    lowest, highest = problem.denoiser.sigma_range
    last = within(own_error, lowest, highest)
    first = max(FIRST_SIGMA, last)
    levels = geometric(first, last, TURNS)
    # The error on synthetic pictures is an upper bound, so a smaller one is assumed here.
    strength = Strength(levels, own_error / 4, "")
    *_, estimate = turns(problem, strength)
    image = problem.operator.project(estimate.clamp(0, 1), problem.observation)
    return image.clamp(0, 1)


def squared_error(operator: Operator, image: Tensor, y: Tensor) -> Tensor:
    """Estimate the squared error [h, w] of the mean prediction from pairs of independent draws.

    E (y − f₁)(y − f₂) = (y − E f)².
    """
    total = torch.zeros_like(y)
    for pair in range(PAIRS):
        first = operator(image, 2 * pair)
        second = operator(image, 2 * pair + 1)
        total += (y - first) * (y - second)
    mean_over_channels = total.mean(1)[0]
    squares: Tensor = mean_over_channels / PAIRS
    return squares


def narrowest(operator: Operator, shape: Shape) -> int:
    """The number of values that pass the stage with the smallest output."""
    smallest = math.prod(shape)
    for stage in operator:
        shape = tuple(stage.output_shape(shape))
        size = math.prod(shape)
        smallest = min(smallest, size)
    return smallest
