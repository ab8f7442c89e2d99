"""What it means for a prediction to match an observation: small terms that add up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.rng import Rng

from .perceptual import Perceptual, enlarged
from .point import Point, Variables
from .problem import Problem

FILLS = 16  # noises that hidden pixels are filled with, in turn; with 1 images get worse, see docs/performance.md
LARGEST_KEPT = (
    2**16
)  # pixels of an observation whose maps are kept under each: 0.36 GB for an image in bfloat16


@dataclass(frozen=True)
class View:
    """What a term sees at a step."""

    prediction: Tensor  # [B, C, h, w], the image as the operator leaves it
    image: Tensor  # [B, C, R, R]
    point: Point
    variables: Variables
    rng: Rng
    step: int = 0  # of the phase


Measure = Callable[[View], Tensor]  # the term's value [B], before its weight


class Term:
    """A part of a loss: a dataclass with a `weight` and a `name`.

    One that has nothing to prepare defines `value`, others `prepare`.
    """

    weight: float = 1.0
    name: ClassVar[str] = "own"

    def prepare(self, problem: Problem) -> Measure:
        """Do what is needed once; what this returns is called every step."""
        return lambda view: self.value(view, problem)

    def value(self, view: View, problem: Problem) -> Tensor:
        """One number for each image, [B], before its weight; no image may enter another one's."""
        raise NotImplementedError

    def told(self, problem: Problem) -> str | None:
        """What a reader of the result must know of how this was measured."""
        return None


@dataclass(frozen=True)
class Lpips(Term):
    """LPIPS, summed over a pyramid of 2×2 means.

    levels: at most so many scales, from the one after `first` halvings down to the smallest side
    that the network takes (above 16; 32 for alex), or `shortest`. Regions that tell nothing get the
    same noise N(mean, deviation²) of `fill` in both images; it repeats every `FILLS` steps of a phase,
    and for observations above `LARGEST_KEPT` it is new in every step. net: None is the restoration's
    own. at_most: larger images are reduced to this side first. enlarge: images too small for the
    network are enlarged (nearest), instead of left out.
    """

    weight: float = 1.0
    levels: int = 1
    first: int = 0
    shortest: int | None = None
    fill: tuple[float, float] = (0.25, 0.5)
    net: str | None = None
    at_most: int | None = None
    enlarge: bool = False
    name = "lpips"

    def prepare(self, problem: Problem) -> Measure:
        network = problem.network(self.net)
        scales = []  # (image, hidden share of each pixel)
        y = self._first(problem.observation, network)
        seen = problem.visible
        hidden = None if seen is None else self._first(1 - seen.to(y), network)
        for level in range(self.levels):
            if level:
                y, hidden = halved(y), None if hidden is None else halved(hidden)
            if min(y.shape[2:]) < self._shortest(network):
                break
            scales.append((y, hidden))
        mean, deviation = self.fill

        def filled(rng: Rng | None = None) -> list[tuple[Tensor | float, tuple[Tensor, ...]]]:
            """For each scale the noise where something is hidden, and the observation's maps with it."""
            fills = [
                0.0 if hidden is None else (mean + deviation * rng.normal(y)) * hidden
                for y, hidden in scales
            ]
            return [
                (fill, network.maps(y + fill)) for fill, (y, _) in zip(fills, scales, strict=True)
            ]

        count, kept = (1, {0: filled()}) if hidden is None else (FILLS, {})
        keeps = math.prod(problem.observation.shape[2:]) <= LARGEST_KEPT

        def measure(view: View) -> Tensor:
            x, total = (
                self._first(view.prediction, network),
                torch.zeros(problem.batch, device=problem.device),
            )
            number = view.step % count
            found = kept[number] if number in kept else filled(view.rng.child("fill"))
            if keeps:
                kept[number] = found
            for level, (fill, maps) in enumerate(found):
                x = halved(x) if level else x
                total = total + network.distance_to(maps, x + fill)
            return total

        return measure

    def _shortest(self, network: Perceptual) -> int:
        return (
            network.min_side if self.shortest is None else max(self.shortest, network.min_side - 1)
        )

    def _first(self, x: Tensor, network: Perceptual) -> Tensor:
        """The image as the first level sees it."""
        for _ in range(self.first):
            x = halved(x) if min(x.shape[2:]) > 1 else x
        side = min(x.shape[2:])
        if self.at_most and side > self.at_most:
            scale = self.at_most / side
            return F.interpolate(x, [max(1, round(n * scale)) for n in x.shape[2:]], mode="area")
        return enlarged(x, self._shortest(network)) if self.enlarge else x


@dataclass(frozen=True)
class L1(Term):
    """Mean |prediction - observation|; `coarsest`: of what a pyramid of Lpips(levels=6) leaves."""

    weight: float = 1.0
    coarsest: bool = False
    name = "l1"

    def prepare(self, problem: Problem) -> Measure:
        y, halvings = problem.observation, 0
        while self.coarsest and halvings < 6 and min(y.shape[2:]) >= problem.network().min_side:
            y, halvings = halved(y), halvings + 1

        def measure(view: View) -> Tensor:
            x = view.prediction
            for _ in range(halvings):
                x = halved(x)
            return (x - y).abs().flatten(1).mean(1)

        return measure


@dataclass(frozen=True)
class MSE(Term):
    """Mean (prediction - observation)². unit: what [0, 1] spans in the paper's units; floor: no less counts."""

    weight: float = 1.0
    unit: float = 1.0
    floor: float = 0.0
    name = "mse"

    def value(self, view: View, problem: Problem) -> Tensor:
        away = (view.prediction - problem.observation) * self.unit
        return away.square().flatten(1).mean(1).clamp_min(self.floor)


@dataclass(frozen=True)
class Deep(Term):
    """Mean |difference| of deep features, summed over layers: the discriminator's, where the generator's file has one.

    Else those of the perceptual network; `told` says which. Source: Pan et al. 2021 (DGP), eq. 6.
    """

    weight: float = 1.0
    name = "deep"

    def told(self, problem: Problem) -> str:
        if problem.generator.discriminator() is not None:
            return "deep features are the discriminator's"
        return f"deep features are those of {problem.net}, for want of a discriminator"

    def prepare(self, problem: Problem) -> Measure:
        critic = problem.generator.discriminator()
        network = problem.network() if critic is None else critic.to(problem.device)

        def features(x: Tensor) -> list[Tensor]:
            maps = (
                network.maps(enlarged(x, network.min_side))
                if critic is None
                else network.features(x)
            )
            return [m.float() for m in maps]

        wanted = features(problem.observation)

        def measure(view: View) -> Tensor:
            pairs = zip(features(view.prediction), wanted, strict=True)
            return sum((x - y).abs().flatten(1).mean(1) for x, y in pairs)

        return measure


@dataclass(frozen=True)
class SamePerson(Term):
    """1 - cosine of the embeddings; 0 in a restoration that was given no `identity`."""

    weight: float = 0.1
    name = "identity"

    def prepare(self, problem: Problem) -> Measure:
        identity = problem.identity
        if identity is None:
            return lambda view: torch.zeros(problem.batch, device=problem.device)
        with torch.no_grad():
            wanted = identity.embed(
                problem.observation if identity.reference is None else identity.reference
            )

        def measure(view: View) -> Tensor:
            shown = view.prediction if identity.reference is None else view.image
            return 1 - (identity.embed(shown) * wanted).sum(1)

        return measure


def halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)
