"""Measure how much of what an observation shows a restoration fails to explain.

A generator returns an image even for an observation that it cannot draw. To notice this, the
operator degrades the restoration again, and the result is compared with the observation. A plain
colour is the standard of comparison.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.operator import Operator

BLOCKS = 16  # pictures are compared as BLOCKS × BLOCKS means, in which noise averages out
DRAWS = 8  # of the operator's noise
SURE = 0.1  # share of the noise in a block; smaller variances cannot be told from none
ROUNDING = (1 / 255) ** 2 / 12  # variance of rounding to 8 bits
LEAST_WEIGHT = 0.05  # blocks of less weight are not compared


@torch.no_grad()
def unexplained(observation: Tensor, operator: Operator, image: Tensor, seed: int = 0) -> float:
    """Return the share of the observation's variance that the degraded image does not explain.

    (‖y − f(x)‖² − noise) / (‖y − c‖² − noise), over means of blocks, where c is the mean colour of
    y. 0: f(x) differs from y as two draws of the noise differ. 1: a plain colour explains y as
    well. Pixels that do not depend on the image do not count: hidden ones, and those around a part
    of a photo. The noise is measured between draws of f(x).

    observation: [1, C, h, w]. operator: as the solver assumed it. image: [1, C, H, W], the result.
    Returns 0 where nothing can be measured: measurements that are no picture, nothing visible.
    """
    height, width = observation.shape[2:]
    if height == 1 or width == 1:
        return 0.0
    weight = pixel_weight(operator, image, seed)
    blocks = Blocks(weight)
    if not blocks.weight.any():
        return 0.0
    target = blocks.means(observation)
    predictions = []
    for draw in degraded(operator, image, seed):
        predictions.append(blocks.means(draw))
    prediction = torch.cat(predictions)
    expected = prediction.mean(0, keepdim=True)
    deviation = prediction.var(0, keepdim=True).sqrt()
    noise = blocks.mean_square(deviation) + ROUNDING
    # y holds one draw of the noise, and the expectation the mean of several
    noise_of_difference = (1 + 1 / DRAWS + SURE) * noise
    difference = blocks.mean_square(target - expected)
    misfit = max(0.0, difference - noise_of_difference)
    colour = blocks.mean_colour(target)
    contrast = blocks.mean_square(target - colour)
    structure = max(contrast - noise, SURE * noise)
    return misfit / structure


class Blocks:
    """The division of a picture into at most BLOCKS × BLOCKS blocks, which have weights.

    pixel_weight: [1, C, h, w], how much each value counts. weight: of each block; 0 if it is too
    small for a comparison.
    """

    def __init__(self, pixel_weight: Tensor):
        self.pixel_weight = pixel_weight
        mean = pooled(pixel_weight)
        self.weight = torch.where(mean > LEAST_WEIGHT, mean, 0.0)

    def means(self, picture: Tensor) -> Tensor:
        """The weighted mean of each block of a picture [1, C, h, w]."""
        weighted = picture.clamp(0, 1) * self.pixel_weight
        divisor = self.weight.clamp_min(LEAST_WEIGHT)
        return pooled(weighted) / divisor

    def mean_square(self, difference: Tensor) -> float:
        """The weighted mean of the squares of one value per block."""
        squares = difference.square() * self.weight
        mean = squares.sum() / self.weight.sum()
        return float(mean)

    def mean_colour(self, means: Tensor) -> Tensor:
        """The weighted mean of all blocks, [1, C, 1, 1]."""
        weighted = means * self.weight
        totals = weighted.sum((2, 3), keepdim=True)
        weights = self.weight.sum((2, 3), keepdim=True)
        divisor = weights.clamp_min(LEAST_WEIGHT)
        return totals / divisor


def pooled(picture: Tensor) -> Tensor:
    """The mean of each block of a picture [1, C, h, w]."""
    height, width = picture.shape[2:]
    rows = min(BLOCKS, height)
    columns = min(BLOCKS, width)
    return F.adaptive_avg_pool2d(picture, (rows, columns))


def pixel_weight(operator: Operator, image: Tensor, seed: int) -> Tensor:
    """How much each value of the observation depends on the image, [1, C, h, w], from 0 to 1."""
    black = torch.zeros_like(image)
    white = black + 1
    dark = torch.cat(degraded(operator, black, seed))
    light = torch.cat(degraded(operator, white, seed))
    change = (light - dark).mean(0, keepdim=True)
    return change.abs().clamp(0, 1)


def degraded(operator: Operator, image: Tensor, seed: int) -> list[Tensor]:
    """Degrade an image several times, with different draws of the noise."""
    draws = []
    for number in range(DRAWS):
        generator = torch.Generator().manual_seed(seed + number)
        draws.append(operator(image, generator))
    return draws
