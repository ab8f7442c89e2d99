"""A search that believes an observation as far as the operator's own noise allows.

Two draws of the operator from one image show how far apart two observations of one truth lie. This
is measured at every scale of a pyramid. So fine scales count where the observation is clean, and
only coarse ones where it is noisy; and the search goes further where more is left to explain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss import Measure, Term, View, halved, mean_per_image
from .method import Knob
from .optim import NGD, falling
from .phase import Phase
from .phases import Method
from .problem import Problem
from .regression import Regression

SHORTEST = 4  # the pyramids go on while both sides of their next picture are at least this long
SCALES = 6  # at most
PAIRS = 4  # pairs of draws that measure the noise before a phase


@dataclass(frozen=True)
class Energy(Term):
    """The energy score of the observation under the operator, over a pyramid of 2×2 means.

    At a scale s it is E‖f(x) − y‖ − ½ E‖f(x) − f′(x)‖, with f and f′ two draws of the operator and
    ‖·‖ the mean absolute value. The truth minimises it whatever the noise, where a distance alone
    prefers an image whose noise is small. The value is the mean over scales, each times
    floor / (floor + ½‖f(x) − f′(x)‖): the more noise a scale has, the less it counts.
    floor: about the error of the best image that a generator can draw, in [0, 1].
    Gradient: through both draws, not through the factor of a scale.
    Source: Gneiting & Raftery 2007, "Strictly Proper Scoring Rules", §4.3; the factor is ours.
    """

    weight: float = 1.0
    floor: float = 0.03
    name = "energy"

    def prepare(self, problem: Problem) -> Measure:
        target = pyramid(problem.observation)

        def measure(view: View) -> Tensor:
            second_draw = problem.predict(view.image, f"energy/{view.step}")
            first = pyramid(view.prediction)
            second = pyramid(second_draw)
            total = problem.zeros()
            for a, b, y in zip(first, second, target, strict=True):
                noise = distance(a, b) / 2
                misfit = (distance(a, y) + distance(b, y)) / 2
                certainty = self.floor / (self.floor + noise.detach())
                total = total + certainty * (misfit - noise)
            return total / len(target)

        return measure


@dataclass(frozen=True)
class BitsLeft:
    """A factor of the learning rates: (bits / unit)^power, of what an image leaves unexplained.

    bits: Σ n/2 · log₂(1 + S / (N + (floor/s)²)) over the bands of a pyramid. n is the number of
    values in a band, N the variance that the operator's noise has there, and S the part of the mean
    square of y − E f(x) that exceeds N. s is the side of the band's pixels in pixels of the image:
    in large pixels the errors of what a generator can draw cancel in part. An observation that the
    image explains has no bits left, so that a search that begins at it stays there.
    """

    power: float
    unit: float = 500.0
    floor: float = 0.03

    @torch.no_grad()
    def __call__(self, problem: Problem, image: Tensor) -> Tensor:
        """Return the factor for each image [B]."""
        bits = self.bits(problem, image)
        return (bits / self.unit) ** self.power

    @torch.no_grad()
    def bits(self, problem: Problem, image: Tensor) -> Tensor:
        """Return the bits that an image [B, C, R, R] leaves unexplained, [B]."""
        noise, expected = noise_and_mean(problem, image)
        residual = band_energies(problem.observation - expected)
        pixel_side = min(image.shape[2:]) / min(problem.observation.shape[2:])
        total = problem.zeros()
        for (count, of_noise), (_, of_residual) in zip(noise, residual, strict=True):
            excess = of_residual - of_noise * (1 + 0.5 / PAIRS)  # the mean itself is noisy
            floor = self.floor / pixel_side
            ratio = excess.clamp_min(0) / (of_noise + floor**2)
            total = total + count / 2 * torch.log2(1 + ratio)
            pixel_side *= 2
        return total


Bands = list[tuple[float, Tensor]]  # how many values a band has, and their mean square [B]


def steps_of(lr: float) -> NGD:
    """Steps that become shorter, and turn a code towards where W spreads."""
    return NGD(lr, falling, stretch=1 / 2)


ENERGY = (Energy(),)
CALIBRATED = Method(
    (
        Phase("W", 15, steps_of(0.5), ENERGY, reach=BitsLeft(1 / 4)),
        Phase("W+", 15, steps_of(0.4), ENERGY, reach=BitsLeft(1 / 4)),
        Phase("W++", 15, steps_of(0.05), ENERGY, optional=True, reach=BitsLeft(1 / 2)),
    ),
    start=Regression(),
    source=(
        "this package. Its spaces, NGD and the reach of W are those of Poirier-Ginter & Lalonde "
        "2023; the loss is the energy score of Gneiting & Raftery 2007"
    ),
    departures="no perceptual network; W → W+ for a generator without W++",
    knobs=(Knob("lr"),),
    keeps_pixels=True,
)


def noise_and_mean(problem: Problem, image: Tensor) -> tuple[Bands, Tensor]:
    """The variance of the operator's noise in each band, and the mean of its draws."""
    draws = []
    for number in range(2 * PAIRS):
        draws.append(problem.predict(image, f"bits/{number}"))
    per_pair = []
    for first, second in zip(draws[::2], draws[1::2], strict=True):
        per_pair.append(band_energies(first - second))
    noise = []
    for bands in zip(*per_pair, strict=True):
        count = bands[0][0]
        energies = torch.stack([energy for _, energy in bands])
        noise.append((count, energies.mean(0) / 2))  # a difference has twice the variance
    return noise, torch.stack(draws).mean(0)


def band_energies(picture: Tensor) -> Bands:
    """The bands of a picture: what each scale adds to the next coarser one, and the coarsest."""
    bands = []
    scales = pyramid(picture)
    for fine, coarse in zip(scales, scales[1:], strict=False):
        height, width = coarse.shape[2:]
        inner = fine[:, :, : 2 * height, : 2 * width]
        detail = inner - F.interpolate(coarse, scale_factor=2.0)
        values = detail[0].numel() - coarse[0].numel()
        bands.append((float(values), mean_per_image(detail.square())))
    coarsest = scales[-1]
    bands.append((float(coarsest[0].numel()), mean_per_image(coarsest.square())))
    return bands


def pyramid(picture: Tensor) -> list[Tensor]:
    """A picture and its 2×2 means again and again."""
    scales = [picture]
    while len(scales) < SCALES and min(scales[-1].shape[2:]) >= 2 * SHORTEST:
        scales.append(halved(scales[-1]))
    return scales


def distance(a: Tensor, b: Tensor) -> Tensor:
    """The mean absolute difference, [B]."""
    return mean_per_image((a - b).abs())
