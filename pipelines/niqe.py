"""NIQE: how far a picture's statistics are from those of natural (or here: clean) pictures; no reference is needed.

Locally normalised luminances and products of neighbours follow generalised Gaussians; the parameters
of their fits over patches make a Gaussian, which is compared with that of a set of good pictures.
The published model of photographs is not on this machine, so the model is fitted to the clean
pictures at hand: values compare within a table, and with no paper's.
Source: Mittal et al. 2013, "Making a Completely Blind Image Quality Analyzer", eqs. 1 to 10.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours whose products are fitted
SHARPEST = 0.75  # of the model's patches, those at least so sharp as this share of the sharpest


@dataclass(frozen=True)
class Model:
    """A Gaussian of the features of patches of good pictures."""

    mean: Tensor
    covariance: Tensor
    side: int

    @classmethod
    def of(cls, pictures: Iterable[Tensor], side: int) -> Model:
        """Fitted to the sharper patches of pictures [1, C, H, W] in [0, 1]."""
        kept = []
        for picture in pictures:
            features, sharpness = patches(picture, side)
            kept.append(features[sharpness >= SHARPEST * sharpness.max()])
        return cls(*gaussian(torch.cat(kept)), side)

    def distance(self, picture: Tensor) -> float:
        """NIQE of a picture [1, C, H, W] in [0, 1]; the lower the better."""
        mean, covariance = gaussian(patches(picture, self.side)[0])
        away = self.mean - mean
        return float(
            (away @ torch.linalg.pinv((self.covariance + covariance) / 2) @ away)
            .clamp_min(0)
            .sqrt()
        )


def side_of(resolution: int) -> int:
    """The published 96 pixels where a picture has at least four such patches across, else a quarter of it."""
    return 96 if resolution >= 4 * 96 else max(8, resolution // 8 * 2)


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    covariance = (
        features.T.cov()
        if len(features) > 1
        else torch.zeros(2 * [features.shape[1]], dtype=features.dtype)
    )
    return features.mean(0), covariance


def patches(picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """36 features of every patch [N, 36], of two scales, and how sharp it is [N]."""
    weights = torch.tensor([0.299, 0.587, 0.114]) if picture.shape[1] == 3 else torch.ones(1)
    x = (picture.double() * weights.double().view(1, -1, 1, 1)).sum(1, keepdim=True) * 255
    height, width = (n // side * side for n in x.shape[2:])
    step = (
        side if (height // side) * (width // side) >= 64 else side // 4
    )  # where they would be few, they overlap
    x, features, sharpness = x[:, :, :height, :width], [], None
    for scale in (1, 2):
        normalised, deviation = mscn(x)
        block = side // scale, step // scale
        if sharpness is None:
            sharpness = F.avg_pool2d(deviation, *block).flatten()
        features.append(torch.cat([fits(p) for p in cut(normalised, *block)]))
        x = F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    return torch.cat(features, 1), sharpness


def cut(x: Tensor, side: int, step: int) -> Tensor:
    """[N, side, side] of x [1, 1, H, W]."""
    return x[0, 0].unfold(0, side, step).unfold(1, side, step).reshape(-1, side, side)


def mscn(x: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance less its local mean, by its local deviation (plus 1), and that deviation; a 7×7 Gaussian window."""
    line = torch.exp(-0.5 * (torch.arange(-3, 4, dtype=x.dtype) / (7 / 6)) ** 2)
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blurred(y: Tensor) -> Tensor:
        return F.conv2d(F.pad(y, (3, 3, 3, 3), mode="replicate"), window)

    mean = blurred(x)
    deviation = (blurred(x * x) - mean * mean).clamp_min(0).sqrt()
    return (x - mean) / (deviation + 1), deviation


def fits(patch: Tensor) -> Tensor:
    """The 18 parameters [1, 18] of a patch [side, side]: shape and width, then four for each neighbour."""
    shape, left, right = generalised_gaussian(patch)
    found = [shape, (left + right) / 2]
    for down, across in SHIFTS:
        shape, left, right = generalised_gaussian(patch * patch.roll((down, across), (0, 1)))
        g1, g2 = (torch.lgamma(k / shape).exp() for k in (1, 2))
        found += [shape, (right - left) * g2 / g1, left, right]
    return torch.stack(found)[None]


@lru_cache(maxsize=1)
def _ratios() -> tuple[Tensor, Tensor]:
    """Shapes, and Γ(2/a)² / (Γ(1/a)·Γ(3/a)) for each."""
    shapes = torch.arange(0.2, 10, 0.001, dtype=torch.float64)
    one, two, three = (torch.lgamma(k / shapes) for k in (1, 2, 3))
    return shapes, (2 * two - one - three).exp()


def generalised_gaussian(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, and widths to the left and to the right, of an asymmetric generalised Gaussian, by its moments.

    Source: Lasmar et al. 2009, as used by Mittal et al. 2013, eqs. 5 to 7.
    """
    tiny = torch.finfo(x.dtype).tiny
    left, right = (x[side].square().sum() / side.sum().clamp_min(1) for side in (x < 0, x > 0))
    left, right = left.clamp_min(tiny).sqrt(), right.clamp_min(tiny).sqrt()
    ratio = left / right
    share = x.abs().mean().square() / x.square().mean().clamp_min(tiny)
    share = share * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, shares = _ratios()
    shape = shapes[(shares - share).abs().argmin()]
    scale = (torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).mul(0.5).exp()
    return shape, left * scale, right * scale
