"""Detect an enlargement: its lines of pixels lie near those that interpolation can give."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..pillow_resize import FILTERS

SPAN = 96  # pixels of a line that are used
_KERNELS = ("bilinear", "bicubic", "lanczos")
# Mean square of a line's second differences; a smooth slope, rounded to 8 bits, has no more.
_LIVELY = 1.0
_MOCKS = (8 / 6, 8 / 5)  # factors that a JPEG's blocks look like


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
    """Find the factor whose interpolated lines are nearest to a picture's; None if it is small.

    Lines enlarged by k with a known kernel lie in a space of about SPAN/k dimensions, which moves
    with the phase of the small grid. The energy outside this space depends on the phase only if
    the picture was enlarged. compressed: whether the picture went through a JPEG.
    """
    products = [p for p in (_products(plane), _products(plane.T)) if p is not None]
    if not products:
        return None
    factors = [1.25]
    while factors[-1] < 8.2:
        factors.append(factors[-1] * (1 + 0.4 * factors[-1] / SPAN))
    if compressed:
        factors = [k for k in factors if all(abs(k / mock - 1) > 0.03 for mock in _MOCKS)]
    scan = torch.tensor(
        [[_contrast(products, k, name) for k in factors] for name in _KERNELS[:2]]
    ).amax(0)
    at, ks = int(scan.argmax()), torch.tensor(factors)
    others = scan[(ks / ks[at]).log().abs() > 0.08]
    near = [factors[at] * (1 + 0.05 * i * factors[at] / SPAN) for i in range(-8, 9)]
    contrast, k, name = max(
        (_contrast(products, k, name), k, name) for k in near for name in _KERNELS
    )
    return Lattice(k, name, contrast, float(scan[at] / others.quantile(0.9)))


def _contrast(products: list[Tensor], k: float, name: str) -> float:
    left = _left(torch.stack(products), k, name, max(4, 2 * round(k)))
    return float((left.mean(1).log() - left.amin(1).log()).mean())


def _products(plane: Tensor) -> Tensor | None:
    """Σ x xᵀ [SPAN, SPAN] over the middle of the rows; rows with strong edges weigh less."""
    if plane.shape[1] < SPAN or plane.shape[0] < 32:
        return None
    at = (plane.shape[1] - SPAN) // 2
    x = plane[:: max(1, plane.shape[0] // 1024), at : at + SPAN]
    rough = x.diff(n=2, dim=1).square().mean(1)
    live = rough > _LIVELY
    x = x[live] / (rough[live] + 1).sqrt()[:, None]
    return x.T @ x if len(x) >= 32 else None


def _left(products: Tensor, k: float, name: str, phases: int) -> Tensor:
    """Energy [axes, phases] of `products` [axes, SPAN, SPAN] outside the lines enlarged by k.

    It is divided by the number of dimensions outside.
    """
    support, weight = FILTERS[name]
    start = torch.arange(phases, dtype=torch.float64)[:, None, None] / phases
    at = torch.arange(SPAN, dtype=torch.float64)[:, None] / k
    knot = torch.arange(-math.ceil(support), math.ceil(SPAN / k + support) + 1, dtype=torch.float64)
    t = at + start - knot
    basis = torch.where(t.abs() < support, weight(t), 0.0)
    gram = basis.mT @ basis + 1e-9 * torch.eye(len(knot), dtype=torch.float64)
    inside = basis @ torch.linalg.solve(gram, basis.mT)  # the projection [phases, SPAN, SPAN]
    total = products.diagonal(dim1=1, dim2=2).sum(1)[:, None]
    left = (total - torch.einsum("pij,aij->ap", inside, products)).clamp(min=1e-6)
    return left / max(1.0, SPAN - SPAN / k - 2 * support)
