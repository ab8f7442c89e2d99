"""Fit the parameters of a chain to pairs of clean and degraded images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.quasirandom import SobolEngine

from .constants import ordinary_tensors
from .dct import BLOCK, block_dct
from .images import check_image
from .kinds import NumberKind
from .operator import Operator, compose
from .params import whole_number
from .spec import operator_of
from .values import Range

_FIRST_STEP = 1 / 8  # of a range, after the candidates
_LAST_STEP = 1 / 512


def fit(f: Operator | str, x: Tensor, y: Tensor, seed: int = 0, candidates: int = 32) -> Operator:
    """Find the values in the ranges of a chain with which it turns clean images into degraded ones.

    Returns f with a number in place of every range of its stages. It minimises the energy score
    E|f(x) - y| - ½ E|f(x) - f'(x)|, the mean over the coefficients of an 8 × 8 block DCT, where f'
    has other random draws than f. Its minimum is at the true distribution, so noise is fitted too,
    which a squared error would fit as no noise.

    The search takes no derivatives, since those of surrogates would lead it astray. It compares
    `candidates` points spread over the ranges, then steps along one range at a time and halves the
    steps, down to 1/512 of a range. All points get the same random draws.

    f: the chain, or its text, with a range for each unknown number, such as
        blur:gaussian,0.3..4 >> jpeg:20..95. What is inside of parentheses is not fitted.
    x: clean images [B, C, H, W] in [0, 1]. y: the degraded ones, on the same device. All pairs
        share the values.
    seed: of the random draws. candidates: more of them find the right valley more often.

    Raises ValueError if f has no range in its stages, or does not make images of the size of y.

    Source of the energy score: Gneiting & Raftery 2007, "Strictly proper scoring rules".
    """
    operator = operator_of(f)
    check_image(x)
    check_image(y, "y")
    _check_devices(x, y)
    whole_number("seed", seed, 0, 2**63 - 2)
    whole_number("candidates", candidates, 1, 2**20)
    unknowns = list(_unknowns(operator))
    if not unknowns:
        raise ValueError(
            f"{operator} has no range to fit; write low..high for a number, as in jpeg:20..95"
        )
    problem = _Problem(operator, unknowns, x.detach(), y.detach(), seed)
    return problem.chain(_minimum(problem, candidates))


def _check_devices(x: Tensor, y: Tensor) -> None:
    for name, images in (("x", x), ("y", y)):
        if images.is_meta:
            raise ValueError(f"{name} is on the meta device, which holds no values to fit")
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}; give y.to(x.device)")


class _Unknown(NamedTuple):
    """A range in a stage of a chain."""

    stage: int
    name: str
    kind: NumberKind
    span: Range


def _unknowns(f: Operator) -> Iterator[_Unknown]:
    for index, stage in enumerate(f):
        for name, span in stage.ranges.items():
            kind = stage.kinds[name]
            assert isinstance(kind, NumberKind)  # no other kind has ranges
            yield _Unknown(index, name, kind, span)


class _Problem:
    """The score of a point: for each unknown, a share of its range from 0 to 1."""

    def __init__(
        self, f: Operator, unknowns: list[_Unknown], x: Tensor, y: Tensor, seed: int
    ) -> None:
        self.f = f
        self.unknowns = unknowns
        self.x = x
        self.y = y
        self.seeds = (seed, seed + 1)
        self.observed = coefficients(y)
        self.scores: dict[str, float] = {}  # of chains: integers repeat at several points

    def chain(self, point: Tensor) -> Operator:
        stages = list(self.f)
        for unknown, share in zip(self.unknowns, point.tolist(), strict=True):
            value = unknown.kind.at(unknown.span, share)
            stage = stages[unknown.stage]
            stages[unknown.stage] = stage.with_values({unknown.name: value})
        return compose(stages)

    def score(self, point: Tensor) -> float:
        chain = self.chain(point)
        text = str(chain)
        if text not in self.scores:
            self.scores[text] = self._energy(chain)
        return self.scores[text]

    @torch.no_grad()
    def _energy(self, chain: Operator) -> float:
        first, second = (self._predicted(chain, seed) for seed in self.seeds)
        to_observed = (first - self.observed).abs() + (second - self.observed).abs()
        to_each_other = (first - second).abs()
        energy = (to_observed - to_each_other).mean() / 2
        return float(energy)

    def _predicted(self, chain: Operator, seed: int) -> Tensor:
        prediction = chain(self.x, seed)
        if prediction.shape != self.y.shape:
            raise ValueError(
                f"{chain} makes {list(prediction.shape)} of x, but y has {list(self.y.shape)}; "
                "give pairs of the sizes that it makes, and ranges that do not change the size"
            )
        return coefficients(prediction)


def coefficients(image: Tensor) -> Tensor:
    """The DCT coefficients of the image's blocks, padded with black."""
    height, width = image.shape[2:]
    padded = F.pad(image, (0, -width % BLOCK, 0, -height % BLOCK))
    return block_dct(padded)


def _minimum(problem: _Problem, candidates: int) -> Tensor:
    """The point with the smallest score."""
    count = len(problem.unknowns)
    with ordinary_tensors():
        engine = SobolEngine(count)
        engine.fast_forward(1)  # the first point is a corner
        points = engine.draw(candidates, dtype=torch.float64)
    best: Tensor = min(points, key=problem.score)
    step = _FIRST_STEP
    while step >= _LAST_STEP:
        better = _step(problem, best, step)
        if better is None:
            step /= 2
        else:
            best = better
    return best


def _step(problem: _Problem, point: Tensor, step: float) -> Tensor | None:
    """The point after a step along each range that lowers the score, or None if none does."""
    best = point
    for index in range(len(point)):
        for change in (step, -step):
            moved = best.clone()
            moved[index] = (moved[index] + change).clamp(0, 1)
            if problem.score(moved) < problem.score(best):
                best = moved
                break
    return None if best is point else best
