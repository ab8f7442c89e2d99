"""Measure noise in the flattest blocks, where it is white, even after a JPEG's quantiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

_INDEX = torch.arange(64)
_RING = _INDEX // 8 + _INDEX % 8  # each coefficient's row plus column
_BAND_EDGES = (3, 5, 7, 9, 11, 15)  # rings from one edge to before the next are one band
_MOST_BINS = 8  # of brightness
_BLOCKS_PER_BIN = 60
_FEWEST_BLOCKS = 24
_FEWEST_COEFFICIENTS = 12
_ROUNDS = 20  # of the weighted fit
_BETTER = 12  # a sloped law must lower ½χ² by this
_ALIKE = 1.3  # bands up to this multiple of the lowest variance count as noise
_ABOVE = 0.4  # weight in the fit of a variance above it, because texture only adds to noise


class Grain(NamedTuple):
    """Noise in the flattest blocks of one brightness, from the bands with the least variance.

    weight: the number of coefficients whose magnitude is known exactly. white: the share of the
    bands that are as quiet: 1 for noise, less for texture. bands: how many bands could be measured.
    tails: the number of coefficients above 2σ, relative to a normal distribution: 1 for noise, more
    for texture.
    """

    level: float
    variance: float
    weight: float
    white: float
    bands: int
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
    """Measure a grain for each of up to 8 bins of brightness; return the share of bins with one.

    c: coefficients [n, 64], known as multiples of `steps` [64]. level: each block's brightness [n].
    The low frequencies of blocks select them, and the others are measured, so that the selection
    does not bias the measurement.
    """
    if len(c) < _FEWEST_BLOCKS:
        return [], 0.0
    bins = len(c) // _BLOCKS_PER_BIN
    bins = min(_MOST_BINS, max(1, bins))
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
    is_low = (_RING > 0) & (_RING <= 2)
    low = c[indices][:, is_low]
    energy = low.square().sum(1)
    order = energy.argsort(stable=True)
    count = max(_FEWEST_BLOCKS, len(indices) // 5)
    flattest = order[:count]
    return indices[flattest]


def _grain(c: Tensor, steps: Tensor, brightness: float) -> Grain | None:
    """Measure the noise in flat blocks of coefficients [n, 64]; None if no band can be measured."""
    bands = []
    for start, stop in pairwise(_BAND_EDGES):
        band = _band(c, steps, range(start, stop))
        if band.weight > 0:
            bands.append(band)
    if not bands:
        return None
    bands.sort()
    quietest = bands[0]
    limit = _ALIKE * quietest.variance
    alike = [band for band in bands if band.variance < limit]
    if not alike:
        return None
    variances, weights, tails = zip(*alike, strict=True)
    return Grain(
        level=brightness,
        variance=weighted_mean(variances, weights),
        weight=sum(weights),
        white=len(alike) / len(bands),
        bands=len(bands),
        tails=weighted_mean(tails, weights),
    )


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
    variances = []
    weights = []
    for frequency in frequencies:
        variances.append(frequency.variance)
        weights.append(frequency.weight)
    variance = weighted_mean(variances, weights)
    deviation = math.sqrt(variance)
    tails = _tails(frequencies, deviation)
    return _Band(variance, sum(weights), tails)


def _kept_frequencies(c: Tensor, steps: Tensor, ring: range) -> list[_Frequency]:
    """The frequencies of a band whose variance survived the quantiser."""
    frequencies = []
    for index in range(64):
        if int(_RING[index]) not in ring:
            continue
        step = float(steps[index])
        coefficients = c[:, index]
        variance, weight = _variance(coefficients, step)
        if weight > 0:
            frequency = _Frequency(coefficients, step, variance, weight)
            frequencies.append(frequency)
    return frequencies


def _tails(frequencies: list[_Frequency], deviation: float) -> float:
    """The number of coefficients above about 2σ, relative to that of a normal distribution."""
    above = 0.0
    expected = 0.0
    for coefficients, step, _, _ in frequencies:
        steps_below = math.ceil(2 * deviation / step - 0.5)
        threshold = (steps_below + 0.5) * step  # an edge of the quantiser
        is_above = coefficients.abs() > threshold
        above += float(is_above.sum())
        probability = math.erfc(threshold / (deviation * math.sqrt(2)))
        expected += len(coefficients) * probability
    return (above + 1) / (expected + 1)


def _variance(coefficients: Tensor, step: float) -> tuple[float, float]:
    """Estimate (variance, weight) of normal coefficients [n] that are known as multiples of `step`.

    The share of coefficients within j steps gives σ: P(|c| < (j + ½) q) = 2Φ((j + ½) q / σ) - 1
    with q the step.
    """
    count = len(coefficients)
    multiples = (coefficients / step).round().abs()
    j = multiples.quantile(0.6).floor()
    is_within = multiples <= j
    share = float(is_within.double().mean())
    if count < _FEWEST_COEFFICIENTS or not 0.05 < share < 0.97:
        return 0.0, 0.0
    quantile = torch.tensor((1 + share) / 2, dtype=torch.float64)
    z = float(torch.special.ndtri(quantile))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    edge = (j + 0.5) * step
    deviation = edge / z
    information = (2 * z * density) ** 2
    variance_of_share = share * (1 - share)
    weight = count * information / variance_of_share
    return float(deviation**2), weight


class Law(NamedTuple):
    """variance = slope · level + base, fitted to the lower edge of the grains; slope ≥ 0.

    spread: the mean relative distance of the variances from the law.
    """

    slope: float
    base: float
    spread: float

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

    The law is sloped only if a slope explains the grains far better, as for Poisson noise (Foi et
    al. 2008).
    """
    table = torch.tensor(measured, dtype=torch.float64)
    level, variance, weight, *_ = table.T.contiguous()
    constant_basis = torch.ones_like(level)[:, None]
    constant = _lower_edge(constant_basis, variance, weight)
    sloped = _sloped_fit(level, variance, weight)
    if sloped is not None and constant.error - sloped.error > _BETTER:
        law = _sloped_law(sloped, variance, weight)
        if law is not None:
            return law
    base = float(constant.coefficients)
    spread = _spread(constant, variance, weight)
    return Law(0.0, base, spread)


