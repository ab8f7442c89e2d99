"""What blocks of pixels tell of their past: combs that a JPEG left, noise, an interpolation's grid.

Planes are float64 [H, W] on levels 0 to 255, centred where it matters; coefficients are of the
orthonormal 8×8 DCT, row by row. Only a fixed number of blocks and lines is looked at, evenly spread
or the liveliest, never drawn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .jpeg_header import quality_tables
from .jpeg_stages import M
from .resample import FILTERS

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
TABLES = quality_tables(torch.arange(1.0, 101))[:, 0].flatten(1).double()  # luma's, of qualities 1 to 100
_DCT = M.double() / (2**13 * math.sqrt(8))
_ROUNDED = 0.4  # deviation of a coefficient whose pixels were rounded to 8 bits
ORDER = sorted(range(1, 64), key=lambda i: i // 8 + i % 8)  # low frequencies first, without the mean
_STRAY = math.log(0.02)  # what a coefficient off the comb costs: clipped blocks and retouches are no proof against it


def coefficients(blocks: Tensor) -> Tensor:
    """[..., 8, 8] pixels → [..., 64]."""
    return (_DCT @ blocks @ _DCT.T).flatten(-2)


def blocks_of(plane: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
    """The 8×8 blocks [rows, columns, 8, 8] of the grid whose first corner is (dy, dx), the whole ones."""
    h, w = ((n - d) // 8 * 8 for n, d in zip(plane.shape, (dy, dx), strict=True))
    h, w = max(h, 0), max(w, 0)
    return plane[dy : dy + h, dx : dx + w].unflatten(0, (h // 8, 8)).unflatten(2, (w // 8, 8)).transpose(1, 2)


# An earlier JPEG ----------------------------------------------------------------------------------


class Comb(NamedTuple):
    """A JPEG's grid and quality, with how many nats its comb explains better than anything smooth."""

    dy: int
    dx: int
    quality: int
    nats: float
    margin: float  # nats above the best of another grid, or of another quality on its own


