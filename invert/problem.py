"""What a restoration has to go by: observation, operator, generator, and the draws of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from degrade import DeadPixels
from degrade.operator import Operator, compose
from degrade.rng import Rng

from . import perceptual
from .generator import Generator, StyleGenerator
from .identity import Identity
from .point import Point


@dataclass(frozen=True)
class Problem:
    """All of a batch's; `row` is that of one image."""

    observation: Tensor  # [B, C, h, w], float32
    operator: Operator
    generator: Generator
    streams: tuple[torch.Generator, ...]
    net: str = "vgg"
    label: Tensor | None = None  # [B, c_dim]
    identity: Identity | None = None

    @property
    def batch(self) -> int:
        return len(self.observation)

    @property
    def device(self) -> torch.device:
        return self.observation.device

    @cached_property
    def visible(self) -> Tensor | None:
        """How much of each pixel of the observation tells something, [1 or B, 1, h, w]; None where all do."""
        side = self.generator.resolution
        return self.operator.visible((self.batch, self.generator.channels, side, side))

    def row(self, index: int) -> Problem:
        """Image `index` alone, with the draws that it has in the batch."""
        own = slice(index, index + 1)
        return replace(
            self, observation=self.observation[own], operator=self.operator.row(index, self.batch),
            streams=self.streams[own], label=None if self.label is None else self.label[own],
            identity=None if self.identity is None else self.identity.row(index, self.batch),
        )  # fmt: skip

    def predict(self, image: Tensor) -> Tensor:
        """What the operator makes of an image; new draws each time."""
        return self.operator(image, self.streams)

    def network(self, net: str | None = None) -> perceptual.Perceptual:
        """A perceptual network in the fastest type; the restoration's own, if not said."""
        return perceptual.load(net or self.net, str(self.device), perceptual.fastest_dtype(self.device))

    def rng(self, key: str) -> Rng:
        return Rng.of(self.streams, self.batch).child(key)

    def with_z(self, point: Point) -> Point:
        """The point with a z [B, z_dim]; one is drawn where it has none."""
        if point.z is not None:
            return point
        z = self.rng("z").normal(torch.empty(self.batch, self.generator.z_dim)).to(self.device)
        return replace(point, z=z, latent=self.map(z))

    def map(self, z: Tensor) -> Tensor:
        """The latent of z, of each image's class."""
        if not isinstance(self.generator, StyleGenerator):
            return z
        label = self.label
        if label is not None and len(label) != len(z):
            label = label.expand(len(z), -1)  # many candidates for one image
        return self.generator.mapping(z, label)


def oracle_mask(operator: Operator) -> Operator:
    """What a solver may assume that was told which pixels are dead: f.sample(…) with all but them approximated.

    The paper gave its rivals this advantage (Poirier-Ginter & Lalonde 2023, §4.1).
    """

    def told(stage: Operator) -> Operator:
        if isinstance(stage, DeadPixels):
            return stage
        return stage.with_nested(oracle_mask) if stage.nested else stage.approx()

    return compose(part for stage in operator for part in told(stage))
