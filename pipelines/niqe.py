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

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.constants import cached_constant

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
            is_sharp = sharpness >= SHARPEST * sharpness.max()
            sharp_features.append(features[is_sharp])
        mean, covariance = gaussian(torch.cat(sharp_features))
        return cls(mean, covariance, side)

    def distance(self, picture: Tensor) -> float:
        """NIQE of a picture [1, C, H, W] in [0, 1]."""
        features, _ = patches(picture, self.side)
        mean, covariance = gaussian(features)
        mean_covariance = (self.covariance + covariance) / 2
        inverse = torch.linalg.pinv(mean_covariance)
        difference = self.mean - mean
        squared = difference @ inverse @ difference
        return float(squared.clamp_min(0).sqrt())


def side_of(resolution: int) -> int:
    """The published patch side if four patches fit across a picture, else a quarter picture."""
    if resolution >= 4 * PUBLISHED_SIDE:
        return PUBLISHED_SIDE
    return max(8, resolution // 8 * 2)


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of features [N, D]; the covariance of a single one is zero."""
    count, size = features.shape
    covariance = features.new_zeros(size, size)
    if count > 1:
        covariance = features.T.cov()
    return features.mean(0), covariance


def patches(picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Compute 36 features of each patch [N, 36], 18 at each of two scales, and sharpness [N]."""
    x = _luminance(picture) * 255
    rows = x.shape[2] // side
    columns = x.shape[3] // side
    x = x[:, :, : rows * side, : columns * side]
    step = side if rows * columns >= FEW_PATCHES else side // 4
    normalised, deviation = mscn(x)
    sharpness = F.avg_pool2d(deviation, side, step).flatten()
    fine = fits(cut(normalised, side, step))
    half = F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    half_normalised, _ = mscn(half)
    coarse = fits(cut(half_normalised, side // 2, step // 2))
    return torch.cat([fine, coarse], 1), sharpness


def _luminance(picture: Tensor) -> Tensor:
    """[1, 1, H, W] in float64 of a picture with 3 channels, or of a grey one."""
    if picture.shape[1] != 3:
        return picture.double()
    weights = torch.tensor(LUMA, dtype=torch.float32).double()
    weighted = picture.double() * weights.view(1, 3, 1, 1)
    return weighted.sum(1, keepdim=True)


def cut(x: Tensor, side: int, step: int) -> Tensor:
    """Cut x [1, 1, H, W] into patches [N, side, side], one every `step` pixels."""
    rows = x[0, 0].unfold(0, side, step)
    patches = rows.unfold(1, side, step)
    return patches.reshape(-1, side, side)


def mscn(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise luminance locally: (x - mean) / (deviation + 1). Returns it and the deviation.

    Mean and deviation are taken in a Gaussian window of 7×7 pixels.
    """
    mean = _blurred(x)
    variance = _blurred(x * x) - mean * mean
    deviation = variance.clamp_min(0).sqrt()
    return (x - mean) / (deviation + 1), deviation


def _blurred(x: Tensor) -> Tensor:
    positions = torch.arange(-3, 4, dtype=x.dtype)
    line = torch.exp(-0.5 * (positions / (7 / 6)) ** 2)
    window = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return F.conv2d(padded, window[None, None])


def fits(patches: Tensor) -> Tensor:
    """Fit 18 parameters to each patch [N, side, side]: shape and width, then 4 per neighbour."""
    shape, left, right = generalised_gaussian(patches.flatten(1))
    parameters = [shape, (left + right) / 2]
    for neighbour in NEIGHBOURS:
        product = patches * patches.roll(neighbour, (1, 2))
        shape, left, right = generalised_gaussian(product.flatten(1))
        gamma_1 = torch.lgamma(1 / shape).exp()
        gamma_2 = torch.lgamma(2 / shape).exp()
        mean = (right - left) * gamma_2 / gamma_1
        parameters += [shape, mean, left, right]
    return torch.stack(parameters, 1)


@cached_constant(maxsize=1)
def _ratios() -> tuple[Tensor, Tensor]:
    """A grid of shapes a, and Γ(2/a)² / (Γ(1/a)·Γ(3/a)) of each."""
    shapes = torch.arange(0.2, 10, 0.001, dtype=torch.float64)
    log_1 = torch.lgamma(1 / shapes)
    log_2 = torch.lgamma(2 / shapes)
    log_3 = torch.lgamma(3 / shapes)
    return shapes, (2 * log_2 - log_1 - log_3).exp()


def generalised_gaussian(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians to x [..., P]: shapes, left widths, right widths [...].

    The fit matches the moments of the last dimension. Source: Lasmar et al. 2009, as used by Mittal
    et al. 2013, eqs. 5 to 7.
    """
    left = _one_sided_deviation(x, x < 0)
    right = _one_sided_deviation(x, x > 0)
    tiny = torch.finfo(x.dtype).tiny
    mean_square = x.square().mean(-1).clamp_min(tiny)
    ratio = x.abs().mean(-1).square() / mean_square
    asymmetry = left / right
    ratio = ratio * (asymmetry**3 + 1) * (asymmetry + 1)
    ratio = ratio / (asymmetry**2 + 1) ** 2
    shape = _shape_of(ratio)
    log_scale = torch.lgamma(1 / shape) - torch.lgamma(3 / shape)
    scale = (log_scale / 2).exp()
    return shape, left * scale, right * scale


def _shape_of(ratio: Tensor) -> Tensor:
    """The shapes of the grid whose ratios are nearest; ratios increase with the shape."""
    shapes, ratios = _ratios()
    above = torch.searchsorted(ratios, ratio).clamp(1, len(ratios) - 1)
    below = above - 1
    nearer_below = ratio - ratios[below] <= ratios[above] - ratio
    return shapes[torch.where(nearer_below, below, above)]


def _one_sided_deviation(x: Tensor, side: Tensor) -> Tensor:
    """The root mean square of the values on one side of zero; never zero."""
    count = side.sum(-1).clamp_min(1)
    squares = torch.where(side, x.square(), 0)
    variance = squares.sum(-1) / count
    tiny = torch.finfo(x.dtype).tiny
    return variance.clamp_min(tiny).sqrt()
