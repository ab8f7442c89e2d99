"""Detect an enlargement: its lines of pixels are nearly what interpolation can give."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..pillow_resize import FILTERS

SPAN = 96  # pixels that are used of each line
_KERNELS = ("bilinear", "bicubic", "lanczos")
_COARSE_KERNELS = ("bilinear", "bicubic")  # of the first scan
# A line is used if the mean square of its second differences is above this. That of a smooth slope,
# rounded to 8 bits, is not.
_LIVELY = 1.0
_FEWEST_LINES = 32
_MOCKS = (8 / 6, 8 / 5)  # factors that the blocks of a JPEG look like
_LARGEST = 8.2  # the largest factor that is tried
# Pictures are mostly enlarged by a multiple of 1/2. A factor so near to one, relative to it, cannot
# be told from it: over SPAN pixels the small grid moves by a tenth of one of its pixels.
_TELLING = 0.1 / SPAN


class Lattice(NamedTuple):
    """An enlargement by `factor` with Pillow's `filter`.

    contrast: how much better the best phase fits than the others. margin: that contrast relative
    to the contrast at other factors.
    """

    factor: float
    filter: str
    contrast: float
    margin: float


def lattice(plane: Tensor, compressed: bool) -> Lattice | None:
    """Find the factor whose interpolated lines are nearest to the lines of a picture.

    Lines enlarged by k with a known kernel lie in a space of about SPAN/k dimensions, which moves
    with the phase of the small grid. The energy outside this space depends on the phase only if
    the picture was enlarged. compressed: whether the picture went through a JPEG. Returns None for
    a picture with too few lines.
    """
    products = _products_of_both_axes(plane)
    if products is None:
        return None
    factors = _factors(compressed)
    scan = _scan(products, factors)
    peak = int(scan.argmax())
    factor, filter, contrast = _refine(products, factors[peak])
    ratios = torch.tensor(factors) / factors[peak]
    distance = ratios.log().abs()
    others = scan[distance > 0.08]
    margin = scan[peak] / others.quantile(0.9)
    return Lattice(factor, filter, contrast, float(margin))


def _factors(compressed: bool) -> list[float]:
    """The factors of the first scan; for a JPEG, without those that its blocks look like."""
    factors = []
    factor = 1.25
    while factor < _LARGEST:
        factors.append(factor)
        growth = 0.4 * factor / SPAN
        factor = factor * (1 + growth)
    factors.append(factor)
    if not compressed:
        return factors
    return [factor for factor in factors if not _like_blocks(factor)]


def _like_blocks(factor: float) -> bool:
    """Whether the blocks of a JPEG may look like an enlargement by this factor."""
    for mock in _MOCKS:
        difference = factor / mock - 1
        if abs(difference) <= 0.03:
            return True
    return False


def _scan(products: Tensor, factors: list[float]) -> Tensor:
    """The contrast at each factor, for the better of two kernels."""
    by_kernel = []
    for kernel in _COARSE_KERNELS:
        contrasts = [_contrast(products, factor, kernel) for factor in factors]
        by_kernel.append(torch.tensor(contrasts))
    return torch.stack(by_kernel).amax(0)


def _refine(products: Tensor, factor: float) -> tuple[float, str, float]:
    """Return the best factor near `factor`, the best kernel, and their contrast."""
    candidates = []
    for i in range(-8, 9):
        change = 0.05 * i * factor / SPAN
        nearby = factor * (1 + change)
        for kernel in _KERNELS:
            contrast = _contrast(products, nearby, kernel)
            candidates.append((contrast, nearby, kernel))
    contrast, best_factor, kernel = max(candidates)
    return _usual(best_factor), kernel, contrast


def _usual(factor: float) -> float:
    """The multiple of 1/2 that a factor cannot be told from, or the factor itself."""
    multiple = round(2 * factor) / 2
    difference = abs(factor / multiple - 1)
    return multiple if difference <= factor * _TELLING else factor


def _contrast(products: Tensor, factor: float, kernel: str) -> float:
    """The logarithm of the energy outside the interpolated lines: at the mean minus the best phase.

    It is averaged over both axes.
    """
    energy = _energy_outside(products, factor, kernel)
    mean = energy.mean(1).log()
    least = energy.amin(1).log()
    difference = mean - least
    return float(difference.mean())


def _products_of_both_axes(plane: Tensor) -> Tensor | None:
    """Σ x xᵀ [axes, SPAN, SPAN] of the rows and of the columns; None if neither can be used."""
    products = []
    for lines in (plane, plane.T):
        product = _products(lines)
        if product is not None:
            products.append(product)
    if not products:
        return None
    return torch.stack(products)


def _products(plane: Tensor) -> Tensor | None:
    """Σ x xᵀ [SPAN, SPAN] over the middle of the rows; rows with strong edges weigh less."""
    height, width = plane.shape
    if width < SPAN or height < _FEWEST_LINES:
        return None
    left = (width - SPAN) // 2
    every = max(1, height // 1024)
    span = slice(left, left + SPAN)
    middle = plane[::every, span]
    curvature = middle.diff(n=2, dim=1)
    squares = curvature.square()
    roughness = squares.mean(1)
    is_lively = roughness > _LIVELY
    if int(is_lively.sum()) < _FEWEST_LINES:
        return None
    variance = roughness[is_lively] + 1
    scale = variance.sqrt()
    lines = middle[is_lively] / scale[:, None]
    return lines.T @ lines


def _energy_outside(products: Tensor, factor: float, kernel: str) -> Tensor:
    """Energy [axes, phases] of `products` [axes, SPAN, SPAN] outside the lines enlarged by factor.

    It is divided by the number of dimensions outside.
    """
    support, _ = FILTERS[kernel]
    inside = _projection(factor, kernel)
    energy_inside = torch.einsum("pij,aij->ap", inside, products)
    squares = products.diagonal(dim1=1, dim2=2)
    total = squares.sum(1, keepdim=True)
    difference = total - energy_inside
    outside = difference.clamp(min=1e-6)
    dimensions = SPAN - SPAN / factor - 2 * support
    return outside / max(1.0, dimensions)


def _projection(factor: float, kernel: str) -> Tensor:
    """The projection [phases, SPAN, SPAN] onto the lines enlarged by factor, for each phase."""
    support, weight = FILTERS[kernel]
    phases = _phases(factor)
    phase = phases[:, None, None]
    pixels = torch.arange(SPAN, dtype=torch.float64)
    position = pixels[:, None] / factor
    first = -math.ceil(support)
    last = math.ceil(SPAN / factor + support)
    small_pixel = torch.arange(first, last + 1, dtype=torch.float64)
    distance = position + phase - small_pixel
    is_near = distance.abs() < support
    weights = weight(distance)
    basis = torch.where(is_near, weights, 0.0)
    size = len(small_pixel)
    identity = torch.eye(size, dtype=torch.float64)
    ridge = 1e-9 * identity
    gram = basis.mT @ basis + ridge
    inverse: Tensor = torch.linalg.solve(gram, basis.mT)
    return basis @ inverse


def _phases(factor: float) -> Tensor:
    """The positions of the small grid that are tried, in small pixels."""
    count = max(4, 2 * round(factor))
    steps = torch.arange(count, dtype=torch.float64)
    return steps / count
