"""A start that is read off the observation: the linear regression of W on what an operator shows.

The generator draws some images of its own, and the operator degrades them. So codes are known
together with their observations, and one matrix gives the codes that an observation suggests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.images import shows_picture

from .draws import stream
from .point import Point
from .problem import Problem
from .start import CHUNK, Start

LARGEST_SIDE = 32  # an observation is halved until its shorter side is at most this long
# Tried, in units of the mean variance.
RIDGES = torch.logspace(-5, 1, 25, dtype=torch.float64, device="cpu")
SMALLEST = 1e-12  # a smaller variance counts as this, so that nothing is divided by 0


@dataclass(frozen=True)
class Regression(Start):
    """The codes that a linear regression expects for the observation.

    count: draws of W, of the image's class. Their images are degraded, each with noise of its own.
    With the centred codes W [count, w_dim], the centred observations Y of the draws and y of the
    image, the start is

        w̄ + Wᵀ (Y Yᵀ + λ)⁻¹ Y y

    λ is the one of `RIDGES` with which each draw is predicted best from all others. Where noise
    hides the image, λ is large, and the start is near the mean of W.
    Gradient: none. Source: Hoerl & Kennard 1970 (ridge regression); Allen 1974 (PRESS, the choice).
    """

    count: int = 256

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Point:
        shown = self._shown(problem)
        starts = []
        for w, of_draws, y in zip(problem.some_w, shown, problem.observation, strict=True):
            start = predicted(features(y[None]), of_draws, w[: self.count])
            starts.append(start.to(problem.center))
        return Point(torch.cat(starts))

    def _shown(self, problem: Problem) -> list[Tensor]:
        """What the operator of each image shows of the draws, [count, D] each.

        Images of one class share the drawn images.
        """
        rows = [problem.row(i) for i in range(problem.batch)]
        shown: list[list[Tensor]] = [[] for _ in rows]
        for first in range(0, self.count, CHUNK):
            last = min(first + CHUNK, self.count)
            images: dict[int, Tensor] = {}
            for row, w, of_row in zip(rows, problem.some_w, shown, strict=True):
                if id(w) not in images:
                    images[id(w)] = drawn(row, w[first:last])
                of_row.append(observed(row, images[id(w)], first))
        return [torch.cat(of_row) for of_row in shown]


def drawn(problem: Problem, codes: Tensor) -> Tensor:
    """The generator's images of some codes."""
    return problem.generator.synthesize(codes).clamp(0, 1)


def observed(row: Problem, images: Tensor, first: int) -> Tensor:
    """Apply the operator of one image to some draws, with noise of its own for each draw."""
    (seed,) = row.seeds
    streams = []
    for number in range(first, first + len(images)):
        streams.append(stream(seed, "regression", number))
    return features(row.operator.predict(images, streams))


def features(observation: Tensor) -> Tensor:
    """The numbers of an observation that a regression looks at, [B, D], float64 on the CPU."""
    x = observation
    if shows_picture(x.shape):
        while min(x.shape[2:]) > LARGEST_SIDE:
            x = F.avg_pool2d(x, 2)
    return x.flatten(1).cpu().double()


def predicted(y: Tensor, of_draws: Tensor, codes: Tensor) -> Tensor:
    """Predict the code [1, w_dim] of an observation y [1, D] by ridge regression.

    of_draws: observations [N, D] of known codes [N, w_dim].
    """
    codes = codes.cpu().double()
    mean_code = codes.mean(0)
    mean_shown = of_draws.mean(0)
    offsets = codes - mean_code
    shown = of_draws - mean_shown
    energies, basis = torch.linalg.eigh(shown @ shown.T)
    energies = energies.clamp_min(0)
    along = basis.T @ offsets
    ridge = best_ridge(energies, basis, along, offsets)
    likeness = (y - mean_shown) @ shown.T
    weights = (likeness @ basis) / (energies + ridge)
    code: Tensor = mean_code + weights @ along
    return code


def best_ridge(energies: Tensor, basis: Tensor, along: Tensor, offsets: Tensor) -> Tensor:
    """The ridge with which each draw is predicted best from all others.

    A draw's error without itself is its error with itself / (1 - its weight in its own prediction).
    """
    unit = energies.mean().clamp_min(SMALLEST)
    errors = []
    for ridge in RIDGES * unit:
        kept = energies / (energies + ridge)
        own_weight = basis.square() @ kept + 1 / len(basis)
        error_with_itself = offsets - basis @ (kept[:, None] * along)
        error = error_with_itself / (1 - own_weight)[:, None]
        errors.append(error.square().sum())
    best = torch.stack(errors).argmin()
    return RIDGES[best] * unit
