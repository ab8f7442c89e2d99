"""Measure noise in the flattest blocks, where it is white, even after a JPEG's quantiser."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_RING = torch.tensor([i // 8 + i % 8 for i in range(64)])
_BANDS = (range(3, 5), range(5, 7), range(7, 9), range(9, 11), range(11, 15))


class Grain(NamedTuple):
    """Noise in the flattest blocks of one brightness, from the bands with the least variance."""

    level: float
    variance: float
    weight: float  # in coefficients whose magnitude is known exactly
    white: float  # share of the bands that are as quiet: 1 for noise, less for texture
    bands: int  # how many could be measured
    # coefficients above 2σ, relative to a normal distribution: 1 for noise, more for texture
    tails: float


def grains(c: Tensor, steps: Tensor, level: Tensor) -> tuple[list[Grain], float]:
    """(a grain for each of up to 8 bins of brightness, share of the bins that have one).

    c: coefficients [n, 64], known as multiples of `steps` [64]. level: each block's brightness [n].
    Blocks are selected by their low frequencies and measured at the others, so that the selection
    does not bias the measurement.
    """
    low = (_RING > 0) & (_RING <= 2)
    found: list[Grain] = []
    if len(c) < 24:
        return found, 0.0
    bins = min(8, max(1, len(c) // 60))
    for part in level.argsort(stable=True).tensor_split(bins):
        activity = c[part][:, low].square().sum(1)
        flat = part[activity.argsort(stable=True)[: max(24, len(part) // 5)]]
        bands = [_band(c[flat], steps, ring) for ring in _BANDS]
        bands = sorted(band for band in bands if band[1] > 0)
        alike = [band for band in bands if band[0] < 1.3 * bands[0][0]]
        if alike:
            weight = sum(w for _, w, _ in alike)
            variance = sum(v * w for v, w, _ in alike) / weight
            tails = sum(t * w for _, w, t in alike) / weight
            brightness = float(level[flat].mean())
            white = len(alike) / len(bands)
            grain = Grain(brightness, variance, weight, white, len(bands), tails)
            found.append(grain)
    return found, len(found) / bins


def _band(c: Tensor, steps: Tensor, ring: range) -> tuple[float, float, float]:
    """(variance, weight, tails) over the frequencies of a ring that the quantiser keeps."""
    rows = [(f, *_spread(c[:, f], float(steps[f]))) for f in range(64) if int(_RING[f]) in ring]
    rows = [row for row in rows if row[2] > 0]
    weight = sum(w for *_, w in rows)
    if not weight:
        return math.inf, 0.0, 0.0
    variance = sum(v * w for _, v, w in rows) / weight
    s, above, expected = math.sqrt(variance), 0.0, 0.0
    for f, *_ in rows:
        q = float(steps[f])
        far = (math.ceil(2 * s / q - 0.5) + 0.5) * q
        above += float((c[:, f].abs() > far).sum())
        expected += len(c) * math.erfc(far / (s * math.sqrt(2)))
    return variance, weight, (above + 1) / (expected + 1)


def _spread(c: Tensor, q: float) -> tuple[float, float]:
    """(variance, weight) of normal coefficients that are known as multiples of q.

    The share of coefficients within j steps gives σ: P(|c| < (j + ½) q) = 2Φ((j + ½) q / σ) - 1.
    """
    m = (c / q).round().abs()
    j = m.quantile(0.6).floor()
    share = float((m <= j).double().mean())
    if not 0.05 < share < 0.97 or len(c) < 12:
        return 0.0, 0.0
    z = float(torch.special.ndtri(torch.tensor((1 + share) / 2, dtype=torch.float64)))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(((j + 0.5) * q / z) ** 2), len(c) * (2 * z * density) ** 2 / (share * (1 - share))


class Law(NamedTuple):
    """variance = slope · level + base, fitted to the lower edge of the grains; slope ≥ 0."""

    slope: float
    base: float
    spread: float  # mean relative distance of the variances from the law

    def at(self, level: float) -> float:
        return self.slope * level + self.base


def law(found: list[Grain]) -> Law:
    """Sloped only where that explains the grains far better: Poisson noise (Foi et al. 2008)."""
    x, v, w = (torch.tensor([g[i] for g in found], dtype=torch.float64) for i in range(3))
    one = torch.ones_like(x)
    constant, at, worse = _lower_edge(one[:, None], v, w)
    slope, base = 0.0, float(constant)
    if len(x) > 3:
        line, sloped, better = _lower_edge(torch.stack([x, one], 1), v, w)
        if line[0] > 0 and line[1] < 0:
            line, sloped, better = _lower_edge(x[:, None], v, w)
        much_better = worse - better > 12
        steep = line[0] > 0 and sloped.max() > 1.5 * sloped.min()
        if much_better and steep and _off(sloped, v, w) < 0.3:
            at, slope = sloped, float(line[0])
            base = float(line[1]) if len(line) > 1 else 0.0
    return Law(slope, base, _off(at, v, w))


def _off(at: Tensor, v: Tensor, w: Tensor) -> float:
    return float(((v / at - 1).abs() * w).sum() / w.sum())


def _lower_edge(basis: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, float]:
    """(coefficients, fit, ½χ²) of v on `basis`.

    Variances above the fit have less weight, because texture only adds to noise.
    """
    at = v
    for _ in range(20):
        weight = w / at.square() * torch.where(v > at, 0.4, 1.0)
        weighted = (basis * weight[:, None]).T
        ridge = 1e-12 * torch.eye(basis.shape[1], dtype=v.dtype)
        matrix = weighted @ basis + ridge
        value = torch.linalg.solve(matrix, weighted @ v)
        at = (basis @ value).clamp(min=float(v.min()) / 4)
    above = torch.where(v > at, 0.4, 1.0)
    squares = w * (v / at - 1).square() * above
    return value, at, float(squares.sum() / 4)
