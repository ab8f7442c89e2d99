"""Measure noise in the flattest blocks, where it is white, even after a JPEG's quantiser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_RING = torch.tensor([i // 8 + i % 8 for i in range(64)])  # each coefficient's row plus column
_BANDS = (range(3, 5), range(5, 7), range(7, 9), range(9, 11), range(11, 15))
_FEWEST_BLOCKS = 24
_FEWEST_COEFFICIENTS = 12
_ALIKE = 1.3  # bands up to this multiple of the lowest variance count as noise
_ABOVE = 0.4  # weight in the fit of a variance above it, because texture only adds to noise


class Grain(NamedTuple):
    """Noise in the flattest blocks of one brightness, from the bands with the least variance."""

    level: float
    variance: float
    weight: float  # in coefficients whose magnitude is known exactly
    white: float  # share of the bands that are as quiet: 1 for noise, less for texture
    bands: int  # how many bands could be measured
    # coefficients above 2σ, relative to a normal distribution: 1 for noise, more for texture
    tails: float


class _Band(NamedTuple):
    """The coefficients of one band of frequencies; a weight of 0 says that none could be measured.

    tails: as in `Grain`.
    """

    variance: float
    weight: float
    tails: float


class _Frequency(NamedTuple):
    """The coefficients [n] of one frequency, known as multiples of `step`."""

    coefficients: Tensor
    step: float
    variance: float
    weight: float


def grains(c: Tensor, steps: Tensor, level: Tensor) -> tuple[list[Grain], float]:
    """Measure (a grain for each of up to 8 bins of brightness, the share of bins that have one).

    c: coefficients [n, 64], known as multiples of `steps` [64]. level: each block's brightness [n].
    Blocks are selected by their low frequencies and measured at the others, so that the selection
    does not bias the measurement.
    """
    if len(c) < _FEWEST_BLOCKS:
        return [], 0.0
    bins = min(8, max(1, len(c) // 60))
    by_brightness = level.argsort(stable=True)
    measured: list[Grain] = []
    for indices in by_brightness.tensor_split(bins):
        flat = _flattest(c, indices)
        brightness = float(level[flat].mean())
        grain = _grain(c[flat], steps, brightness)
        if grain is not None:
            measured.append(grain)
    return measured, len(measured) / bins


def _flattest(c: Tensor, indices: Tensor) -> Tensor:
    """The fifth of the blocks `indices` with the least energy at low frequencies."""
    low = (_RING > 0) & (_RING <= 2)
    energy = c[indices][:, low].square().sum(1)
    order = energy.argsort(stable=True)
    count = max(_FEWEST_BLOCKS, len(indices) // 5)
    return indices[order[:count]]


def _grain(c: Tensor, steps: Tensor, brightness: float) -> Grain | None:
    """Measure the noise in flat blocks of coefficients [n, 64]; None if no band can be measured."""
    bands = []
    for ring in _BANDS:
        band = _band(c, steps, ring)
        if band.weight > 0:
            bands.append(band)
    if not bands:
        return None
    bands.sort()
    limit = _ALIKE * bands[0].variance
    alike = [band for band in bands if band.variance < limit]
    if not alike:
        return None
    weights = [band.weight for band in alike]
    variance = weighted_mean([band.variance for band in alike], weights)
    tails = weighted_mean([band.tails for band in alike], weights)
    white = len(alike) / len(bands)
    return Grain(brightness, variance, sum(weights), white, len(bands), tails)


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Σ wᵢ vᵢ / Σ wᵢ."""
    total = 0.0
    for value, weight in zip(values, weights, strict=True):
        total += weight * value
    return total / sum(weights)


def _band(c: Tensor, steps: Tensor, ring: range) -> _Band:
    """Measure the frequencies of a band that the quantiser keeps."""
    frequencies = _kept_frequencies(c, steps, ring)
    if not frequencies:
        return _Band(math.inf, 0.0, 0.0)
    weights = [frequency.weight for frequency in frequencies]
    variance = weighted_mean([frequency.variance for frequency in frequencies], weights)
    tails = _tails(frequencies, math.sqrt(variance))
    return _Band(variance, sum(weights), tails)


def _kept_frequencies(c: Tensor, steps: Tensor, ring: range) -> list[_Frequency]:
    """The frequencies of a band whose variance survived the quantiser."""
    frequencies = []
    for index in range(64):
        if int(_RING[index]) not in ring:
            continue
        step = float(steps[index])
        variance, weight = _variance(c[:, index], step)
        if weight > 0:
            frequencies.append(_Frequency(c[:, index], step, variance, weight))
    return frequencies


