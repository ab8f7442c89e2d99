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

NEIGHBOURS = (  # (down, across); products with each of them are fitted
    (0, 1),
    (1, 0),
    (1, 1),
    (1, -1),
)
# The model uses patches that are at least this sharp, relative to the sharpest patch.
SHARPEST = 0.75
PUBLISHED_SIDE = 96  # of a patch, in pixels
FEW_PATCHES = 64  # below this number, patches overlap
LUMA = (0.299, 0.587, 0.114)
WINDOW_RADIUS = 3  # of the Gaussian window for local means, in pixels
WINDOW_SIGMA = 7 / 6  # in pixels


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
            least = SHARPEST * sharpness.max()
            is_sharp = sharpness >= least
            sharp_features.append(features[is_sharp])
        all_features = torch.cat(sharp_features)
        mean, covariance = gaussian(all_features)
        return cls(mean, covariance, side)

    def distance(self, picture: Tensor) -> float:
        """Compute NIQE of a picture [1, C, H, W] in [0, 1]."""
        features, _ = patches(picture, self.side)
        mean, covariance = gaussian(features)
        mean_covariance = (self.covariance + covariance) / 2
        inverse = torch.linalg.pinv(mean_covariance)
        difference = self.mean - mean
        squared = difference @ inverse @ difference
        distance = squared.clamp_min(0).sqrt()
        return float(distance)


def side_of(resolution: int) -> int:
    """The published patch side if four patches fit across a picture, else a quarter picture."""
    if resolution >= 4 * PUBLISHED_SIDE:
        return PUBLISHED_SIDE
    even_quarter = resolution // 8 * 2
    return max(8, even_quarter)


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of features [N, D]; the covariance of a single one is zero."""
    count, size = features.shape
    covariance = features.new_zeros(size, size)
    if count > 1:
        covariance = features.T.cov()
    return features.mean(0), covariance


def patches(picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Compute 36 features of each patch [N, 36], 18 at each of two scales, and sharpness [N]."""
    luminance = 255 * _luminance(picture)
    height, width = luminance.shape[2:]
    rows = height // side
    columns = width // side
    x = luminance[:, :, : rows * side, : columns * side]
    step = side
    if rows * columns < FEW_PATCHES:
        step = side // 4

    normalised, deviation = mscn(x)
    fine_patches = cut(normalised, side, step)
    sharpness = F.avg_pool2d(deviation, side, step).flatten()

    half = F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    half_normalised, _ = mscn(half)
    coarse_patches = cut(half_normalised, side // 2, step // 2)

    features = torch.cat([fits(fine_patches), fits(coarse_patches)], 1)
    return features, sharpness


def _luminance(picture: Tensor) -> Tensor:
    """[1, 1, H, W] in float64 of a picture with 3 channels, or of a grey one."""
    if picture.shape[1] != 3:
        return picture.double()
    weights = torch.tensor(LUMA, dtype=torch.float32).double()
    weighted = picture.double() * weights.view(1, 3, 1, 1)
    return weighted.sum(1, keepdim=True)


def cut(x: Tensor, side: int, step: int) -> Tensor:
    """Cut x [1, 1, H, W] into patches [N, side, side], one every `step` pixels."""
    plane = x[0, 0]
    strips = plane.unfold(0, side, step)
    squares = strips.unfold(1, side, step)
    return squares.reshape(-1, side, side)


def mscn(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise luminance locally: (x - mean) / (deviation + 1). Returns it and the deviation.

    Mean and deviation are taken in a Gaussian window of 7×7 pixels.
    """
    mean = _local_mean(x)
    mean_square = _local_mean(x * x)
    variance = mean_square - mean * mean
    deviation = variance.clamp_min(0).sqrt()
    normalised = (x - mean) / (deviation + 1)
    return normalised, deviation


def _local_mean(x: Tensor) -> Tensor:
    """The mean around each pixel of x [1, 1, H, W], weighted by a Gaussian window."""
    radius = WINDOW_RADIUS
    positions = torch.arange(-radius, radius + 1, dtype=x.dtype)
    line = torch.exp(-0.5 * (positions / WINDOW_SIGMA) ** 2)
    window = torch.outer(line, line) / line.sum() ** 2
    kernel = window[None, None]
    padding = [radius] * 4
    padded = F.pad(x, padding, mode="replicate")
    return F.conv2d(padded, kernel)


def fits(patches: Tensor) -> Tensor:
    """Fit 18 parameters to each patch [N, side, side]: shape and width, then 4 per neighbour."""
    values = patches.flatten(1)
    shape, left, right = generalised_gaussian(values)
    width = (left + right) / 2
    parameters = [shape, width]
    for neighbour in NEIGHBOURS:
        shifted = patches.roll(neighbour, (1, 2))
        products = (patches * shifted).flatten(1)
        shape, left, right = generalised_gaussian(products)
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
    log_ratios = 2 * log_2 - log_1 - log_3
    return shapes, log_ratios.exp()


def generalised_gaussian(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians to x [..., P]: shapes, left widths, right widths [...].

    The fit matches the moments of the last dimension. Source: Lasmar et al. 2009, as used by Mittal
    et al. 2013, eqs. 5 to 7.
    """
    left = _one_sided_deviation(x, x < 0)
    right = _one_sided_deviation(x, x > 0)
    tiny = torch.finfo(x.dtype).tiny
    mean_square = x.square().mean(-1)
    squared_mean = x.abs().mean(-1).square()
    ratio = squared_mean / mean_square.clamp_min(tiny)
    asymmetry = left / right
    ratio = ratio * (asymmetry**3 + 1) * (asymmetry + 1)
    ratio = ratio / (asymmetry**2 + 1) ** 2
    shape = _shape_of(ratio)
    log_1 = torch.lgamma(1 / shape)
    log_3 = torch.lgamma(3 / shape)
    scale = ((log_1 - log_3) / 2).exp()
    return shape, left * scale, right * scale


def _shape_of(ratio: Tensor) -> Tensor:
    """The shapes of the grid whose ratios are nearest; ratios increase with the shape."""
    shapes, ratios = _ratios()
    last = len(ratios) - 1
    above = torch.searchsorted(ratios, ratio).clamp(1, last)
    below = above - 1
    to_below = ratio - ratios[below]
    to_above = ratios[above] - ratio
    nearest = torch.where(to_below <= to_above, below, above)
    return shapes[nearest]


def _one_sided_deviation(x: Tensor, side: Tensor) -> Tensor:
    """The root mean square of the values on one side of zero; never zero."""
    count = side.sum(-1).clamp_min(1)
    squares = torch.where(side, x.square(), 0)
    variance = squares.sum(-1) / count
    tiny = torch.finfo(x.dtype).tiny
    return variance.clamp_min(tiny).sqrt()
