"""What a restoration works with: observation, operator, prior, and each image's random draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade import DeadPixels
from degrade.images import shows_picture
from degrade.operator import Operator, compose
from degrade.rng import Rng

from . import perceptual
from .axes import Axes
from .draws import stream
from .generator import Generator, StyleGenerator
from .identity import FaceIdentity
from .point import Point

if TYPE_CHECKING:
    from .denoiser import Denoiser

SAMPLES = 10_000  # draws of W that describe its distribution


class Prior(Protocol):
    """What every method may ask of a generator or a denoiser.

    resolution: the side of its images; None for any size. channels: of its images. c_dim: how many
    classes it has. prior_kind: "generator" or "denoiser"; a method says which one it needs.
    """

    @property
    def resolution(self) -> int | None: ...

    channels: int
    c_dim: int
    prior_kind: str


@dataclass(frozen=True)
class Problem:
    """What is to be restored, for a whole batch; `row(i)` selects one image.

    observation: [B, C, h, w] in float32. seeds: one per image. net: the perceptual network of terms
    that do not name their own. label: classes [B, c_dim]. init: where to begin, see
    `invert.restore`. lr_scale: factor of the learning rates of codes. method_name: how error
    messages call the method.

    Every draw depends on the image's seed and on its purpose, such as a phase and a step. So no
    other image of the batch, and nothing that happened before, can change it.
    """

    observation: Tensor
    operator: Operator
    prior: Prior
    seeds: tuple[int, ...]
    net: str = "vgg"
    label: Tensor | None = None
    identity: FaceIdentity | None = None
    init: Tensor | str | None = None
    lr_scale: float | None = None
    method_name: str = "own"

    @property
    def generator(self) -> Generator:
        """The prior of a method that declared prior_kind="generator"."""
        return cast("Generator", self.prior)

    @property
    def style(self) -> StyleGenerator:
        """The generator, for what needs its W; `Space.check` has made sure that it has one."""
        return cast("StyleGenerator", self.prior)

    @property
    def denoiser(self) -> Denoiser:
        """The prior of a method that declared prior_kind="denoiser"."""
        return cast("Denoiser", self.prior)

    @property
    def has_w(self) -> bool:
        """Whether the generator maps z to style codes."""
        return "W" in self.generator.spaces

    @property
    def batch(self) -> int:
        return len(self.observation)

    @property
    def device(self) -> torch.device:
        return self.observation.device

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """[B, C, H, W] of the restored images."""
        return image_shape(self.observation, self.operator, self.prior)

    @property
    def shows_picture(self) -> bool:
        """Whether the observation is a picture, and not one row of measurements."""
        return shows_picture(self.observation.shape)

    @cached_property
    def visible(self) -> Tensor | None:
        """The visible share of each pixel of the observation, [1 or B, 1, h, w]; None for all."""
        return self.operator.visible(self.image_shape)

    @cached_property
    def center(self) -> Tensor:
        """The mean of W, [B, w_dim]; of the image's class where there are classes."""
        has_means_per_class = self.style.w_avg.ndim == 2
        if self.label is None or has_means_per_class:
            return self.style.mapping.center(self.label, self.batch)
        means = [w.mean(0) for w in self.some_w]
        return torch.stack(means)

    @cached_property
    def gaussian(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of W before its last leaky ReLU, of each image's class.

        Both broadcast against [B, num_ws, w_dim].
        """
        if self.label is None:
            return self.style.w_gaussian
        means = []
        deviations = []
        for w in self.some_w:
            before = F.leaky_relu(w, 5)
            means.append(before.mean(0))
            deviations.append(before.std(0))
        return torch.stack(means)[:, None], torch.stack(deviations)[:, None]

    @cached_property
    def w_axes(self) -> Axes:
        """The principal axes of W, of each image's class where there are classes."""
        if self.label is None:
            return self.style.w_axes
        of_class: dict[int, Axes] = {}
        axes = []
        for w in self.some_w:
            if id(w) not in of_class:
                of_class[id(w)] = Axes.of(w)
            axes.append(of_class[id(w)])
        return Axes.cat(axes)

    @cached_property
    def some_w(self) -> list[Tensor]:
        """Many draws of W for each image, of its class; images of one class share the tensor."""
        if self.label is None:
            w, _ = self.style.some_w(SAMPLES)
            return [w] * self.batch
        draws: dict[tuple[float, ...], Tensor] = {}
        per_image = []
        for row in self.label:
            key = tuple(row.tolist())
            if key not in draws:
                draws[key], _ = self.style.some_w(SAMPLES, row[None])
            per_image.append(draws[key])
        return per_image

    def row(self, index: int) -> Problem:
        """Image `index` alone, with the same draws that it has in the batch."""
        rows = slice(index, index + 1)
        identity = self.identity
        if identity is not None:
            identity = identity.row(index, self.batch)
        label = None if self.label is None else self.label[rows]
        return replace(
            self,
            observation=self.observation[rows],
            operator=self.operator.row(index, self.batch),
            seeds=self.seeds[rows],
            label=label,
            identity=identity,
        )

    def rng(self, key: str) -> Rng:
        """The random streams of the images for one purpose."""
        return Rng.of(streams(self.seeds, key), self.batch)

    def zeros(self) -> Tensor:
        """A zero for each image, [B]."""
        return torch.zeros(self.batch, device=self.device, dtype=torch.float32)

    def normal(self, key: str, *shape: int) -> Tensor:
        """Draw N(0, 1) for one purpose, [B, *shape]."""
        like = torch.empty(self.batch, *shape, device="cpu", dtype=torch.float32)
        draws = self.rng(key).normal(like)
        return draws.to(self.device)

    def predict(self, image: Tensor, key: str) -> Tensor:
        """Apply the operator to an image, with the draws of this key."""
        return self.operator.predict(image, streams(self.seeds, f"{key}/operator"))

    def network(self, net: str | None = None) -> perceptual.Perceptual:
        """A perceptual network in the fastest type; by default the restoration's own."""
        name = net or self.net
        dtype = perceptual.fastest_dtype(self.device)
        return perceptual.for_losses(name, str(self.device), dtype)

    def draw_z(self, key: str) -> Tensor:
        """Draw z ~ N(0, I), [B, z_dim]."""
        return self.normal(key, self.generator.z_dim)

    def with_z(self, point: Point) -> Point:
        """The point with a z [B, z_dim]; one is drawn where it has none."""
        if point.z is not None:
            return point
        z = self.draw_z("z")
        return replace(point, z=z, latent=self.map(z))

    def map(self, z: Tensor) -> Tensor:
        """Map z to the latent, of each image's class."""
        if not self.has_w:
            return z
        label = self.label
        if label is not None and len(label) != len(z):
            label = label.expand(len(z), -1)  # many candidates for one image
        return self.style.mapping(z, label)


def image_shape(observation: Tensor, operator: Operator, prior: Prior) -> tuple[int, int, int, int]:
    """[B, C, H, W] of the images that the prior can make of an observation.

    A prior of any size takes the images that the operator turns into images of this size.
    """
    batch = len(observation)
    side = prior.resolution
    if side is not None:
        return batch, prior.channels, side, side
    height, width = operator.input_shape(tuple(observation.shape))[2:]
    return batch, prior.channels, height, width


def streams(seeds: tuple[int, ...], key: str) -> tuple[torch.Generator, ...]:
    """Make a new generator for each image, the same one for the same key."""
    return tuple(stream(seed, key) for seed in seeds)


def oracle_mask(operator: Operator) -> Operator:
    """What a solver may assume if it knows which pixels are dead: all other stages approximated.

    The paper gave its rivals this advantage (Poirier-Ginter & Lalonde 2023, §4.1).
    """
    stages: list[Operator] = []
    for stage in operator:
        if isinstance(stage, DeadPixels):
            stages.append(stage)
        elif stage.nested:
            stages.extend(stage.with_nested(oracle_mask))
        else:
            stages.extend(stage.approx())
    return compose(stages)
