"""Where a search stands: everything that decides the image."""

from __future__ import annotations

from dataclasses import dataclass

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
            return generator.synthesize(self.latent, **self._options())
        images = []
        for i in range(len(self.latent)):
            images.append(self.row(i)._image_with_weights(generator))
        return torch.cat(images)

    def row(self, index: int) -> Point:
        """Select one image of the batch."""
        return tree_map(lambda tensor: tensor[index : index + 1], self)

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

    def _image_with_weights(self, generator: Generator) -> Tensor:
        assert self.weights is not None
        weights = {name: weight[0] for name, weight in self.weights.items()}
        image = torch.func.functional_call(generator, weights, self.latent, self._options())
        assert isinstance(image, Tensor)
        return image


@dataclass(frozen=True)
class Moment:
    """The time at which a space is asked for its point.

    progress: share of the phase's steps that are done, 0 to 1. rng: the random stream of the step.
    """

    progress: float
    rng: Rng
