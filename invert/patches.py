"""Draw the batch of one training step: patches, noise levels and noise.

Every step has its own random stream, so that a training which was stopped resumes with the same
draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.spec import parse

from .dead_leaves import dead_leaves
from .draws import integer, normal, stream, uniform
from .recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Clean patches [B, C, P, P] in [0, 1], noise levels [B, 1, 1 or P, 1 or P], and N(0, 1).

    Of damaged patches, the noise is the error of the damage divided by sigma.
    """

    clean: Tensor
    sigma: Tensor
    noise: Tensor

    @property
    def noisy(self) -> Tensor:
        return self.clean + self.sigma * self.noise

    def to(self, device: str) -> Batch:
        clean = self.clean.to(device)
        sigma = self.sigma.to(device)
        noise = self.noise.to(device)
        return Batch(clean, sigma, noise)


def draw_batch(pictures: Sequence[Tensor], recipe: Recipe, step: int) -> Batch:
    """Draw the patches, noise levels and noise of a step.

    pictures: each [C, H, W], uint8, with sides of at least `recipe.patch`. All pictures are equally
    likely, and so are all positions in a picture.
    """
    generator = stream(recipe.seed, "step", step)
    patches = []
    for _ in range(recipe.batch):
        index = integer(len(pictures), generator)
        patch = _draw_patch(pictures[index], recipe, generator)
        patches.append(patch)
    clean = torch.stack(patches).float() / 255
    sigma = draw_sigma(recipe, generator)
    noise = normal(clean.shape, generator)
    for index in range(recipe.batch - recipe.damaged_patches, recipe.batch):
        patch = clean[index : index + 1]
        error, level = draw_error(patch, recipe, generator)
        sigma[index] = level
        noise[index] = error / level
    return Batch(clean, sigma, noise)


def draw_error(patch: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, float]:
    """The error that the recipe's damage makes in a patch [1, C, P, P], and the sigma that is told.

    sigma: the root mean square of the error, times a random factor, within the recipe's range.
    """
    assert recipe.damage is not None
    operator = parse(recipe.damage).sample(tuple(patch.shape), generator)
    error = operator(patch, generator) - patch
    low, high = map(math.log, recipe.factors)
    exponent = low + (high - low) * float(uniform((), generator))
    level = float(error.square().mean().sqrt()) * math.exp(exponent)
    lowest, highest = recipe.sigma
    return error[0], min(max(level, lowest), highest)


def _draw_patch(picture: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """A part of the picture, or dead leaves in its colours."""
    side = recipe.patch
    quantile = float(uniform((), generator))
    if quantile < recipe.synthetic:
        return dead_leaves(side, side, picture, generator)
    part = random_part(picture, side, side, generator)
    return _turned(part, generator) if recipe.turned else part


def draw_sigma(recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Draw the noise level of each patch, log-uniformly: [B, 1, 1, 1], or [B, 1, P, P] with maps.

    A map interpolates log σ bilinearly between the points of a small grid of random levels.
    """
    lowest, highest = map(math.log, recipe.sigma)
    log_range = highest - lowest

    def draw_exponents(*shape: int) -> Tensor:
        return lowest + log_range * uniform(shape, generator)

    exponents = draw_exponents(recipe.batch, 1, 1, 1)
    mapped = round(recipe.maps * recipe.batch)
    if mapped:
        sides = (recipe.patch, recipe.patch)
        grid = draw_exponents(mapped, 1, recipe.map_grid, recipe.map_grid)
        maps = F.interpolate(grid, sides, mode="bilinear", align_corners=True)
        unmapped = exponents[mapped:]
        constant = unmapped.expand(-1, 1, *sides)
        exponents = torch.cat([maps, constant])
    return exponents.exp()


def random_part(picture: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """A part [C, height, width] of a picture [C, H, W]. All positions are equally likely."""
    full_height, full_width = picture.shape[1:]
    top = integer(full_height - height + 1, generator)
    left = integer(full_width - width + 1, generator)
    rows = slice(top, top + height)
    columns = slice(left, left + width)
    return picture[:, rows, columns]


def _turned(patch: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight rotations and reflections of a square."""
    if integer(2, generator):
        patch = patch.flip(2)
    quarter_turns = integer(4, generator)
    return patch.rot90(quarter_turns, (1, 2))
