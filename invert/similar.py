"""Groups of similar patches, and their estimate by ridge regression.

Photos repeat themselves: a patch has many similar ones around it, and noise differs in all of them.
A pilot, an estimate of the image by another method, says which patches are similar and how they
vary. Every patch then becomes a linear combination of the noisy patches of its group.
Source: Herbreteau & Kervrann 2022, "Towards a Unified View of Unsupervised Non-Local Methods for
Image Denoising: the NL-Ridge Approach", second step. Here the mean of a group is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 4  # pixels of a patch: smaller patches find more that are similar
STRIDE = 3  # pixels from one patch that is estimated with its group to the next
RADIUS = 19  # pixels: how far away similar patches are searched
GROUP = 64  # patches of a group
LEAST_SIGMA = 0.002  # below, products of patches are not positive definite in float32
BAND = 8  # rows of groups that are estimated at once, which bounds the memory


def ridge_estimate(y: Tensor, pilot: Tensor, sigma: float) -> Tensor:
    """Estimate the image in y = x + noise of standard deviation sigma, [1, C, H, W].

    pilot: an estimate of x, in the same shape. Patches overlap; their values are averaged, weighted
    by the inverse variance of the noise that is left in them.
    """
    height, width = y.shape[2:]
    y = on_grid(y)
    pilot = on_grid(pilot)
    noisy_patches = patches_of(y)
    pilot_patches = patches_of(pilot)
    sums = torch.zeros_like(noisy_patches)
    totals = torch.zeros_like(noisy_patches[:, :1])
    for groups in similar_patches(pilot):
        weights = ridge_weights(pilot_patches[groups], sigma)
        estimates = weights @ noisy_patches[groups]
        trust = 1 / weights.square().sum(2, keepdim=True)
        index = groups.flatten()
        sums.index_add_(0, index, (trust * estimates).flatten(0, 1))
        totals.index_add_(0, index, trust.flatten(0, 1))
    total = image_of(totals.expand_as(sums), y.shape)
    return (image_of(sums, y.shape) / total)[..., :height, :width]


def ridge_weights(patches: Tensor, sigma: float) -> Tensor:
    """The weights [L, k, k] that estimate every patch of a group from all noisy ones.

    patches: of the pilot, [L, k, n]. With Q = P Pᵀ of the group's differences P from its mean, the
    expected error is least for the differences' weights Q (Q + n σ² I)⁻¹. The mean is kept.
    """
    _, count, values = patches.shape
    differences = patches - patches.mean(1, keepdim=True)
    products = differences @ differences.mT
    sigma = max(sigma, LEAST_SIGMA)
    noise = values * sigma**2 * torch.eye(count).to(products)
    factor = torch.linalg.cholesky(products + noise)
    return torch.cholesky_solve(products, factor) + 1 / count


def similar_patches(pilot: Tensor) -> Iterator[Tensor]:
    """For a band of patches after the other: the numbers [L, k] of the most similar patches.

    pilot: [1, C, H, W], see `on_grid`. The first patch of each row is STRIDE pixels right of the
    one before. Patches are numbered row by row, as in `patches_of`. Distances are those of grey.
    """
    grey = pilot.mean(1, keepdim=True)
    height, width = grey.shape[2:]
    across = width - SIDE + 1
    down = height - SIDE + 1
    nearby = min(across, RADIUS + 1) * min(down, RADIUS + 1)  # that a corner sees
    count = min(GROUP, nearby)
    surrounded = F.pad(grey, [RADIUS] * 4, value=math.inf)
    columns = torch.arange(0, across, STRIDE, device=pilot.device)
    for top in range(0, down, BAND * STRIDE):
        bottom = min(top + BAND * STRIDE, down)
        distances = band_distances(surrounded, top, bottom + SIDE - 1)
        nearest = distances.topk(count, largest=False).indices
        reach = 2 * RADIUS + 1
        below = nearest // reach - RADIUS
        right = nearest % reach - RADIUS
        rows = torch.arange(top, bottom, STRIDE, device=pilot.device)
        first = (rows[:, None] * across + columns).flatten()
        yield first[:, None] + below * across + right


def band_distances(surrounded: Tensor, top: int, bottom: int) -> Tensor:
    """The mean squares [L, (2 RADIUS + 1)²] of patches minus those at every distance.

    surrounded: the image with RADIUS pixels around it. top, bottom: the band's rows of the image.
    """
    reach = 2 * RADIUS + 1
    width = surrounded.shape[3] - 2 * RADIUS
    region = surrounded[:, :, top : bottom + 2 * RADIUS]
    band = region[:, :, RADIUS : RADIUS + bottom - top, RADIUS : RADIUS + width]
    distances = []
    for below in range(reach):
        rows = region[0, :, below : below + bottom - top]
        shifted = rows.unfold(2, width, 1).transpose(1, 2)  # [1, reach, rows, width]
        squares = (band - shifted).square()
        distances.append(F.avg_pool2d(squares, SIDE, STRIDE)[0].flatten(1))
    stacked = torch.cat(distances).T.contiguous()
    itself = reach * RADIUS + RADIUS
    stacked[:, itself] = -1  # the nearest also where all are alike
    return stacked


def on_grid(x: Tensor) -> Tensor:
    """Repeat the last row and column until patches at every STRIDE pixels cover the image."""
    height, width = x.shape[2:]
    below = covered(height) - height
    right = covered(width) - width
    return F.pad(x, (0, right, 0, below), mode="replicate")


def covered(length: int) -> int:
    """The least length from `length` on that patches at every STRIDE pixels cover."""
    steps = math.ceil((length - SIDE) / STRIDE)
    return SIDE + STRIDE * max(0, steps)


def patches_of(x: Tensor) -> Tensor:
    """All patches of an image [1, C, H, W] row by row, [count, C · SIDE²]."""
    return F.unfold(x, SIDE)[0].T.contiguous()


def image_of(patches: Tensor, shape: torch.Size) -> Tensor:
    """The sum of overlapping patches, each at its place."""
    return F.fold(patches.T[None], shape[2:], SIDE)