def shifted_comb(luma: Tensor, clipped: Tensor, skip_own: bool) -> Comb | None:
    """The grid and standard luma table whose multiples the coefficients cluster at; None where too little lives.

    Every coefficient outside a comb's first bin counts log(q φ(r/s)/s), with r its distance to the
    nearest multiple of q: the likelihood of a comb blurred by s against that of anything smooth.
    After Fan & de Queiroz 2003 and Neelamani et al. 2006, with the 64 grids of Luo et al. 2007.
    """
    patches = _liveliest(luma, clipped, 2000)
    if patches is None:
        return None
    few = patches[:: max(1, len(patches) // 250)]
    grids = coefficients(few.unfold(1, 8, 1).unfold(2, 8, 1)).transpose(0, 2).flatten(0, 1)  # [dx·dy, n, 64]
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
    """[n, 15, 15]: patches that hold a block of every grid, those with most contrast, none clipped."""
    if min(luma.shape) < 15:
        return None
    step = 8 * max(1, math.isqrt(luma.numel() // (64 * 4 * most)))
    spots = luma.unfold(0, 15, step).unfold(1, 15, step).flatten(0, 1)
    free = ~clipped.unfold(0, 15, step).unfold(1, 15, step).flatten(0, 1).flatten(1).any(1)
    spots = spots[free]
    contrast = spots.flatten(1).var(1)
    order = contrast.argsort(descending=True, stable=True)[:most]
    order = order[contrast[order] > 1]
    return spots[order] if len(order) else None


def comb_nats(c: Tensor, tables: Tensor, frequencies: list[int], blurs: tuple[float, ...]) -> Tensor:
    """[blurs, grids, tables] of coefficients [grids, n, 64] and tables [n, 64]."""
    total = c.new_zeros(len(blurs), len(c), len(tables))
    for f in frequencies:
        steps, which = tables[:, f].unique(return_inverse=True)
        q = steps.float()[:, None, None]
        multiple = (c[..., f].float() / q).round()
        off, first = (c[..., f].float() - q * multiple).square_(), multiple == 0
        for i, s in enumerate(blurs):
            nats = (off * (-0.5 / s**2)).add_((q / (s * math.sqrt(2 * math.pi))).log()).clamp_(min=_STRAY)
            each = nats.sub_(nats.clamp(min=0).mul_(first)).sum(2)  # [steps, grids]
            total[i] += each.T.double()[:, which]
    return total


def aligned_comb(c: Tensor, own: Tensor) -> Comb | None:
    """The quality of a JPEG before the last one, on its grid, from the last one's coefficients [n, 64].

    own: the last table [64]. Multiples of an earlier step, rounded to multiples of the last, leave
    bins empty or doubled (Popescu & Farid 2004). Against this stands a smooth law, geometric or
    normal, whichever likes those bins better; since no picture keeps either, a fourth of the
    evidence counts. Only steps larger than the last are looked for: smaller ones leave too little.
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
        smooth = torch.stack([decay**bins, torch.exp(-bins.square() / (2 * float(live.square().mean())))])
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
    return Comb(0, 0, quality + 1, float(total[quality]) / 4, float(total[quality] - total[far].max().clamp(min=0)) / 4)


# Noise --------------------------------------------------------------------------------------------

_RING = torch.tensor([i // 8 + i % 8 for i in range(64)])
_BANDS = (range(3, 5), range(5, 7), range(7, 9), range(9, 11), range(11, 15))


class Grain(NamedTuple):
    """Noise in the flattest blocks of one brightness: its variance in the quietest bands of frequencies."""

    level: float
    variance: float
    weight: float  # in coefficients whose magnitude is known exactly
    white: float  # share of the bands that are as quiet: 1 for noise, less for texture
    bands: int  # how many could be measured
    tails: float  # coefficients above twice the deviation, over those of a normal law: 1 for noise, more for texture


def grains(c: Tensor, steps: Tensor, level: Tensor) -> tuple[list[Grain], float]:
    """Of blocks with coefficients [n, 64] known as multiples of `steps` [64], one for each of up to 8 bins of
    their `level` [n]; and the share of the bins that have one. Blocks are chosen by their low
    frequencies and judged by the others, so that the choice does not bias what is measured."""
    low, found = (_RING > 0) & (_RING <= 2), []
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
            variance, tails = (sum(band[i] * band[1] for band in alike) / weight for i in (0, 2))
            found.append(Grain(float(level[flat].mean()), variance, weight, len(alike) / len(bands), len(bands), tails))
    return found, len(found) / bins


def _band(c: Tensor, steps: Tensor, ring: range) -> tuple[float, float, float]:
    """(variance, weight, tails) over the frequencies of a ring that the quantiser leaves visible."""
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
    """(variance, weight) of normal coefficients known as multiples of q: their share within a whole number of steps.

    The median of their magnitude, as it were, that a quantiser allows: P(|c| < (j + ½) q) = 2Φ - 1.
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
    """variance = slope · level + base, as the lower edge of the grains has it; slope ≥ 0."""

    slope: float
    base: float
    spread: float  # how far, relatively, the variances lie from it

    def at(self, level: float) -> float:
        return self.slope * level + self.base


def law(found: list[Grain]) -> Law:
    """Sloped only where that explains the grains far better: Poisson noise (Foi et al. 2008)."""
    x, v, w = (torch.tensor([g[i] for g in found], dtype=torch.float64) for i in range(3))
    one = torch.ones_like(x)
    (base,), at, worse = _lower_edge(one[:, None], v, w)
    slope = 0.0
    if len(x) > 3:
        line, sloped, better = _lower_edge(torch.stack([x, one], 1), v, w)
        if line[0] > 0 and line[1] < 0:
            line, sloped, better = _lower_edge(x[:, None], v, w)
        if line[0] > 0 and worse - better > 12 and sloped.max() > 1.5 * sloped.min() and _off(sloped, v, w) < 0.3:
            at, (slope, base) = sloped, (line if len(line) > 1 else (line[0], 0.0))
    return Law(float(slope), float(base), _off(at, v, w))


def _off(at: Tensor, v: Tensor, w: Tensor) -> float:
    return float(((v / at - 1).abs() * w).sum() / w.sum())


def _lower_edge(basis: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, float]:
    """(coefficients, fit, ½χ²) of v on `basis`, what lies above at less weight: texture only adds."""
    at = v
    for _ in range(20):
        weight = w / at.square() * torch.where(v > at, 0.4, 1.0)
        matrix = (basis * weight[:, None]).T @ basis + 1e-12 * torch.eye(basis.shape[1], dtype=v.dtype)
        value = torch.linalg.solve(matrix, (basis * weight[:, None]).T @ v)
        at = (basis @ value).clamp(min=float(v.min()) / 4)
    return value, at, float((w * (v / at - 1).square() * torch.where(v > at, 0.4, 1.0)).sum() / 4)


# Enlargement --------------------------------------------------------------------------------------

SPAN = 96  # pixels of a line that are looked at together
_KERNELS = ("bilinear", "bicubic", "lanczos")
_MOCKS = (8 / 6, 8 / 5)  # what a JPEG's blocks pass for


class Lattice(NamedTuple):
    """An enlargement by `factor` with Pillow's `filter`: how much better its best phase fits than the others,
    and how far that stands out among other factors."""

    factor: float
    filter: str
    contrast: float
    margin: float


def lattice(plane: Tensor, compressed: bool) -> Lattice | None:
    """The factor whose interpolated lines the lines of a picture are nearest to; None for small pictures.

    Lines enlarged by k with a known kernel lie in a space of about SPAN/k dimensions, which moves
    with the phase of the small grid. What is left outside it is averaged over the dimensions left;
    only in an enlarged picture does that depend on the phase. compressed: it went through a JPEG.
    """
    products = [p for p in (_products(plane), _products(plane.T)) if p is not None]
    if not products:
        return None
    factors = [1.25]
    while factors[-1] < 8.2:
        factors.append(factors[-1] * (1 + 0.4 * factors[-1] / SPAN))
    if compressed:
        factors = [k for k in factors if all(abs(k / mock - 1) > 0.03 for mock in _MOCKS)]
    scan = torch.tensor([[_contrast(products, k, name) for k in factors] for name in _KERNELS[:2]]).amax(0)
    at, ks = int(scan.argmax()), torch.tensor(factors)
    others = scan[(ks / ks[at]).log().abs() > 0.08]
    near = [factors[at] * (1 + 0.05 * i * factors[at] / SPAN) for i in range(-8, 9)]
    contrast, k, name = max((_contrast(products, k, name), k, name) for k in near for name in _KERNELS)
    return Lattice(k, name, contrast, float(scan[at] / others.quantile(0.9)))


def _contrast(products: list[Tensor], k: float, name: str) -> float:
    left = _left(torch.stack(products), k, name, max(4, 2 * round(k)))
    return float((left.mean(1).log() - left.amin(1).log()).mean())


def _products(plane: Tensor) -> Tensor | None:
    """Σ x xᵀ [SPAN, SPAN] of the middle of the rows, each weighed so that edges do not outvote the rest."""
    if plane.shape[1] < SPAN or plane.shape[0] < 32:
        return None
    at = (plane.shape[1] - SPAN) // 2
    x = plane[:: max(1, plane.shape[0] // 1024), at : at + SPAN]
    rough = x.diff(n=2, dim=1).square().mean(1)
    x = x[rough > 0.1] / (rough[rough > 0.1] + 1).sqrt()[:, None]
    return x.T @ x if len(x) >= 32 else None


def _left(products: Tensor, k: float, name: str, phases: int) -> Tensor:
    """[axes, phases]: what of products [axes, SPAN, SPAN] lies outside the lines enlarged by k, for each
    dimension outside."""
    support, weight = FILTERS[name]
    start = torch.arange(phases, dtype=torch.float64)[:, None, None] / phases
    at = torch.arange(SPAN, dtype=torch.float64)[:, None] / k
    knot = torch.arange(-math.ceil(support), math.ceil(SPAN / k + support) + 1, dtype=torch.float64)
    t = at + start - knot
    basis = torch.where(t.abs() < support, weight(t), 0.0)
    gram = basis.mT @ basis + 1e-9 * torch.eye(len(knot), dtype=torch.float64)
    inside = basis @ torch.linalg.solve(gram, basis.mT)  # the projection [phases, SPAN, SPAN]
    total = products.diagonal(dim1=1, dim2=2).sum(1)[:, None]
    left = (total - torch.einsum("pij,aij->ap", inside, products)).clamp(min=1e-6)
    return left / max(1.0, SPAN - SPAN / k - 2 * support)