def _tails(frequencies: list[_Frequency], deviation: float) -> float:
    """The number of coefficients above about 2σ, relative to that of a normal distribution."""
    above = 0.0
    expected = 0.0
    for coefficients, step, _, _ in frequencies:
        steps_below = math.ceil(2 * deviation / step - 0.5)
        threshold = (steps_below + 0.5) * step  # an edge of the quantiser
        above += float((coefficients.abs() > threshold).sum())
        probability = math.erfc(threshold / (deviation * math.sqrt(2)))
        expected += len(coefficients) * probability
    return (above + 1) / (expected + 1)


def _variance(coefficients: Tensor, step: float) -> tuple[float, float]:
    """Estimate (variance, weight) of normal coefficients [n] that are known as multiples of `step`.

    The share of coefficients within j steps gives σ: P(|c| < (j + ½) q) = 2Φ((j + ½) q / σ) - 1
    with q the step.
    """
    multiples = (coefficients / step).round().abs()
    j = multiples.quantile(0.6).floor()
    share = float((multiples <= j).double().mean())
    if not 0.05 < share < 0.97 or len(coefficients) < _FEWEST_COEFFICIENTS:
        return 0.0, 0.0
    quantile = torch.tensor((1 + share) / 2, dtype=torch.float64)
    z = float(torch.special.ndtri(quantile))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    edge = (j + 0.5) * step
    variance = float((edge / z) ** 2)
    information = (2 * z * density) ** 2
    weight = len(coefficients) * information / (share * (1 - share))
    return variance, weight


class Law(NamedTuple):
    """variance = slope · level + base, fitted to the lower edge of the grains; slope ≥ 0."""

    slope: float
    base: float
    spread: float  # mean relative distance of the variances from the law

    def at(self, level: float) -> float:
        """The variance at one brightness."""
        return self.slope * level + self.base


class _Fit(NamedTuple):
    """A fit of variances on a basis. error: ½χ²."""

    coefficients: Tensor
    values: Tensor
    error: float


def fit_law(measured: list[Grain]) -> Law:
    """Fit how the variance of noise depends on the brightness.

    The law is sloped only where that explains the grains far better: Poisson noise (Foi et al.
    2008).
    """
    level = _column(grain.level for grain in measured)
    variance = _column(grain.variance for grain in measured)
    weight = _column(grain.weight for grain in measured)
    constant = _lower_edge(torch.ones_like(level)[:, None], variance, weight)
    sloped = _sloped_fit(level, variance, weight)
    if sloped is not None and constant.error - sloped.error > 12:
        slope = float(sloped.coefficients[0])
        steep = slope > 0 and sloped.values.max() > 1.5 * sloped.values.min()
        spread = _spread(sloped, variance, weight)
        if steep and spread < 0.3:
            has_base = len(sloped.coefficients) > 1
            base = float(sloped.coefficients[1]) if has_base else 0.0
            return Law(slope, base, spread)
    base = float(constant.coefficients)
    return Law(0.0, base, _spread(constant, variance, weight))


def _column(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _sloped_fit(level: Tensor, variance: Tensor, weight: Tensor) -> _Fit | None:
    """Fit slope · level + base, or slope · level if the base would be negative."""
    if len(level) <= 3:
        return None
    line = torch.stack([level, torch.ones_like(level)], 1)
    fit = _lower_edge(line, variance, weight)
    slope, base = fit.coefficients
    if slope > 0 and base < 0:
        return _lower_edge(level[:, None], variance, weight)
    return fit


def _spread(fit: _Fit, variance: Tensor, weight: Tensor) -> float:
    """The weighted mean of the variances' relative distance from a fit."""
    distance = (variance / fit.values - 1).abs()
    return float((distance * weight).sum() / weight.sum())


def _lower_edge(basis: Tensor, variance: Tensor, weight: Tensor) -> _Fit:
    """Fit the variances on `basis`; those above the fit weigh less."""
    values = variance
    for _ in range(20):
        row_weight = weight / values.square() * _side_weight(variance, values)
        weighted = (basis * row_weight[:, None]).T
        ridge = 1e-12 * torch.eye(basis.shape[1], dtype=variance.dtype)
        matrix = weighted @ basis + ridge
        coefficients = torch.linalg.solve(matrix, weighted @ variance)
        values = (basis @ coefficients).clamp(min=float(variance.min()) / 4)
    squares = weight * (variance / values - 1).square()
    squares = squares * _side_weight(variance, values)
    return _Fit(coefficients, values, float(squares.sum() / 4))


def _side_weight(variance: Tensor, fitted: Tensor) -> Tensor:
    """Less than 1 for variances above the fit."""
    return torch.where(variance > fitted, _ABOVE, 1.0)
