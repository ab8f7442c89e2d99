"""What a denoiser sees in one step of its training: patches, noise levels and noise.

Every step has a random stream of its own, so that a training which was stopped goes on with the
same draws, and draws are made on the CPU, so that they are the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.rng import child_seed

from .dead_leaves import dead_leaves
from .recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Clean patches [B, C, P, P] in [0, 1], noise levels [B, 1, 1 or P, 1 or P], and N(0, 1)."""

    clean: Tensor
    sigma: Tensor
    noise: Tensor

    @property
    def noisy(self) -> Tensor:
        return self.clean + self.sigma * self.noise

    def to(self, device: str) -> Batch:
        return Batch(self.clean.to(device), self.sigma.to(device), self.noise.to(device))


def draw_batch(pictures: Sequence[Tensor], recipe: Recipe, step: int) -> Batch:
    """Draw the patches, noise levels and noise of a step.

    pictures: each [C, H, W], uint8, with sides of at least `recipe.patch`. Every picture is as
    likely as any other, and every place in it.
    """
    seed = child_seed(recipe.seed, "step", step)
    generator = torch.Generator().manual_seed(seed)
    patches = []
    for _ in range(recipe.batch):
        picture = pictures[_integer(len(pictures), generator)]
        is_synthetic = _uniform(generator) < recipe.synthetic
        if is_synthetic:
            patch = dead_leaves(recipe.patch, recipe.patch, picture, generator)
        else:
            patch = _turned(_part(picture, recipe.patch, generator), generator)
        patches.append(patch)
    clean = torch.stack(patches).float() / 255
    sigma = draw_sigma(recipe, generator)
    noise = torch.randn(clean.shape, generator=generator)
    return Batch(clean, sigma, noise)


def draw_sigma(recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Draw the noise level of each patch, log-uniformly: [B, 1, 1, 1], or [B, 1, P, P] with maps.

    A map interpolates log σ bilinearly between the points of a small grid of random levels.
    """
    low, high = map(math.log, recipe.sigma)
    level = torch.rand(recipe.batch, 1, 1, 1, generator=generator) * (high - low) + low
    mapped = round(recipe.maps * recipe.batch)
    if mapped:
        sides = (recipe.patch, recipe.patch)
        grid_shape = (mapped, 1, recipe.map_grid, recipe.map_grid)
        grid = torch.rand(grid_shape, generator=generator) * (high - low) + low
        smooth = F.interpolate(grid, sides, mode="bilinear", align_corners=True)
        constant = level[mapped:].expand(-1, -1, *sides)
        level = torch.cat([smooth, constant])
    return level.exp()


def _part(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A random square of a picture."""
    height, width = picture.shape[1:]
    top = _integer(height - side + 1, generator)
    left = _integer(width - side + 1, generator)
    return picture[:, top : top + side, left : left + side]


def _turned(patch: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight turns and reflections of a square."""
    if _integer(2, generator):
        patch = patch.flip(2)
    quarter_turns = _integer(4, generator)
    return patch.rot90(quarter_turns, (1, 2))


def _integer(high: int, generator: torch.Generator) -> int:
    """An integer in [0, high)."""
    return int(torch.randint(high, (), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
