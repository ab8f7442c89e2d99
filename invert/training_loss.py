"""The loss of a denoiser's training."""

from __future__ import annotations

import torch
from torch import Tensor

from . import perceptual
from .patches import Batch
from .recipe import Recipe

MOST_PRECISION = 2500.0  # so that images with hardly any noise do not decide the loss
NETS = ("vgg", "alex")  # whose LPIPS is averaged


def loss_of(estimate: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """The loss that a recipe asks for. estimate: of the clean patches, [B, C, P, P]."""
    difference = estimate.float() - batch.clean
    sigma_data = recipe.sigma_data
    if sigma_data is not None:
        precision = batch.sigma.square().reciprocal() + 1 / sigma_data**2
        precision = precision.clamp_max(MOST_PRECISION)
        weighted = precision * difference.square()
        return weighted.mean()
    error = (difference.abs() / batch.sigma.sqrt()).mean()
    if recipe.damaged_patches and recipe.perceptual:
        error = error + recipe.perceptual * perceptual_loss(estimate, batch, recipe)
    return error


def perceptual_loss(estimate: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """LPIPS of the damaged patches, divided by √σ and by the number of all patches."""
    damaged = slice(recipe.batch - recipe.damaged_patches, None)
    in_colour = (-1, 3, -1, -1)
    restored = estimate[damaged].expand(in_colour)
    clean = batch.clean[damaged].expand(in_colour)
    distances = []
    for net in NETS:
        distance = perceptual.lpips(restored, clean, net=net)
        distances.append(distance.flatten())
    mean_distance = torch.stack(distances).mean(0)
    sigma = batch.sigma[damaged].flatten(1).mean(1)
    total = (mean_distance.float() / sigma.sqrt()).sum()
    return total / recipe.batch