def _sloped_law(fit: _Fit, variance: Tensor, weight: Tensor) -> Law | None:
    """The law of a sloped fit; None if it is hardly sloped, or far from the variances."""
    slope = float(fit.coefficients[0])
    is_steep = slope > 0 and fit.values.max() > 1.5 * fit.values.min()
    spread = _spread(fit, variance, weight)
    if not is_steep or spread >= 0.3:
        return None
    base = 0.0
    if len(fit.coefficients) > 1:
        base = float(fit.coefficients[1])
    return Law(slope, base, spread)


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
    """The weighted mean of the relative distance between the variances and a fit."""
    distance = (variance / fit.values - 1).abs()
    total = (distance * weight).sum()
    return float(total / weight.sum())


def _lower_edge(basis: Tensor, variance: Tensor, weight: Tensor) -> _Fit:
    """Fit the variances on `basis`; those above the fit weigh less."""
    least = float(variance.min()) / 4
    identity = torch.eye(basis.shape[1], dtype=variance.dtype)
    ridge = 1e-12 * identity
    values = variance
    for _ in range(_ROUNDS):
        precision = weight / values.square()
        row_weight = precision * _side_weight(variance, values)
        weighted = (basis * row_weight[:, None]).T
        matrix = weighted @ basis + ridge
        coefficients = torch.linalg.solve(matrix, weighted @ variance)
        values = (basis @ coefficients).clamp(min=least)
    relative = variance / values - 1
    squares = weight * relative.square()
    squares = squares * _side_weight(variance, values)
    error = float(squares.sum() / 4)
    return _Fit(coefficients, values, error)


def _side_weight(variance: Tensor, fitted: Tensor) -> Tensor:
    """The weights of the variances: less than 1 for those above the fit."""
    return torch.where(variance > fitted, _ABOVE, 1.0)
