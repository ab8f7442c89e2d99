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
        clean = self.clean.to(device)
        sigma = self.sigma.to(device)
        noise = self.noise.to(device)
        return Batch(clean, sigma, noise)


def draw_batch(pictures: Sequence[Tensor], recipe: Recipe, step: int) -> Batch:
    """Draw the patches, noise levels and noise of a step.

    pictures: each [C, H, W], uint8, with sides of at least `recipe.patch`. Every picture is as
    likely as any other, and every place in it.
    """
    generator = stream(recipe.seed, "step", step)
    side = recipe.patch
    patches = []
    for _ in range(recipe.batch):
        picture = pictures[_integer(len(pictures), generator)]
        is_synthetic = _uniform(generator) < recipe.synthetic
        if is_synthetic:
            patch = dead_leaves(side, side, picture, generator)
        else:
            part = random_part(picture, side, side, generator)
            patch = _turned(part, generator)
        patches.append(patch)
    clean = torch.stack(patches).float() / 255
    sigma = draw_sigma(recipe, generator)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32, device="cpu")
    return Batch(clean, sigma, noise)


def draw_sigma(recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Draw the noise level of each patch, log-uniformly: [B, 1, 1, 1], or [B, 1, P, P] with maps.

    A map interpolates log σ bilinearly between the points of a small grid of random levels.
    """
    low, high = map(math.log, recipe.sigma)

    def exponents(*shape: int) -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
        return low + (high - low) * uniform

    level = exponents(recipe.batch, 1, 1, 1)
    mapped = round(recipe.maps * recipe.batch)
    if mapped:
        sides = (recipe.patch, recipe.patch)
        grid = exponents(mapped, 1, recipe.map_grid, recipe.map_grid)
        smooth = F.interpolate(grid, sides, mode="bilinear", align_corners=True)
        constant = level[mapped:].expand(-1, 1, *sides)
        level = torch.cat([smooth, constant])
    return level.exp()


def random_part(picture: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """A random part [C, height, width] of a picture [C, H, W], every place as likely as another."""
    whole_height, whole_width = picture.shape[1:]
    top = _integer(whole_height - height + 1, generator)
    left = _integer(whole_width - width + 1, generator)
    return picture[:, top : top + height, left : left + width]


def stream(*path: object) -> torch.Generator:
    """A random stream that depends on `path` (a seed and names) alone."""
    return torch.Generator().manual_seed(child_seed(*path))


def _turned(patch: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight turns and reflections of a square."""
    if _integer(2, generator):
        patch = patch.flip(2)
    quarter_turns = _integer(4, generator)
    return patch.rot90(quarter_turns, (1, 2))


def _integer(high: int, generator: torch.Generator) -> int:
    """An integer in [0, high)."""
    drawn = torch.randint(high, (), generator=generator, device="cpu")
    return int(drawn)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float32, device="cpu"))
