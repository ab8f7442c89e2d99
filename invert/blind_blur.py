"""Estimate the size and the angle of a blur from the spectrum of the blurred image.

The power of photos falls with the frequency f about as f^-α, with α near 2. A blur multiplies it by
its transfer function |K(f)|², and noise adds a constant. So the power of the observation is about

    P(f) = a (f^-α |K(f)|² + r).

Both sides are averaged in cells of similar frequency and direction. The blur for which a, α and r
fit log P best is taken.
Source of the law: Field 1987, "Relations between the statistics of natural images and the response
properties of cortical cells".
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from degrade.filter import Blur
from degrade.values import Range

from .descent import vertex

ESTIMATED = ("size", "angle")  # the parameters of a blur that its spectrum tells
SIDE = 384  # pixels: the spectrum is that of the middle of a larger photo
RINGS = 32  # of cells, equally far apart in log f
SECTORS = 8  # directions in which a ring is cut; f and -f are the same
LOWEST = 0.02  # cycles per pixel: below, the window changes the spectrum
HIGHEST = 0.5  # cycles per pixel: the highest in all directions
VALUES = {1: 41, 2: 24}  # of each parameter that are tried, if one or two are estimated
SMALLEST = 0.3  # pixels: smaller blurs change nothing
LEAST_SIDE = 32  # pixels
LEAST_DEVIATION = 1 / 255  # of an image that shows something
SLOPES = (1.2, 3.2, 11)  # lowest and highest α, and how many are tried
RATIOS = (-8.0, 0.0, 33)  # log10 of the lowest and highest r, and how many are tried
USUAL_SLOPE = 2.0
# Of (α − 2)², against squared errors of log P. Without it, a blur of one pixel is taken for a steep
# spectrum in some photos.
SLOPE_WEIGHT = 0.05


def unknown_in(blur: Blur) -> list[str]:
    """The parameters of a blur that are ranges; none if one of them cannot be estimated."""
    names = [name for name, value, _ in blur.arguments() if isinstance(value, Range)]
    return names if set(names) <= set(ESTIMATED) else []


def estimated_blur(y: Tensor, blur: Blur) -> Blur:
    """The blur whose ranges of size and angle are replaced by estimates from y [1, C, h, w].

    docs/any_photo.md says how well. A photo that is not sharp by itself gives the size of both
    blurs together. Raises ValueError for an image that is too small, or that shows nothing.
    """
    names = unknown_in(blur)
    check_shows_enough(y, blur)
    grey = middle(y).mean(1)[0].to("cpu", torch.float64)
    cells = Cells(grey)
    tried = {name: values_of(name, getattr(blur, name), VALUES[len(names)]) for name in names}
    losses = {}
    for values in product(*tried.values()):
        candidate = blur.with_values(dict(zip(names, values, strict=True)))
        losses[values] = cells.misfit(transfer_of(candidate, grey.shape))
    best = min(losses, key=losses.__getitem__)
    refined = {}
    for axis, name in enumerate(names):
        refined[name] = between(tried[name], best, axis, losses)
    return blur.with_values(refined)


def is_at_end(blur: Blur, estimate: Blur) -> bool:
    """Whether an estimated size is the lowest or the highest of its range."""
    if not isinstance(blur.size, Range):
        return False
    tried = values_of("size", blur.size, 2)
    return any(estimate.size == float(f"{end:.3g}") for end in (tried[0], tried[-1]))


def check_shows_enough(y: Tensor, blur: Blur) -> None:
    """Raise ValueError for an image whose spectrum tells nothing of a blur."""
    mend = f"give the numbers of {blur} themselves"
    height, width = y.shape[2:]
    if min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"the image has {width}x{height} pixels, and a blur is estimated from {LEAST_SIDE} on "
            f"each side; {mend}"
        )
    if float(y.mean(1).std()) < LEAST_DEVIATION:
        raise ValueError(f"the image has no detail from which a blur could be estimated; {mend}")


def middle(y: Tensor) -> Tensor:
    """The middle of an image, at most SIDE pixels high and wide."""
    height, width = y.shape[2:]
    top = max(0, height - SIDE) // 2
    left = max(0, width - SIDE) // 2
    return y[..., top : top + SIDE, left : left + SIDE]


def values_of(name: str, wanted: Range, count: int) -> list[float]:
    """The values in a range that are tried: sizes each the same factor larger, angles evenly."""
    places = torch.linspace(0, 1, count, dtype=torch.float64, device="cpu")
    if name == "angle":
        return (wanted.low + (wanted.high - wanted.low) * places).tolist()
    low, high = max(wanted.low, SMALLEST), wanted.high
    if high <= low:
        return [high]
    return (low * (high / low) ** places).tolist()


def between(
    values: list[float], best: tuple[float, ...], axis: int, losses: dict[tuple[float, ...], float]
) -> float:
    """The minimum of the parabola through the best value of one parameter and its neighbours."""
    index = values.index(best[axis])
    if not 0 < index < len(values) - 1:
        return values[index]
    neighbours = values[index - 1 : index + 2]
    shift = vertex(*[losses[(*best[:axis], value, *best[axis + 1 :])] for value in neighbours])
    end = neighbours[2] if shift > 0 else neighbours[0]
    value = values[index] + abs(shift) * (end - values[index])
    return float(f"{value:.3g}")


class Cells:
    """The power spectrum of an image [h, w], averaged in cells of frequency and direction."""

    def __init__(self, grey: Tensor):
        frequency, self.numbers = cell_numbers(grey.shape)
        self.counts = self._sums(torch.ones_like(frequency))
        self.is_seen = self.counts > 0
        counts = self.counts[self.is_seen]
        self.weights = counts.sqrt() / counts.sqrt().sum()
        self.log_power = self._means(power_of(grey)).clamp_min(1e-20).log()
        self.log_frequency = self._means(frequency.clamp_min(1e-9).log())

    def misfit(self, transfer: Tensor) -> float:
        """The least weighted squared error of log P over a, α and r. transfer: |K(f)|² [h, w]."""
        slopes = torch.linspace(*SLOPES, dtype=torch.float64, device="cpu")[:, None, None]
        ratios = torch.logspace(*RATIOS, dtype=torch.float64, device="cpu")[:, None]
        signal = self._means(transfer) * torch.exp(-slopes * self.log_frequency)
        difference = self.log_power - (signal + ratios).log()
        log_a = (self.weights * difference).sum(2, keepdim=True)
        squares = (self.weights * (difference - log_a).square()).sum(2)
        penalty = SLOPE_WEIGHT * (slopes - USUAL_SLOPE).square()[:, 0]
        return float((squares + penalty).min())

    def _means(self, values: Tensor) -> Tensor:
        """The mean in each cell that has values [n]."""
        sums = self._sums(values)
        return sums[self.is_seen] / self.counts[self.is_seen]

    def _sums(self, values: Tensor) -> Tensor:
        """The sum in each cell [RINGS · SECTORS]."""
        is_used = self.numbers >= 0
        sums = torch.zeros(RINGS * SECTORS, dtype=torch.float64, device="cpu")
        return sums.index_add(0, self.numbers[is_used], values[is_used])


def cell_numbers(shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The frequency of each value of a spectrum [h, w], and the number of its cell, or -1."""
    down = torch.fft.fftfreq(shape[0], dtype=torch.float64, device="cpu")[:, None]
    across = torch.fft.fftfreq(shape[1], dtype=torch.float64, device="cpu")
    frequency = torch.hypot(down, across)
    share = (frequency.clamp_min(1e-9) / LOWEST).log() / math.log(HIGHEST / LOWEST)
    ring = (share * RINGS).floor()
    angle = torch.atan2(down.expand_as(frequency), across.expand_as(frequency))
    sector = (angle / math.pi * SECTORS).round() % SECTORS
    is_used = (frequency >= LOWEST) & (frequency < HIGHEST)
    return frequency, torch.where(is_used, ring * SECTORS + sector, -1).long()


def power_of(grey: Tensor) -> Tensor:
    """The power spectrum [h, w] of an image [h, w], seen through a window that falls to 0."""
    height, width = grey.shape
    down = torch.hann_window(height + 2, periodic=False, dtype=torch.float64, device="cpu")
    across = torch.hann_window(width + 2, periodic=False, dtype=torch.float64, device="cpu")
    window = down[1:-1, None] * across[1:-1]
    centred = (grey - grey.mean()) * window
    power: Tensor = torch.fft.fft2(centred).abs().square()
    return power / window.square().sum()


def transfer_of(blur: Blur, shape: torch.Size) -> Tensor:
    """|K(f)|² [h, w] of a blur."""
    height, width = shape
    impulse = torch.zeros(1, 1, height, width, dtype=torch.float64, device="cpu")
    impulse[..., height // 2, width // 2] = 1
    kernel = blur.predict(impulse)[0, 0]
    transfer: Tensor = torch.fft.fft2(kernel).abs().square()
    return transfer
