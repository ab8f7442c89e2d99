"""Noise, measured in the flattest blocks of a picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..levels import Clamp, Quantize
from ..noise import Gaussian, PoissonGaussian
from ..operator import Operator
from .blocks import blocks_of, coefficients
from .evidence import Evidence, Finding, confidence_of
from .grain import Grain, Law, fit_law, grains, weighted_mean
from .view import View

_UNROUNDED = 0.5  # levels: the step of coefficients that no JPEG has rounded
_LEAST = 0.45  # noise with a lower confidence is not reported
_FAINTEST = 1.2  # levels: every picture has noise of a lower standard deviation
_ROUNDING = 1 / 12  # variance of rounding to 8 bits, in levels²
# An opponent colour has less texture than luma, but a JPEG hardly keeps it.
_OPPONENT = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)


def noise_evidence(view: View, grid: tuple[int, int], table: Tensor | None) -> list[Evidence]:
    """Measure noise in the flattest blocks, on the grid and at the steps of the coarsest JPEG."""
    measurement = _quietest(view, grid, table)
    noise = []
    if measurement is not None and measurement.is_loud:
        noise.append(_noise_of(measurement))
    if table is None or any(piece.reported for piece in noise):
        return noise
    hidden = Finding("", 0.5, "noise, if there was any, is hidden by compression")
    return [Evidence(None, hidden), *noise]


def _noise_of(measurement: _Measurement) -> Evidence:
    """Express measured noise as an operator. Files hold clamped and rounded values."""
    law, confidence = measurement
    read_variance = max(0.0, law.base - _ROUNDING)
    sigma = _three_digits(math.sqrt(read_variance) / 255)
    if law.slope > 0:
        peak = _three_digits(255 / law.slope)
        noise: Operator = PoissonGaussian(peak, sigma)
        why = (
            "the flattest blocks are rough at all frequencies alike, "
            "and the rougher, the brighter they are"
        )
    else:
        noise = Gaussian(sigma)
        why = "the flattest blocks are rough at all frequencies and brightnesses alike"
    chain = noise >> Clamp() >> Quantize()
    finding = Finding(str(chain), round(confidence, 3), why)
    is_clear = confidence >= _LEAST
    return Evidence(chain, finding, is_clear, "noise")


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


class _Measurement(NamedTuple):
    """The law of the noise, and the confidence that it is noise."""

    law: Law
    confidence: float

    @property
    def middle_variance(self) -> float:
        """The variance of the noise at middle brightness, with that of rounding."""
        return self.law.at(128)

    @property
    def is_loud(self) -> bool:
        """Whether the noise is stronger than in every picture."""
        variance = self.middle_variance - _ROUNDING
        return bool(variance > _FAINTEST**2)


def _quietest(view: View, grid: tuple[int, int], table: Tensor | None) -> _Measurement | None:
    """Measure the lowest noise of any mixture of the channels; None if none can be measured."""
    mixes = [view.mix]
    steps = table
    if steps is None:
        steps = torch.full((64,), _UNROUNDED, dtype=torch.float64)
        if len(view.colours) == 3:
            mixes.append(_OPPONENT)
    measurements = []
    for mix in mixes:
        measurement = _measure_noise(view, grid, mix, steps)
        if measurement is not None:
            measurements.append(measurement)
    return min(measurements, key=lambda measurement: measurement.middle_variance, default=None)


def _measure_noise(
    view: View, grid: tuple[int, int], mix: Tensor, steps: Tensor
) -> _Measurement | None:
    """Measure the noise of a channel in a mixture of the channels; None if that is impossible."""
    scale = float(mix.norm())
    weights = mix / scale
    plane = view.luma
    if mix is not view.mix:
        plane = torch.tensordot(mix, view.colours, 1)
    blocks = blocks_of(plane, *grid).flatten(0, 1)
    c = coefficients(blocks) / scale
    means = _block_means(view.colours, grid)
    brightness = means @ weights.square()
    distance_to_ends = torch.minimum(means, 255 - means).amin(1)
    clipped = blocks_of(view.clipped, *grid).flatten(0, 1)
    clipped_share = clipped.double().mean((1, 2))
    usable = clipped_share <= 0.05
    for _ in range(2):
        measured, share = grains(c[usable], steps / scale, brightness[usable])
        if not measured:
            return None
        law = fit_law(measured)
        # Nearer to 0 or 255, clipping took some of the noise.
        deviation = math.sqrt(law.at(128))
        usable &= distance_to_ends > 2 * deviation
    confidence = _confidence_in_noise(measured, law, share)
    return _Measurement(law, confidence)


def _block_means(colours: Tensor, grid: tuple[int, int]) -> Tensor:
    """The mean of each block and colour, [blocks, colours]."""
    means = []
    for plane in colours:
        blocks = blocks_of(plane, *grid)
        means.append(blocks.mean((2, 3)).flatten())
    return torch.stack(means, 1)


def _confidence_in_noise(measured: list[Grain], law: Law, share: float) -> float:
    """How much the grains of a share of the bins look like noise and not like texture."""
    _, _, weights, whites, band_counts, all_tails = zip(*measured, strict=True)
    white = weighted_mean(whites, weights)
    tails = weighted_mean(all_tails, weights)
    bands = weighted_mean(band_counts, weights)
    heavy_tails = max(0.0, tails - 1)
    doubt = 1 - white + heavy_tails / 2 + law.spread
    from_bands = min(1.0, bands / 2)
    from_weight = confidence_of(sum(weights), 200)
    return share * from_bands * math.exp(-doubt) * from_weight
