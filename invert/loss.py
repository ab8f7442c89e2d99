"""How well a prediction matches an observation: small terms that add up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.rng import Rng

from .perceptual import Perceptual, enlarged
from .point import Point
from .problem import Problem
from .roles import Variables

FILLS = 16  # noise fills of hidden pixels, in turn; one alone restores worse, docs/performance.md
LARGEST_KEPT = 2**16  # pixels of an observation whose features are cached under each noise fill:
# 0.36 GB for an image in bfloat16


@dataclass(frozen=True)
class View:
    """What a term may look at in a step.

    prediction: [B, C, h, w], what the operator makes of the image. image: [B, C, R, R]. rng: the
    random stream of the step. step: its number in the phase. rng_of_step: the streams of other
    steps, for draws that repeat.
    """

    prediction: Tensor
    image: Tensor
    point: Point
    variables: Variables
    rng: Rng
    step: int = 0
    rng_of_step: Callable[[int], Rng] | None = None

    def rng_at(self, step: int) -> Rng:
        """The random stream of another step of this phase."""
        if self.rng_of_step is None or step == self.step:
            return self.rng
        return self.rng_of_step(step)


Measure = Callable[[View], Tensor]  # returns the term's value [B], before its weight
Scale = tuple[Tensor, Tensor | None]  # an image, and the hidden share of each pixel, if any
FilledScale = tuple[Tensor | float, tuple[Tensor, ...]]  # a noise fill, and LPIPS features under it


class Term:
    """A part of a loss: a dataclass with a `weight` and a `name`.

    A term without preparation defines `value`, others `prepare`. compares: whether it compares the
    prediction with the observation; a prior on the latent does not.
    """

    weight: float = 1.0
    name: ClassVar[str] = "own"
    compares: ClassVar[bool] = True

    def applies(self, problem: Problem) -> bool:
        """Whether the term can be measured for this problem; it is left out where it cannot."""
        return True

    def prepare(self, problem: Problem) -> Measure:
        """Do what is needed once, and return a function that is called in every step."""
        return lambda view: self.value(view, problem)

    def value(self, view: View, problem: Problem) -> Tensor:
        """Return one number per image, [B], before the weight; images must not mix."""
        raise NotImplementedError

    def note(self, problem: Problem) -> str | None:
        """A note for readers of the result on how the term was measured."""
        if self.applies(problem):
            return None
        return f"{self.name} was left out, since the operator's output is not a picture"


@dataclass(frozen=True)
class Lpips(Term):
    """LPIPS, summed over a pyramid of 2×2 means.

    levels: the number of scales at most. The first one follows `first` halvings, and the last one
    is the smallest that the network takes (a side above 16; 32 for alex), or `shortest`. Hidden
    regions get the same noise N(mean, deviation²) of `fill` in both images. The noise repeats
    every `FILLS` steps; for observations above `LARGEST_KEPT` pixels it is new in every step. net:
    None is the restoration's own network. at_most: larger images are reduced to this side first.
    enlarge: images that are too small for the network are enlarged (nearest), not left out. at: all
    images are resized to this square by area, whatever their size.
    """

    weight: float = 1.0
    levels: int = 1
    first: int = 0
    shortest: int | None = None
    fill: tuple[float, float] = (0.25, 0.5)
    net: str | None = None
    at_most: int | None = None
    enlarge: bool = False
    at: int | None = None
    name = "lpips"

    def applies(self, problem: Problem) -> bool:
        return problem.shows_picture

    def prepare(self, problem: Problem) -> Measure:
        network = problem.network(self.net)
        pixels = math.prod(problem.observation.shape[2:])
        target = FilledPyramid(
            self._scales(problem, network), self.fill, network, may_cache=pixels <= LARGEST_KEPT
        )

        def measure(view: View) -> Tensor:
            x = self._first_scale(view.prediction, network)
            total = problem.zeros()
            for level, (fill, maps) in enumerate(target.at(view)):
                if level > 0:
                    x = halved(x)
                total = total + network.distance_to(maps, x + fill)
            return total

        return measure

    def _scales(self, problem: Problem, network: Perceptual) -> list[Scale]:
        """The observation at every scale, with the hidden share of each pixel."""
        y = self._first_scale(problem.observation, network)
        hidden = None
        if problem.visible is not None:
            hidden = 1 - problem.visible.to(y)
            hidden = self._first_scale(hidden, network)
        shortest = self._shortest_side(network)
        scales: list[Scale] = []
        while len(scales) < self.levels and min(y.shape[2:]) >= shortest:
            scales.append((y, hidden))
            y = halved(y)
            if hidden is not None:
                hidden = halved(hidden)
        return scales

    def _shortest_side(self, network: Perceptual) -> int:
        if self.shortest is None:
            return network.min_side
        return max(self.shortest, network.min_side - 1)

    def _first_scale(self, x: Tensor, network: Perceptual) -> Tensor:
        """The image at the first scale of the pyramid."""
        if self.at is not None:
            return F.interpolate(x, (self.at, self.at), mode="area")
        for _ in range(self.first):
            if min(x.shape[2:]) > 1:
                x = halved(x)
        shorter_side = min(x.shape[2:])
        if self.at_most and shorter_side > self.at_most:
            scale = self.at_most / shorter_side
            size = [max(1, round(side * scale)) for side in x.shape[2:]]
            return F.interpolate(x, size, mode="area")
        if self.enlarge:
            return enlarged(x, self._shortest_side(network))
        return x


@dataclass
class FilledPyramid:
    """The observation's LPIPS features at each scale, with noise in its hidden regions.

    It caches the features of `FILLS` noise fills, where the observation is small enough.
    """

    scales: list[Scale]
    noise: tuple[float, float]  # mean and deviation
    network: Perceptual
    may_cache: bool
    cached: dict[int, list[FilledScale]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.hides:
            self.cached[0] = self._filled(Rng.of((), 0))

    @property
    def hides(self) -> bool:
        """Whether any pixel of the observation is hidden."""
        return any(hidden is not None for _, hidden in self.scales)

    def at(self, view: View) -> list[FilledScale]:
        """The noise fill and the features of each scale in this step."""
        number = view.step % FILLS if self.hides else 0
        if number in self.cached:
            return self.cached[number]
        step = number if self.may_cache else view.step
        rng = view.rng_at(step)
        filled = self._filled(rng.child("fill"))
        if self.may_cache:
            self.cached[number] = filled
        return filled

    def _filled(self, rng: Rng) -> list[FilledScale]:
        mean, deviation = self.noise
        filled: list[FilledScale] = []
        for y, hidden in self.scales:
            fill: Tensor | float = 0.0
            if hidden is not None:
                noise = mean + deviation * rng.normal(y)
                fill = noise * hidden
            maps = self.network.maps(y + fill)
            filled.append((fill, maps))
        return filled


@dataclass(frozen=True)
class L1(Term):
    """Mean |prediction - observation|; `coarsest`: at the scale that Lpips(levels=6) ends with."""

    weight: float = 1.0
    coarsest: bool = False
    name = "l1"

    def prepare(self, problem: Problem) -> Measure:
        y = problem.observation
        halvings = 0
        if self.coarsest:
            shortest = problem.network().min_side
            while halvings < 6 and min(y.shape[2:]) >= shortest:
                y = halved(y)
                halvings += 1

        def measure(view: View) -> Tensor:
            x = view.prediction
            for _ in range(halvings):
                x = halved(x)
            difference = x - y
            return mean_per_image(difference.abs())

        return measure


@dataclass(frozen=True)
class MSE(Term):
    """Mean (unit·(prediction - observation))², at least `floor`.

    unit: the length of [0, 1] in the units of the method's paper. enlarge: see `at_image_size`.
    """

    weight: float = 1.0
    unit: float = 1.0
    floor: float = 0.0
    enlarge: bool = False
    name = "mse"

    def value(self, view: View, problem: Problem) -> Tensor:
        difference = view.prediction - problem.observation
        if self.enlarge:
            difference = at_image_size(difference, problem)
        squares = (difference * self.unit).square()
        return mean_per_image(squares).clamp_min(self.floor)


@dataclass(frozen=True)
class Deep(Term):
    """Mean |difference| of deep features, summed over layers.

    The features are the discriminator's where the generator's file has one, and else those of the
    perceptual network; `note` says which. last: how many of them, from the end; None is all.
    enlarge: see `at_image_size`. Source: Pan et al. 2021 (DGP), eq. 6.
    """

    weight: float = 1.0
    last: int | None = None
    enlarge: bool = False
    name = "deep"

    def applies(self, problem: Problem) -> bool:
        return problem.shows_picture

    def note(self, problem: Problem) -> str | None:
        if not self.applies(problem):
            return super().note(problem)
        if problem.generator.discriminator() is not None:
            return "deep features are the discriminator's"
        return f"deep features are those of {problem.net}, for want of a discriminator"

    def prepare(self, problem: Problem) -> Measure:
        all_features = self._features(problem)

        def features(x: Tensor) -> list[Tensor]:
            if self.enlarge:
                x = at_image_size(x, problem)
            compared = all_features(x)
            return compared if self.last is None else compared[-self.last :]

        target = features(problem.observation)

        def measure(view: View) -> Tensor:
            total = problem.zeros()
            for x, y in zip(features(view.prediction), target, strict=True):
                difference = x.float() - y.float()
                total = total + mean_per_image(difference.abs())
            return total

        return measure

    def _features(self, problem: Problem) -> Callable[[Tensor], list[Tensor]]:
        critic = problem.generator.discriminator()
        if critic is not None:
            return critic.to(problem.device).features
        network = problem.network()

        def features(x: Tensor) -> list[Tensor]:
            maps = network.maps(enlarged(x, network.min_side))
            return list(maps)

        return features


@dataclass(frozen=True)
class SamePerson(Term):
    """1 - cosine of the face embeddings; 0 in a restoration that was given no `identity`."""

    weight: float = 0.1
    name = "identity"

    def applies(self, problem: Problem) -> bool:
        identity = problem.identity
        if identity is None or identity.reference is not None:
            return True
        return problem.shows_picture

    def note(self, problem: Problem) -> str | None:
        if problem.identity is None:
            return "identity was not compared, since no face embedding with a gradient was given"
        return super().note(problem)

    def prepare(self, problem: Problem) -> Measure:
        identity = problem.identity
        if identity is None:
            zeros = problem.zeros()
            return lambda view: zeros
        reference = identity.reference
        target_face = problem.observation if reference is None else reference
        with torch.no_grad():
            target = identity.embed(target_face)

        def measure(view: View) -> Tensor:
            face = view.prediction if reference is None else view.image
            cosine = (identity.embed(face) * target).sum(1)
            return 1 - cosine

        return measure


def at_image_size(x: Tensor, problem: Problem) -> Tensor:
    """Enlarge a smaller picture bilinearly to the size of the generator's images (DGP)."""
    side = problem.generator.resolution
    if not problem.shows_picture or min(x.shape[2:]) >= side:
        return x
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)


def mean_per_image(values: Tensor) -> Tensor:
    """The mean over everything but the batch, [B]."""
    return values.flatten(1).mean(1)


def halved(x: Tensor) -> Tensor:
    """Average blocks of 2×2 pixels."""
    return F.avg_pool2d(x, 2)
