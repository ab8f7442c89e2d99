"""Drops on the lens: of water, with a bright and a dark side, or of mud.

Source: `spatter` of ImageNet-C (Hendrycks & Dietterich 2019), by its published code. The water is
drawn with functions of OpenCV in 8 bits, which are restated here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .convolution import convolve
from .images import check_channels
from .kernels import KERNELS
from .params import Integers, Number, decided, number, option, random_seed
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .seeded import Draws, Unknown

_COLORS = {"water": (175 / 255, 238 / 255, 238 / 255), "mud": (63 / 255, 42 / 255, 20 / 255)}
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_LOW, _HIGH = 50, 150  # thresholds of Canny's edges
_TANGENT = 13573  # of 22.5°, in units of 2⁻¹⁵, as OpenCV rounds it
_FAR = 20.0  # distances in pixels end here
_THICKEST = 0.8  # mud that covers less than this is left out
_STEPS = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}  # OpenCV's lengths of steps to neighbours


@register("spatter", exact="ImageNet-C's code", gradient="its own")
class Spatter(Unknown):
    """Spatter an image with water or mud.

    The drops are where a field of N(mean, deviation²), smoothed by a Gaussian, is above the
    threshold. Water: y = x + m·(pale turquoise), where m is brighter on one side of a drop than on
    the other. Mud: y = (1 - m)·x + m·(brown), where m is the smoothed area of a drop. A grey image
    gets the mean of the colour's channels. Gradient: 1, or 1 - m.

    liquid: "water" or "mud".
    mean, deviation: of the field, 0 to 1.
    size: standard deviation of its Gaussian in pixels, above 0 to 100.
    threshold: 0 to 1.
    amount: the largest m of water; the standard deviation of the Gaussian that smooths mud; above 0
        to 100.
    seed: fixes the drops; `sample` draws it, and `approx` removes it.
    """

    liquid: str = option(*_COLORS)
    mean: Number = number(default=0.65, low=0, high=1, per_image=False)
    deviation: Number = number(default=0.3, low=0, high=1, per_image=False)
    size: Number = number(default=2, above=0, high=100, per_image=False)
    threshold: Number = number(default=0.68, low=0, high=1, per_image=False)
    amount: Number = number(default=0.5, above=0, high=100, per_image=False)
    seed: Integers | None = random_seed(default=None)
    linear = False

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        color = x.new_tensor(_COLORS[self.liquid]).view(1, 3, 1, 1)
        if x.shape[1] == 1:
            color = color.mean(1, keepdim=True)

        def spatter(row: Tensor, seed: int) -> Tensor:
            drops = self.drops(seed, row.shape[2], row.shape[3]).to(row)
            if self.liquid == "water":
                return row + drops * color
            return row * (1 - drops) + drops * color

        return row_by_row(spatter, x, seed=self.drawn_seed)

    def drops(self, seed: int, height: int, width: int) -> Tensor:
        """m [height, width]."""
        mean = decided(self.mean)
        deviation = decided(self.deviation)
        size = decided(self.size)
        threshold = decided(self.threshold)
        amount = decided(self.amount)
        draw = _water if self.liquid == "water" else _mud
        return draw(seed, mean, deviation, size, threshold, amount, height, width)


def _liquid(
    seed: int, mean: float, deviation: float, size: float, height: int, width: int
) -> Tensor:
    field = mean + deviation * Draws(seed).normal(height, width)
    return _smooth(field, size)


def _smooth(plane: Tensor, sigma: float) -> Tensor:
    kernel = KERNELS["gaussian"].draw(sigma, sigma, 0, 1, None)
    return convolve(plane[None, None], kernel, "nearest")[0, 0]


@cached_constant(maxsize=8)
def _mud(
    seed: int,
    mean: float,
    deviation: float,
    size: float,
    threshold: float,
    smoothing: float,
    height: int,
    width: int,
) -> Tensor:
    liquid = _liquid(seed, mean, deviation, size, height, width)
    drops = (liquid > threshold).double()
    cover = _smooth(drops, smoothing)
    return torch.where(cover < _THICKEST, 0.0, cover)


@cached_constant(maxsize=8)
def _water(
    seed: int,
    mean: float,
    deviation: float,
    size: float,
    threshold: float,
    amount: float,
    height: int,
    width: int,
) -> Tensor:
    liquid = _liquid(seed, mean, deviation, size, height, width)
    drops = torch.where(liquid < threshold, 0.0, liquid)
    levels = torch.floor(drops * 255).remainder(256)
    distance = distances(edges(levels))
    smooth = torch.floor(_mean_of_nine(distance).float().double())
    relief = equalized(smooth)
    emboss = torch.tensor(_EMBOSS, dtype=torch.float64)
    embossed = _correlate(relief, emboss).clamp(0, 255)
    light = _mean_of_nine(embossed).round() * levels
    brightest = light.max()
    if brightest == 0:
        return light
    return amount * light / brightest


# OpenCV's functions on planes of levels from 0 to 255 ---------------------------------------------


def _padded(plane: Tensor, width: int, value: float) -> Tensor:
    return F.pad(plane, (width, width, width, width), value=value)


def _mirrored(plane: Tensor) -> Tensor:
    """A plane with one more pixel on each side, mirrored without repeating the edge."""
    for axis in (0, 1):
        n = plane.shape[axis]
        before = plane.narrow(axis, min(1, n - 1), 1)
        after = plane.narrow(axis, max(n - 2, 0), 1)
        plane = torch.cat([before, plane, after], axis)
    return plane


def _correlate(plane: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(_mirrored(plane)[None, None], kernel[None, None])[0, 0]


def _mean_of_nine(plane: Tensor) -> Tensor:
    ones = torch.ones(3, 3, dtype=torch.float64)
    return _correlate(plane, ones) * (1 / 9)


def edges(levels: Tensor) -> Tensor:
    """Canny's edges: where the gradient is largest across itself, and connected to a strong one."""
    repeated = F.pad(levels[None, None], (1, 1, 1, 1), mode="replicate")
    slope = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)
    slopes = torch.stack([slope, slope.mT])  # along rows and along columns
    gradients = F.conv2d(repeated, slopes[:, None])
    to_the_right, down = gradients[0].long()
    strength = to_the_right.abs() + down.abs()
    around = _padded(strength, 1, 0)

    def beside(rows: int, columns: int) -> Tensor:
        height, width = strength.shape
        return around[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    low_tangent = to_the_right.abs() * _TANGENT
    high_tangent = low_tangent + (to_the_right.abs() << 16)
    steepness = down.abs() << 15
    is_flat = steepness < low_tangent
    is_steep = steepness > high_tangent
    across_columns = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    across_rows = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    opposite = (to_the_right ^ down) < 0
    diagonal = torch.where(opposite, rising, falling)
    oblique = torch.where(is_steep, across_rows, diagonal)
    is_largest = torch.where(is_flat, across_columns, oblique)
    candidates = is_largest & (strength > _LOW)
    return _connected(candidates, candidates & (strength > _HIGH))


def _connected(candidates: Tensor, found: Tensor) -> Tensor:
    """The candidates that a path of candidates leads to from those that are found already."""
    while True:
        planes = found.double()[None]
        around = F.max_pool2d(planes, kernel_size=3, stride=1, padding=1)
        more = candidates & (around[0] > 0)
        if torch.equal(more, found):
            return found
        found = more


def distances(marked: Tensor) -> Tensor:
    """The length of a shortest path to a marked pixel, by steps to 16 neighbours; at most 20.

    It is summed in float32, as in OpenCV.
    """
    lengths = torch.where(marked, 0.0, _FAR).float()
    height, width = lengths.shape
    while True:
        padded = _padded(lengths, 2, _FAR)
        shorter = lengths
        for rows in range(-2, 3):
            for columns in range(-2, 3):
                near, far = sorted((abs(rows), abs(columns)))
                step = _STEPS.get((near, far))
                if step is None:
                    continue
                top = 2 + rows
                left = 2 + columns
                neighbour = padded[top : top + height, left : left + width]
                shorter = torch.minimum(shorter, neighbour + step)
        if torch.equal(shorter, lengths):
            return lengths.double()
        lengths = shorter


def equalized(levels: Tensor) -> Tensor:
    """Levels spread so that each share of the pixels gets the same share of 0 … 255."""
    index = levels.long()
    counts = torch.bincount(index.flatten(), minlength=256)
    smallest = int(index.min())
    rest = index.numel() - int(counts[smallest])
    if rest == 0:
        return levels
    above = counts.clone()
    above[: smallest + 1] = 0
    scale = torch.tensor(255 / rest, dtype=torch.float32)
    table = (above.cumsum(0).float() * scale).round()
    return table.double()[index]
