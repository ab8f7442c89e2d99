"""Detect the comb that a JPEG leaves: coefficients at multiples of its steps, on its block grid.

Planes are float64 [H, W] in levels, centred at 0; coefficients are those of the orthonormal DCT.
Only a fixed number of blocks is used: those with most contrast. No choice is random.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..jpeg.header import quality_tables
from .blocks import coefficients

_QUALITIES = torch.arange(1.0, 101)
_LUMA_TABLES = quality_tables(_QUALITIES)[:, 0]
TABLES = _LUMA_TABLES.flatten(1).double()  # luma's table of each quality
_ROUNDED = 0.4  # standard deviation of a coefficient whose pixels were rounded to 8 bits
ORDER = sorted(range(1, 64), key=lambda i: i // 8 + i % 8)  # low frequencies first, no mean
# What a coefficient off the comb costs at most: clipped or retouched blocks do not disprove a JPEG.
_STRAY = math.log(0.02)

_MOST_PATCHES = 2000
_COARSE_PATCHES = 250  # of these, the first scan uses about this many
_PATCH = 15  # pixels: a patch of this side holds one block of each of the 64 grids
_COARSE_BLURS = (0.35, 0.9, 2.3)
_FINE_BLURS = (0.3, 0.5, 0.8, 1.3, 2.1, 3.4)
_LARGEST_MULTIPLE = 200  # larger coefficients count as this many steps


class Comb(NamedTuple):
    """A JPEG's grid and quality; nats: its comb's log likelihood minus a smooth density's.

    blur: the standard deviation, in levels, of the coefficients around multiples of their steps.
    """

    dy: int
    dx: int
    quality: int
    nats: float
    margin: float  # nats above the best of another grid, or of another quality on its own
    blur: float = 0.0


def shifted_comb(luma: Tensor, clipped: Tensor, skip_own: bool) -> Comb | None:
    """Find the grid and quality whose multiples of steps the coefficients cluster at.

    None if too few blocks have contrast. skip_own: leave out the grid that starts at (0, 0).

    Every coefficient that does not round to 0 adds log(q φ(r/s)/s), with φ the normal density, q
    the step, and r the distance to the nearest multiple of q: the log likelihood of multiples of q
    blurred by s, against that of a smooth density.
    After Fan & de Queiroz 2003 and Neelamani et al. 2006, with the 64 grids of Luo et al. 2007.
    """
    patches = _liveliest(luma, clipped, _MOST_PATCHES)
    if patches is None:
        return None
    nats = _nats_of_grids(patches)
    if skip_own:
        nats[0] = -math.inf
    best = int(nats.argmax())
    is_other = torch.arange(64) != best
    best_other = nats[is_other].amax()
    margin = nats[best] - best_other.clamp(min=0)
    dy, dx = divmod(best, 8)
    nats_of_qualities, best_blurs = _nats_of_qualities(patches, dy, dx)
    index = int(nats_of_qualities.argmax())
    best_blur = int(best_blurs[index])
    return Comb(
        dy,
        dx,
        quality=index + 1,
        nats=float(nats_of_qualities[index]),
        margin=float(margin),
        blur=_FINE_BLURS[best_blur],
    )


def _nats_of_grids(patches: Tensor) -> Tensor:
    """The nats of each of the 64 grids, row by row, for its best quality and blur."""
    every = max(1, len(patches) // _COARSE_PATCHES)
    some = patches[::every]
    rows = some.unfold(1, 8, 1)
    blocks = rows.unfold(2, 8, 1)  # [n, dy, dx, 8, 8]
    by_patch = coefficients(blocks)
    by_shift = by_patch.permute(1, 2, 0, 3)
    by_grid = by_shift.flatten(0, 1)
    c = by_grid.contiguous()
    nats = comb_nats(c, TABLES, ORDER[:12], _COARSE_BLURS)  # [blurs, grids, qualities]
    return nats.amax((0, 2))


def _nats_of_qualities(patches: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """(nats, index of the best blur) of each quality on one grid."""
    rows = slice(dy, dy + 8)
    columns = slice(dx, dx + 8)
    c = coefficients(patches[:, rows, columns])
    nats = comb_nats(c[None], TABLES, ORDER[:24], _FINE_BLURS)  # [blurs, 1, qualities]
    best = nats[:, 0].max(0)
    return best.values, best.indices


def _liveliest(luma: Tensor, clipped: Tensor, most: int) -> Tensor | None:
    """Patches [n, 15, 15] with most contrast, none clipped; each holds a block of every grid."""
    if min(luma.shape) < _PATCH:
        return None
    most_pixels = 64 * 4 * most
    every = math.isqrt(luma.numel() // most_pixels)
    stride = 8 * max(1, every)
    patches = _patches(luma, stride)
    clipped_pixels = _patches(clipped, stride)
    is_clipped = clipped_pixels.flatten(1).any(1)
    patches = patches[~is_clipped]
    if len(patches) == 0:
        return None
    contrast = patches.flatten(1).var(1)
    order = contrast.argsort(descending=True, stable=True)
    order = order[:most]
    has_contrast = contrast[order] > 1
    order = order[has_contrast]
    if len(order) == 0:
        return None
    return patches[order]


def _patches(plane: Tensor, stride: int) -> Tensor:
    """The patches [n, 15, 15] of a plane whose corners are `stride` pixels apart."""
    rows = plane.unfold(0, _PATCH, stride)
    patches = rows.unfold(1, _PATCH, stride)
    return patches.flatten(0, 1)


def comb_nats(
    c: Tensor, tables: Tensor, frequencies: list[int], blurs: tuple[float, ...]
) -> Tensor:
    """Nats [blurs, grids, tables] of coefficients [grids, n, 64] and tables [n, 64]."""
    total = c.new_zeros(len(blurs), len(c), len(tables))
    for frequency in frequencies:
        steps_of_tables = tables[:, frequency]
        steps, step_of_table = steps_of_tables.unique(return_inverse=True)
        step = steps.float()
        step = step[:, None, None]
        values = c[..., frequency].float()
        multiple = (values / step).round()
        rounds_to_zero = multiple == 0
        distance = values - step * multiple
        squared_distance = distance.square_()
        for i, blur in enumerate(blurs):
            width = blur * math.sqrt(2 * math.pi)
            peak = (step / width).log()
            factor = -0.5 / blur**2
            nats = squared_distance * factor
            nats.add_(peak)
            nats.clamp_(min=_STRAY)
            gain = nats.clamp(min=0)
            gain.mul_(rounds_to_zero)
            nats.sub_(gain)
            nats_of_steps = nats.sum(2)  # [steps, grids]
            by_step = nats_of_steps.T.double()
            total[i] += by_step[:, step_of_table]
    return total


def aligned_comb(c: Tensor, last_table: Tensor) -> Comb | None:
    """Find the quality of a JPEG before the last one, on the same grid.

    c: the last JPEG's coefficients [n, 64]. last_table: its table [64].

    Multiples of an earlier step, rounded to multiples of the last, leave bins empty or doubled
    (Popescu & Farid 2004). The alternative is a smooth distribution, geometric or normal, whichever
    fits better. No picture follows either exactly, so only a fourth of the evidence counts. Only
    steps larger than the last are tried: smaller ones leave too little.
    """
    total = c.new_zeros(len(TABLES))
    for frequency in ORDER[:20]:
        step = float(last_table[frequency])
        signed = (c[:, frequency] / step).round()
        multiples = signed.abs()
        is_nonzero = multiples > 0
        multiples = multiples[is_nonzero].clamp(max=_LARGEST_MULTIPLE)
        if len(multiples) < 20:
            continue
        steps_of_tables = TABLES[:, frequency]
        earlier_steps, step_of_table = steps_of_tables.unique(return_inverse=True)
        nats = _nats_of_earlier_steps(multiples, step, earlier_steps)
        total += nats[step_of_table]
    best = int(total.argmax())
    # Neighbours have many steps in common.
    index = torch.arange(len(total))
    distance = (index - best).abs()
    best_other = total[distance > 5].max()
    nats_of_best = float(total[best])
    margin = float(total[best] - best_other.clamp(min=0))
    return Comb(0, 0, quality=best + 1, nats=nats_of_best / 4, margin=margin / 4)


def _nats_of_earlier_steps(multiples: Tensor, step: float, earlier_steps: Tensor) -> Tensor:
    """How much likelier each earlier step makes these multiples of `step` than a smooth density."""
    bins = _LARGEST_MULTIPLE + 1
    counts_of_all = torch.bincount(multiples.long(), minlength=bins)
    counts = counts_of_all[1:].double()
    smooth = _smooth_densities(multiples)
    index = torch.arange(bins, dtype=torch.float64)
    edges = (index + 0.5) * step
    integers = torch.arange(1, 2000, dtype=torch.float64)
    teeth = integers[:, None] * earlier_steps
    nats = multiples.new_zeros(len(earlier_steps))
    is_larger = earlier_steps > 1.15 * step
    candidates = is_larger.nonzero().flatten()
    for i in candidates.tolist():
        earlier_step = earlier_steps[i]
        reached = int(edges[-1] / earlier_step) + 2
        distance = edges[:, None] - teeth[:reached, i]
        shares_below = torch.special.ndtr(distance / _ROUNDED)
        cumulative = shares_below.sum(1)
        density = earlier_step / step * cumulative.diff()
        ratio = density * 0.98 + 0.02
        normalisers = smooth @ ratio
        log_normaliser = normalisers.log().max()
        log_likelihood = counts @ ratio.log()
        penalty = counts.sum() * log_normaliser
        nats[i] = log_likelihood - penalty
    return nats


def _smooth_densities(multiples: Tensor) -> Tensor:
    """The probability of each multiple by a geometric and by a normal distribution [2, bins]."""
    bins = torch.arange(1.0, _LARGEST_MULTIPLE + 1, dtype=torch.float64)
    mean = multiples.mean().clamp(min=1.001)
    decay = 1 - 1 / float(mean)
    geometric = decay**bins
    squares = multiples.square()
    mean_square = float(squares.mean())
    exponent = -bins.square() / (2 * mean_square)
    normal = torch.exp(exponent)
    densities = torch.stack([geometric, normal])
    total = densities.sum(1, keepdim=True)
    return densities / total
