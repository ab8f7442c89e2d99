"""Detect the comb that a JPEG leaves: coefficients at multiples of its steps, on its block grid.

Planes are float64 [H, W] in levels, centred at 0; coefficients are those of the orthonormal DCT.
Only a fixed number of blocks is used: those with most contrast. No choice is random.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..jpeg_header import quality_tables
from .blocks import coefficients

_QUALITIES = torch.arange(1.0, 101)
TABLES = quality_tables(_QUALITIES)[:, 0].flatten(1).double()  # luma's table of each quality
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
    others = nats[torch.arange(64) != best]
    margin = nats[best] - others.amax().clamp(min=0)
    dy, dx = divmod(best, 8)
    blocks = patches[:, dy : dy + 8, dx : dx + 8]
    nats_of_blurs = comb_nats(coefficients(blocks)[None], TABLES, ORDER[:24], _FINE_BLURS)
    nats_of_qualities, best_blurs = nats_of_blurs[:, 0].max(0)
    index = int(nats_of_qualities.argmax())
    blur = _FINE_BLURS[int(best_blurs[index])]
    return Comb(dy, dx, index + 1, float(nats_of_qualities[index]), float(margin), blur)


def _nats_of_grids(patches: Tensor) -> Tensor:
    """The nats of each of the 64 grids, row by row, for its best quality and blur."""
    every = max(1, len(patches) // _COARSE_PATCHES)
    blocks = patches[::every].unfold(1, 8, 1).unfold(2, 8, 1)  # [n, dy, dx, 8, 8]
    by_grid = coefficients(blocks).permute(1, 2, 0, 3).flatten(0, 1)
    nats = comb_nats(
        by_grid.contiguous(), TABLES, ORDER[:12], _COARSE_BLURS
    )  # [blurs, grids, qualities]
    return nats.amax((0, 2))


def _liveliest(luma: Tensor, clipped: Tensor, most: int) -> Tensor | None:
    """Patches [n, 15, 15] with most contrast, none clipped; each holds a block of every grid."""
    if min(luma.shape) < _PATCH:
        return None
    stride = 8 * max(1, math.isqrt(luma.numel() // (64 * 4 * most)))
    patches = _patches(luma, stride)
    is_clipped = _patches(clipped, stride).flatten(1).any(1)
    patches = patches[~is_clipped]
    if len(patches) == 0:
        return None
    contrast = patches.flatten(1).var(1)
    order = contrast.argsort(descending=True, stable=True)[:most]
    order = order[contrast[order] > 1]
    return patches[order] if len(order) else None


def _patches(plane: Tensor, stride: int) -> Tensor:
    """The patches [n, 15, 15] of a plane whose corners are `stride` pixels apart."""
    rows_of_patches = plane.unfold(0, _PATCH, stride).unfold(1, _PATCH, stride)
    return rows_of_patches.flatten(0, 1)


def comb_nats(
    c: Tensor, tables: Tensor, frequencies: list[int], blurs: tuple[float, ...]
) -> Tensor:
    """Nats [blurs, grids, tables] of coefficients [grids, n, 64] and tables [n, 64]."""
    total = c.new_zeros(len(blurs), len(c), len(tables))
    for frequency in frequencies:
        steps, step_of_table = tables[:, frequency].unique(return_inverse=True)
        step = steps.float()[:, None, None]
        values = c[..., frequency].float()
        multiple = (values / step).round()
        rounds_to_zero = multiple == 0
        squared_distance = (values - step * multiple).square_()
        for i, blur in enumerate(blurs):
            peak = (step / (blur * math.sqrt(2 * math.pi))).log()
            nats = squared_distance * (-0.5 / blur**2)
            nats.add_(peak).clamp_(min=_STRAY)
            gain = nats.clamp(min=0).mul_(rounds_to_zero)
            nats_of_steps = nats.sub_(gain).sum(2)  # [steps, grids]
            total[i] += nats_of_steps.T.double()[:, step_of_table]
    return total


def aligned_comb(c: Tensor, own: Tensor) -> Comb | None:
    """Find the quality of a JPEG before the last one, on the same grid.

    c: the last JPEG's coefficients [n, 64]. own: the last table [64].

    Multiples of an earlier step, rounded to multiples of the last, leave bins empty or doubled
    (Popescu & Farid 2004). The alternative is a smooth distribution, geometric or normal, whichever
    fits better. No picture follows either exactly, so only a fourth of the evidence counts. Only
    steps larger than the last are tried: smaller ones leave too little.
    """
    total = c.new_zeros(len(TABLES))
    for frequency in ORDER[:20]:
        step = float(own[frequency])
        multiples = (c[:, frequency] / step).round().abs()
        multiples = multiples[multiples > 0].clamp(max=_LARGEST_MULTIPLE)
        if len(multiples) < 20:
            continue
        earlier_steps, step_of_table = TABLES[:, frequency].unique(return_inverse=True)
        nats = _nats_of_earlier_steps(multiples, step, earlier_steps)
        total += nats[step_of_table]
    best = int(total.argmax())
    # Neighbours have many steps in common.
    far = (torch.arange(len(total)) - best).abs() > 5
    margin = total[best] - total[far].max().clamp(min=0)
    return Comb(0, 0, best + 1, float(total[best]) / 4, float(margin) / 4)


def _nats_of_earlier_steps(multiples: Tensor, step: float, earlier_steps: Tensor) -> Tensor:
    """How much likelier each earlier step makes these multiples of `step` than a smooth density."""
    counts = torch.bincount(multiples.long(), minlength=_LARGEST_MULTIPLE + 1)[1:].double()
    smooth = _smooth_densities(multiples)
    edges = (torch.arange(_LARGEST_MULTIPLE + 1, dtype=torch.float64) + 0.5) * step
    integers = torch.arange(1, 2000, dtype=torch.float64)
    teeth = integers[:, None] * earlier_steps
    nats = multiples.new_zeros(len(earlier_steps))
    for i in (earlier_steps > 1.15 * step).nonzero().flatten().tolist():
        earlier_step = earlier_steps[i]
        reached = int(edges[-1] / earlier_step) + 2
        distance = edges[:, None] - teeth[:reached, i]
        cumulative = torch.special.ndtr(distance / _ROUNDED).sum(1)
        density = earlier_step / step * cumulative.diff()
        ratio = density * 0.98 + 0.02
        log_normaliser = (smooth @ ratio).log().max()
        nats[i] = (counts @ ratio.log()) - counts.sum() * log_normaliser
    return nats


def _smooth_densities(multiples: Tensor) -> Tensor:
    """The probability of each multiple by a geometric and by a normal distribution [2, bins]."""
    bins = torch.arange(1.0, _LARGEST_MULTIPLE + 1, dtype=torch.float64)
    decay = 1 - 1 / float(multiples.mean().clamp(min=1.001))
    geometric = decay**bins
    mean_square = float(multiples.square().mean())
    normal = torch.exp(-bins.square() / (2 * mean_square))
    densities = torch.stack([geometric, normal])
    return densities / densities.sum(1, keepdim=True)
