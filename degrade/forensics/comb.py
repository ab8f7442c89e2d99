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


class Comb(NamedTuple):
    """A JPEG's grid and quality; nats: its comb's log likelihood minus a smooth density's."""

    dy: int
    dx: int
    quality: int
    nats: float
    margin: float  # nats above the best of another grid, or of another quality on its own


def shifted_comb(luma: Tensor, clipped: Tensor, skip_own: bool) -> Comb | None:
    """Find the grid and quality whose multiples of steps the coefficients cluster at.

    None if too few blocks have contrast. skip_own: leave out the grid that starts at (0, 0).

    Every coefficient that does not round to 0 adds log(q φ(r/s)/s), with φ the normal density, q
    the step, and r the distance to the nearest multiple of q: the log likelihood of multiples of q
    blurred by s, against that of a smooth density.
    After Fan & de Queiroz 2003 and Neelamani et al. 2006, with the 64 grids of Luo et al. 2007.
    """
    patches = _liveliest(luma, clipped, 2000)
    if patches is None:
        return None
    few = patches[:: max(1, len(patches) // 250)]
    blocks = few.unfold(1, 8, 1).unfold(2, 8, 1)
    grids = coefficients(blocks).transpose(0, 2).flatten(0, 1)  # [dx·dy, n, 64]
    grids = grids.unflatten(0, (8, 8)).transpose(0, 1).flatten(0, 1)
    nats = comb_nats(grids, TABLES, ORDER[:12], (0.35, 0.9, 2.3))  # [blurs, grids, qualities]
    if skip_own:
        nats[:, 0] = -math.inf
    each = nats.amax((0, 2))
    best = int(each.argmax())
    margin = float(each[best] - each[torch.arange(64) != best].amax().clamp(min=0))
    dy, dx = divmod(best, 8)
    own = coefficients(patches[:, dy : dy + 8, dx : dx + 8])[None]
    fine = comb_nats(own, TABLES, ORDER[:24], (0.3, 0.5, 0.8, 1.3, 2.1, 3.4))[:, 0].amax(0)
    quality = int(fine.argmax())
    return Comb(dy, dx, quality + 1, float(fine[quality]), margin)


def _liveliest(luma: Tensor, clipped: Tensor, most: int) -> Tensor | None:
    """Patches [n, 15, 15] with most contrast, none clipped; each holds a block of every grid."""
    if min(luma.shape) < 15:
        return None
    step = 8 * max(1, math.isqrt(luma.numel() // (64 * 4 * most)))
    spots = luma.unfold(0, 15, step).unfold(1, 15, step).flatten(0, 1)
    free = ~clipped.unfold(0, 15, step).unfold(1, 15, step).flatten(0, 1).flatten(1).any(1)
    spots = spots[free]
    if not len(spots):
        return None
    contrast = spots.flatten(1).var(1)
    order = contrast.argsort(descending=True, stable=True)[:most]
    order = order[contrast[order] > 1]
    return spots[order] if len(order) else None


def comb_nats(
    c: Tensor, tables: Tensor, frequencies: list[int], blurs: tuple[float, ...]
) -> Tensor:
    """Nats [blurs, grids, tables] of coefficients [grids, n, 64] and tables [n, 64]."""
    total = c.new_zeros(len(blurs), len(c), len(tables))
    for f in frequencies:
        steps, which = tables[:, f].unique(return_inverse=True)
        q = steps.float()[:, None, None]
        multiple = (c[..., f].float() / q).round()
        off, first = (c[..., f].float() - q * multiple).square_(), multiple == 0
        for i, s in enumerate(blurs):
            nats = (
                (off * (-0.5 / s**2))
                .add_((q / (s * math.sqrt(2 * math.pi))).log())
                .clamp_(min=_STRAY)
            )
            each = nats.sub_(nats.clamp(min=0).mul_(first)).sum(2)  # [steps, grids]
            total[i] += each.T.double()[:, which]
    return total


def aligned_comb(c: Tensor, own: Tensor) -> Comb | None:
    """The quality of a JPEG before the last one, on the same grid.

    c: the last JPEG's coefficients [n, 64]. own: the last table [64].

    Multiples of an earlier step, rounded to multiples of the last, leave bins empty or doubled
    (Popescu & Farid 2004). The alternative is a smooth distribution, geometric or normal, whichever
    fits better. No picture follows either exactly, so only a fourth of the evidence counts. Only
    steps larger than the last are tried: smaller ones leave too little.
    """
    total = c.new_zeros(len(TABLES))
    for f in ORDER[:20]:
        q = float(own[f])
        m = (c[:, f] / q).round().abs()
        live = m[m > 0].clamp(max=200)
        if len(live) < 20:
            continue
        count = torch.bincount(live.long(), minlength=201)[1:].double()
        bins = torch.arange(1.0, 201, dtype=torch.float64)
        decay = 1 - 1 / float(live.mean().clamp(min=1.001))
        smooth = torch.stack(
            [decay**bins, torch.exp(-bins.square() / (2 * float(live.square().mean())))]
        )
        smooth /= smooth.sum(1, keepdim=True)
        steps, which = TABLES[:, f].unique(return_inverse=True)
        tooth = torch.arange(1, 2000, dtype=torch.float64)[:, None] * steps  # [k, steps]
        edges = (torch.arange(201, dtype=torch.float64) + 0.5) * q
        nats = c.new_zeros(len(steps))
        for i in (steps > 1.15 * q).nonzero().flatten().tolist():
            near = tooth[: int(edges[-1] / steps[i]) + 2, i]
            cumulative = torch.special.ndtr((edges[:, None] - near) / _ROUNDED).sum(1)
            ratio = steps[i] / q * cumulative.diff() * 0.98 + 0.02
            nats[i] = (count @ ratio.log()) - count.sum() * (smooth @ ratio).log().max()
        total += nats[which]
    quality = int(total.argmax())
    far = (torch.arange(len(total)) - quality).abs() > 5  # neighbours have many steps in common
    return Comb(
        0,
        0,
        quality + 1,
        float(total[quality]) / 4,
        float(total[quality] - total[far].max().clamp(min=0)) / 4,
    )
