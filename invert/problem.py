"""What a restoration has to go by: observation, operator, generator, and the draws of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade import DeadPixels
from degrade.operator import Operator, compose
from degrade.rng import Rng, child_seed

from . import perceptual
from .generator import Generator, StyleGenerator
from .identity import FaceIdentity
from .point import Point

SAMPLES = 10_000  # of W, where it is to be described


@dataclass(frozen=True)
class Problem:
    """All of a batch's; `row` is that of one image.

    Every draw is a function of the image's seed and of what it is for, such as a phase and a step:
    so nothing that happens to its batch mates, or happened before, changes it.
    """

    observation: Tensor  # [B, C, h, w], float32
    operator: Operator
    generator: Generator
    seeds: tuple[int, ...]
    net: str = "vgg"
    label: Tensor | None = None  # [B, c_dim]
    identity: FaceIdentity | None = None

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

    @cached_property
    def center(self) -> Tensor:
        """The mean of W, [B, w_dim]; of the image's class, where there are classes."""
        generator = self.generator
        if self.label is None or generator.w_avg.ndim == 2:
            return generator.mapping.center(self.label, self.batch)
        return torch.stack([w.mean(0) for w in self.some_w])

    @cached_property
    def gaussian(self) -> tuple[Tensor, Tensor]:
        """`w_gaussian` of the generator, or of each image's class; both broadcast against [B, num_ws, w_dim]."""
        if self.label is None:
            return self.generator.w_gaussian
        before = [F.leaky_relu(w, 5) for w in self.some_w]
        return torch.stack([b.mean(0) for b in before])[:, None], torch.stack(
            [b.std(0) for b in before]
        )[:, None]

    @cached_property
    def some_w(self) -> list[Tensor]:
        """For each image, many draws of W, of its class; the same tensor for the same class."""
        if self.label is None:
            return [self.generator.some_w(SAMPLES)[0]] * self.batch
        found: dict[tuple, Tensor] = {}
        for row in self.label:
            if tuple(row.tolist()) not in found:
                found[tuple(row.tolist())] = self.generator.some_w(SAMPLES, row[None])[0]
        return [found[tuple(row.tolist())] for row in self.label]

    def row(self, index: int) -> Problem:
        """Image `index` alone, with the draws that it has in the batch."""
        own = slice(index, index + 1)
        return replace(
            self,
            observation=self.observation[own],
            operator=self.operator.row(index, self.batch),
            seeds=self.seeds[own],
            label=None if self.label is None else self.label[own],
            identity=None if self.identity is None else self.identity.row(index, self.batch),
        )

    def rng(self, key: str) -> Rng:
        return Rng.of(streams(self.seeds, key), self.batch)

    def predict(self, image: Tensor, key: str) -> Tensor:
        """What the operator makes of an image, with the draws of this key."""
        return self.operator(image, streams(self.seeds, f"{key}/operator"))

    def network(self, net: str | None = None) -> perceptual.Perceptual:
        """A perceptual network in the fastest type; the restoration's own, if not said."""
        return perceptual.for_losses(
            net or self.net, str(self.device), perceptual.fastest_dtype(self.device)
        )

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


def streams(seeds: tuple[int, ...], key: str) -> tuple[torch.Generator, ...]:
    """A new generator for each image, the same for the same key."""
    return tuple(torch.Generator().manual_seed(child_seed(seed, key)) for seed in seeds)


def oracle_mask(operator: Operator) -> Operator:
    """What a solver may assume that was told which pixels are dead: f.sample(…) with all but them approximated.

    The paper gave its rivals this advantage (Poirier-Ginter & Lalonde 2023, §4.1).
    """

    def told(stage: Operator) -> Operator:
        if isinstance(stage, DeadPixels):
            return stage
        return stage.with_nested(oracle_mask) if stage.nested else stage.approx()

    return compose(part for stage in operator for part in told(stage))
