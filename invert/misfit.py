"""How much of what an observation shows a restoration fails to explain.

A generator that is asked to draw what it does not know still returns an image. It is found out
here: the image is degraded again and compared with the observation, and so is a plain colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.operator import Operator

BLOCKS = 16  # pictures are compared as BLOCKS × BLOCKS means, in which noise averages out
DRAWS = 8  # of the operator's noise
SURE = 0.1  # of the noise in a block: smaller variances cannot be told from none
ROUNDING = (1 / 255) ** 2 / 12  # variance of rounding to 8 bits
LEAST_WEIGHT = 0.05  # of a block that is compared


@torch.no_grad()
def unexplained(observation: Tensor, operator: Operator, image: Tensor, seed: int = 0) -> float:
    """The share of the observation's variance that the degraded image does not explain.

    (‖y − f(x)‖² − noise) / (‖y − c‖² − noise), over means of blocks, where c is the mean colour of
    y. 0: f(x) differs from y as two draws of the noise differ. 1: a plain colour explains y as
    well. Pixels that do not depend on the image do not count: hidden ones, and those around a part
    of a photo. The noise is measured between draws of f(x).

    observation: [1, C, h, w]. operator: as the solver assumed it. image: [1, C, H, W], the result.
    Returns 0 where nothing can be told: measurements that are no picture, nothing visible.
    """
    height, width = observation.shape[2:]
    if height == 1 or width == 1:
        return 0.0
    blank = torch.zeros_like(image)
    dark = torch.cat(_draws(operator, blank, seed))
    light = torch.cat(_draws(operator, blank + 1, seed))
    weight = (light - dark).mean(0, keepdim=True).abs().clamp(0, 1)
    size = min(BLOCKS, height), min(BLOCKS, width)
    block_weight = F.adaptive_avg_pool2d(weight, size)
    block_weight = torch.where(block_weight > LEAST_WEIGHT, block_weight, 0.0)
    if not block_weight.any():
        return 0.0

    def means(picture: Tensor) -> Tensor:
        sums = F.adaptive_avg_pool2d(picture.clamp(0, 1) * weight, size)
        return sums / block_weight.clamp_min(LEAST_WEIGHT)

    def variance(difference: Tensor) -> float:
        squares = (difference.square() * block_weight).sum()
        return float(squares / block_weight.sum())

    target = means(observation)
    predictions = torch.cat([means(draw) for draw in _draws(operator, image, seed)])
    expected = predictions.mean(0, keepdim=True)
    noise = variance(predictions.var(0, keepdim=True).sqrt()) + ROUNDING
    totals = (target * block_weight).sum((2, 3), keepdim=True)
    colour = totals / block_weight.sum((2, 3), keepdim=True).clamp_min(LEAST_WEIGHT)
    # y holds one draw of the noise, and the expectation the mean of several
    misfit = variance(target - expected) - (1 + 1 / DRAWS + SURE) * noise
    structure = variance(target - colour) - noise
    return max(0.0, misfit) / max(structure, SURE * noise)


def _draws(operator: Operator, image: Tensor, seed: int) -> list[Tensor]:
    """What the operator makes of an image, with the noise of several draws."""
    return [operator(image, torch.Generator().manual_seed(seed + i)) for i in range(DRAWS)]
