"""NIQE: a quality metric without a reference picture. Lower is better.

The luminance is normalised locally. Generalised Gaussians are fitted to its values and to products
of neighbours, patch by patch. A multivariate Gaussian of the fitted parameters is compared with
that of good pictures. The published model of photographs is not bundled, so we fit one to the clean
pictures: values can be compared within a table, and never with those of a paper.
Source: Mittal et al. 2013, "Making a Completely Blind Image Quality Analyzer", eqs. 1 to 10.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (down, across); their products are fitted
# The model uses patches that are at least this sharp, relative to the sharpest patch.
SHARPEST = 0.75
PUBLISHED_SIDE = 96  # of a patch, in pixels
FEW_PATCHES = 64  # below this number, patches overlap
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Model:
    """A Gaussian of the patch features of good pictures. side: of a patch, in pixels."""

    mean: Tensor
    covariance: Tensor
    side: int

    @classmethod
    def of(cls, pictures: Iterable[Tensor], side: int) -> Model:
        """Fit a model to the sharper patches of pictures [1, C, H, W] in [0, 1]."""
        sharp_features = []
        for picture in pictures:
            features, sharpness = patches(picture, side)
            sharp_features.append(features[sharpness >= SHARPEST * sharpness.max()])
        return cls(*gaussian(torch.cat(sharp_features)), side)

    def distance(self, picture: Tensor) -> float:
        """NIQE of a picture [1, C, H, W] in [0, 1]."""
        features, _ = patches(picture, self.side)
        mean, covariance = gaussian(features)
        difference = self.mean - mean
        inverse = torch.linalg.pinv((self.covariance + covariance) / 2)
        return float((difference @ inverse @ difference).clamp_min(0).sqrt())


def side_of(resolution: int) -> int:
    """The published patch side if four patches fit across a picture, else a quarter picture."""
    if resolution >= 4 * PUBLISHED_SIDE:
        return PUBLISHED_SIDE
    return max(8, resolution // 8 * 2)


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of features [N, D]; the covariance of a single one is zero."""
    count, size = features.shape
    covariance = features.T.cov() if count > 1 else features.new_zeros(size, size)
    return features.mean(0), covariance


def patches(picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Compute 36 features of each patch [N, 36], 18 at each of two scales, and sharpness [N]."""
    x = _luminance(picture) * 255
    height, width = (length // side * side for length in x.shape[2:])
    count = (height // side) * (width // side)
    step = side if count >= FEW_PATCHES else side // 4
    x = x[:, :, :height, :width]
    normalised, deviation = mscn(x)
    sharpness = F.avg_pool2d(deviation, side, step).flatten()
    half = F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    half_normalised, _ = mscn(half)
    fine = [fits(patch) for patch in cut(normalised, side, step)]
    coarse = [fits(patch) for patch in cut(half_normalised, side // 2, step // 2)]
    return torch.cat([torch.cat(fine), torch.cat(coarse)], 1), sharpness


def _luminance(picture: Tensor) -> Tensor:
    """[1, 1, H, W] in float64 of a picture with 3 channels, or of a grey one."""
    if picture.shape[1] != 3:
        return picture.double()
    weights = torch.tensor(LUMA).double().view(1, -1, 1, 1)
    return (picture.double() * weights).sum(1, keepdim=True)


def cut(x: Tensor, side: int, step: int) -> Tensor:
    """Cut x [1, 1, H, W] into patches [N, side, side], one every `step` pixels."""
    return x[0, 0].unfold(0, side, step).unfold(1, side, step).reshape(-1, side, side)


def mscn(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise luminance locally: (x - mean) / (deviation + 1). Returns it and the deviation.

    Mean and deviation are taken in a Gaussian window of 7×7 pixels.
    """
    positions = torch.arange(-3, 4, dtype=x.dtype)
    line = torch.exp(-0.5 * (positions / (7 / 6)) ** 2)
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blurred(y: Tensor) -> Tensor:
        return F.conv2d(F.pad(y, (3, 3, 3, 3), mode="replicate"), window)

    mean = blurred(x)
    deviation = (blurred(x * x) - mean * mean).clamp_min(0).sqrt()
    return (x - mean) / (deviation + 1), deviation


def fits(patch: Tensor) -> Tensor:
    """The 18 parameters [1, 18] of a patch: shape and width, then four for each neighbour."""
    shape, left, right = generalised_gaussian(patch)
    parameters = [shape, (left + right) / 2]
    for neighbour in NEIGHBOURS:
        product = patch * patch.roll(neighbour, (0, 1))
        shape, left, right = generalised_gaussian(product)
        gamma_1 = torch.lgamma(1 / shape).exp()
        gamma_2 = torch.lgamma(2 / shape).exp()
        parameters += [shape, (right - left) * gamma_2 / gamma_1, left, right]
    return torch.stack(parameters)[None]


@lru_cache(maxsize=1)
def _ratios() -> tuple[Tensor, Tensor]:
    """A grid of shapes a, and Γ(2/a)² / (Γ(1/a)·Γ(3/a)) of each."""
    with torch.inference_mode(False):
        shapes = torch.arange(0.2, 10, 0.001, dtype=torch.float64, device="cpu")
        log_1, log_2, log_3 = (torch.lgamma(k / shapes) for k in (1, 2, 3))
        return shapes, (2 * log_2 - log_1 - log_3).exp()


def generalised_gaussian(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalised Gaussian by its moments: shape, left width, right width.

    Source: Lasmar et al. 2009, as used by Mittal et al. 2013, eqs. 5 to 7.
    """
    tiny = torch.finfo(x.dtype).tiny
    left = _one_sided_deviation(x, x < 0)
    right = _one_sided_deviation(x, x > 0)
    asymmetry = left / right
    ratio = x.abs().mean().square() / x.square().mean().clamp_min(tiny)
    ratio = ratio * (asymmetry**3 + 1) * (asymmetry + 1) / (asymmetry**2 + 1) ** 2
    shapes, ratios = _ratios()
    shape = shapes[(ratios - ratio).abs().argmin()]
    log_scale = (torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2
    return shape, left * log_scale.exp(), right * log_scale.exp()


def _one_sided_deviation(x: Tensor, side: Tensor) -> Tensor:
    """The root mean square of the values on one side of zero; never zero."""
    tiny = torch.finfo(x.dtype).tiny
    variance = x[side].square().sum() / side.sum().clamp_min(1)
    return variance.clamp_min(tiny).sqrt()
