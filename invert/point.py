"""Where a search stands: everything that decides the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from degrade.rng import Rng

from .generator import Features, Generator
from .roles import Variables
from .tree import tree_cat, tree_map


@dataclass(frozen=True)
class Point:
    """Everything that decides the images of a batch. Each tensor in it has the batch as first axis.

    latent: of W, W+, W++ (packed), or of Z where the generator has no W. z: what the latent was
    made from, for methods that search there. noises: noise maps in place of the checkpoint's.
    start: features in place of what the first layers make. weights: for each image, weights
    [B, …] in place of the generator's.
    """

    latent: Tensor
    z: Tensor | None = None
    noises: tuple[Tensor, ...] | None = None
    start: Features | None = None
    weights: Variables | None = None

    def image(self, generator: Generator) -> Tensor:
        """Synthesize the images [B, C, R, R], unclamped."""
        if self.weights is None:
            image: Tensor = generator(self.latent, **self._options())
            return image
        images = []
        for i, weights in enumerate(self.weights_of_images):
            row = self.row(i)
            image = torch.func.functional_call(generator, weights, row.latent, row._options())
            images.append(image)
        return torch.cat(images)

    @cached_property
    def weights_of_images(self) -> list[Variables]:
        """The weights of each image on its own, without the batch axis.

        They are cached, so that gradients of several uses add up in one place.
        """
        weights = self.weights or {}
        per_image = []
        for i in range(len(self.latent)):
            weights_of_image = {name: weight[i] for name, weight in weights.items()}
            per_image.append(weights_of_image)
        return per_image

    def row(self, index: int) -> Point:
        """Select one image of the batch."""
        rows = slice(index, index + 1)
        return tree_map(lambda tensor: tensor[rows], self)

    def detached(self) -> Point:
        """The same point without its gradient history."""
        return tree_map(Tensor.detach, self)

    @staticmethod
    def cat(points: list[Point]) -> Point:
        """Join points along the batch."""
        return tree_cat(*points)

    def _options(self) -> dict[str, object]:
        options: dict[str, object] = {}
        if self.noises is not None:
            options["noises"] = self.noises
        if self.start is not None:
            options["start"] = self.start
        return options


@dataclass(frozen=True)
class Moment:
    """The time at which a space is asked for its point.

    progress: share of the phase's steps that are done, 0 to 1. rng: the random stream of the step.
    """

    progress: float
    rng: Rng
