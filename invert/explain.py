"""Which of several operators explains an observation best: each predicts pixels it was not shown.

A tenth of the pixels of a small part of the observation is hidden. Under each operator, the part is
restored from the others by a few turns of plug-and-play, and degraded again. An operator that did
not happen predicts the hidden pixels worse. No operator can win by reproducing what it was given.
Operators that differ in their noise cannot be told apart so, since the one with more noise smooths
more, and so fills in the hidden pixels better; `refine` measures noise.
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
from .linear_model import ROUNDING
from .problem import Problem
from .strength import Strength, geometric, measured_error, trial, turns

PART = 96  # pixels: about the side of the part that is restored
LARGEST = 256  # pixels: the longest side that is restored whole, where the operators cannot be cut
HIDDEN = 0.1  # share of hidden pixels
TURNS = 3
FIRST_SIGMA = 0.2  # the noise level of the first turn
CLEARLY = 3.0  # standard errors, by which a mean error must be lower to count
PAIRS = 3  # pairs of random draws that measure the error of a mean prediction


@dataclass(frozen=True)
class Explanation:
    """How well an operator predicts pixels that it was not shown.

    squares: [n], the squared error at each hidden pixel; with random draws, an unbiased estimate of
    the mean prediction's. own_error: the standard deviation of the errors that the operator itself
    makes on synthetic pictures. values: how many values of the image its narrowest stage passes.
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
        """Whether this explanation is to be preferred.

        Its error is lower by more than chance. Or the operator claims more, as that the picture was
        enlarged and so holds fewer values, and the claim is right within half of the error that the
        operator itself makes, and within twice the other's error.
        """
        if self.values < other.values:
            return self.error < min(self.own_error / 2, 2 * other.error)
        if self.values > other.values:
            return not other.beats(self)
        gain = other.squares - self.squares
        standard_error = gain.std() / math.sqrt(len(gain))
        return bool(gain.mean() > CLEARLY * standard_error)


@torch.no_grad()
def explanations(
    y: Tensor, operators: Sequence[Operator], denoiser: Denoiser
) -> list[Explanation] | None:
    """How well each operator explains y [1, C, h, w], which all of them keep at its size.

    None if the observation is large and the operators have no part in common.
    """
    shape = tuple(y.shape)
    rows = shared_span(operators, shape, 0)
    columns = shared_span(operators, shape, 1)
    if rows is None or columns is None:
        return None
    results = []
    for operator in operators:
        part = operator.part(shape, (rows, columns))
        assert part is not None  # its edges are where every operator can be cut
        results.append(explanation(y[..., rows, columns], part[0], denoiser))
    return results


def best(candidates: Sequence[Explanation]) -> int:
    """The index of the explanation to keep; without clear evidence it is the first."""
    winner = 0
    for i in range(1, len(candidates)):
        if candidates[i].beats(candidates[winner]):
            winner = i
    return winner


def shared_span(operators: Sequence[Operator], shape: Shape, axis: int) -> slice | None:
    """Rows (axis 0) or columns in the middle, of about PART, where every operator can be cut."""
    length = shape[2 + axis]
    start = shared_cut(operators, shape, (length - PART) // 2, axis)
    if start is not None:
        stop = shared_cut(operators, shape, start + PART, axis)
        if stop is not None and stop > start + PART // 2:
            return slice(start, stop)
    return slice(0, length) if length <= LARGEST else None


def shared_cut(operators: Sequence[Operator], shape: Shape, wanted: int, axis: int) -> int | None:
    """The last position up to `wanted` at which every operator can be cut."""
    for position in range(wanted, max(0, wanted - PART), -1):
        if all(can_cut(operator, shape, position, axis) for operator in operators):
            return position
    return None


def explanation(y: Tensor, operator: Operator, denoiser: Denoiser) -> Explanation:
    """Restore y [1, C, h, w] without its hidden pixels, and measure how well they are predicted."""
    shape = tuple(y.shape)
    pattern = survivors(HIDDEN, 0, (1, *shape[1:]))
    mask = Mask(pattern)
    masked = operator >> mask
    problem = Problem(
        observation=mask(y), operator=masked, prior=denoiser, seeds=(0,), method_name="pnp"
    )
    synthetic = trial(problem, (masked, shape[2], shape[3]), 0)
    error = max(measured_error([synthetic]), ROUNDING)
    lowest, highest = denoiser.sigma_range
    last = min(max(error, lowest), highest)
    # The error on synthetic pictures is an upper bound, so that the fit may be closer than it says.
    strength = Strength(geometric(max(FIRST_SIGMA, last), last, TURNS), error / 4, "")
    *_, estimate = turns(problem, strength)
    image = masked.project(estimate.clamp(0, 1), problem.observation).clamp(0, 1)
    squares = squared_error(operator, image, y)
    hidden = pattern[0, 0].to(y.device) == 0
    return Explanation(squares[hidden], error, narrowest(operator, shape))


def squared_error(operator: Operator, image: Tensor, y: Tensor) -> Tensor:
    """The squared error [h, w] of the mean prediction, in which two draws share no noise.

    E (y − f₁)(y − f₂) = (y − E f)².
    """
    total = torch.zeros_like(y)
    for pair in range(PAIRS):
        first = operator(image, 2 * pair)
        second = operator(image, 2 * pair + 1)
        total += (y - first) * (y - second)
    mean_over_channels: Tensor = total.mean(1)[0] / PAIRS
    return mean_over_channels


def narrowest(operator: Operator, shape: Shape) -> int:
    """The number of values that pass the stage with the smallest output."""
    smallest = math.prod(shape)
    for stage in operator:
        shape = tuple(stage.output_shape(shape))
        smallest = min(smallest, math.prod(shape))
    return smallest
