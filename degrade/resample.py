"""Resampling: what Pillow's resize does to an image, and the average pooling a solver assumes.

Pillow weighs a window of the source whose support grows with the reduction, so that every filter
is antialiased; "nearest" alone picks single pixels. Both passes are matrices; 8-bit images get
Pillow's fixed-point arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import Operator, Shape, Window
from .params import Integer, Number, Range, decided, numbers, one_for_all
from .registry import register
from .rng import Rng
from .rows import row_by_row


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, far)


_HAMMING = torch.tensor([0.54, 0.46]).tolist()  # Pillow writes these two as float32
# name: (support, weight at distance t); Pillow's definitions
FILTERS = {
    "box": (0.5, lambda t: torch.ones_like(t)),
    "bilinear": (1.0, lambda t: 1 - t.abs()),
    "hamming": (1.0, lambda t: torch.sinc(t) * (_HAMMING[0] + _HAMMING[1] * torch.cos(math.pi * t))),
    "bicubic": (2.0, lambda t: _cubic(t.abs())),
    "lanczos": (3.0, lambda t: torch.sinc(t) * torch.sinc(t / 3)),
}
NAMES = (*FILTERS, "nearest")
ANY = ("bilinear", "bicubic", "lanczos")  # what the published benchmark draws from
_BITS = 22  # fractional bits of Pillow's fixed-point weights
_FAINT = 1e-3  # a part of the image whose weight is below this share of the largest counts as lost
_ROUNDS = 100  # of back-projection, at most; a few do where little is black or white
_BAND = 16  # outputs computed in one product: their windows overlap, and all else of the matrix is zero
_MOST_PIXELS = 2**26  # of a result: 1.6 GB in float64 with three channels
_MOST_WEIGHTS = 2**27  # of one axis' matrix: 1 GB


@lru_cache(maxsize=16)
def weights(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] of Pillow's resize along one axis, float64, rows summing to 1."""
    if size * out > _MOST_WEIGHTS:
        raise ValueError(f"resampling {size} pixels to {out} takes more memory than is sane; cut the image into tiles")
    support, weight = FILTERS[filter]
    scale = size / out
    stretch = max(scale, 1.0)
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * scale
    first = (centre - support * stretch + 0.5).trunc().clamp(min=0)  # C's (int) cast, then the edge
    last = (centre + support * stretch + 0.5).trunc().clamp(max=size)
    pixel = torch.arange(size, dtype=torch.float64)
    t = (pixel + 0.5 - centre[:, None]) / stretch
    inside = (pixel >= first[:, None]) & (pixel < last[:, None])
    # the box is half open and the others vanish at the support's end
    inside &= (t > -support) & (t <= support)
    matrix = torch.where(inside, weight(t), 0.0)
    return matrix / matrix.sum(1, keepdim=True)


@lru_cache(maxsize=64)
def nearest(size: int, out: int) -> Tensor:
    """The pixel [out] that Pillow's NEAREST picks along one axis: it adds up the step, rounding each time."""
    step = size / out
    return torch.tensor([int(at) for at in accumulate(repeat(step, out - 1), initial=step / 2)])


class _Resample(torch.autograd.Function):
    """rows · x · colsᵀ; 8-bit images in Pillow's fixed point. Gradient: the linear map's adjoint."""

    @staticmethod
    def forward(ctx, x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
        ctx.filter, ctx.sizes = filter, (x.shape[2:], size)
        (h, w), (oh, ow) = x.shape[2:], size
        if h > oh and h - oh > 2 * (w - ow):  # since Pillow 13; the first pass's rounding shows
            return _passes(x.mT, (ow, oh), filter).mT
        return _passes(x, size, filter)

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, cols = (weights(n, m, ctx.filter).to(grad.device) for n, m in zip(*ctx.sizes, strict=True))
        return (rows.mT @ grad.double() @ cols).to(grad), None, None


def _passes(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    """Along the last axis first, each image in the arithmetic of its kind."""
    eight_bit = _is_eight_bit(x)
    if eight_bit.all():
        return _fixed_point(x, size, filter)
    rows, cols = (weights(n, m, filter).to(x.device) for n, m in zip(x.shape[2:], size, strict=True))
    linear = (rows @ (x.double() @ cols.mT).to(x).double()).to(x)  # mode "F" stores float32 between
    return torch.where(eight_bit, _fixed_point(x, size, filter), linear) if eight_bit.any() else linear


def _is_eight_bit(x: Tensor) -> Tensor:
    """[B, 1, 1, 1]: whether each image holds nothing but k/255."""
    levels = (x * 255).flatten(1)
    low, high = levels.amin(1), levels.amax(1)
    off_grid = levels.sub_(levels.round()).abs_().amax(1)
    return ((off_grid < 1e-4) & (low > -0.5) & (high < 255.5)).view(-1, 1, 1, 1)


def _fixed_point(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    pixels = (x * 255).round_().double()
    for out in reversed(size):  # rounded to 8 bits between
        parts = [pixels[..., a:b] @ block for a, b, block in _bands(pixels.shape[3], out, filter, x.device)]
        pixels = torch.cat(parts, 3).add_(2.0 ** (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255).mT
    return pixels.to(x.dtype).div_(255)


@lru_cache(maxsize=16)
def _bands(size: int, out: int, filter: str, device: torch.device) -> list[tuple[int, int, Tensor]]:
    """The matrix in fixed point, a few outputs at a time: (first and last pixel used, weights [pixels, outputs])."""
    fixed = weights(size, out, filter) * 2.0**_BITS
    fixed = (fixed.abs() + 0.5).floor() * fixed.sign()
    bands = []
    for block in fixed.split(_BAND):
        used = block.any(0).nonzero()
        a, b = int(used[0]), int(used[-1]) + 1
        bands.append((a, b, block[:, a:b].mT.contiguous().to(device)))
    return bands


def resize(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    """x [B, C, H, W] resampled to `size` (h, w) as Pillow does."""
    if filter == "nearest":
        rows, cols = (nearest(n, m).to(x.device) for n, m in zip(x.shape[2:], size, strict=True))
        return x.index_select(2, rows).index_select(3, cols)
    return _Resample.apply(x, size, filter)


@lru_cache(maxsize=16)
def _axis(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] along one axis, float64, of a named filter, "nearest" or "pool"."""
    if filter == "nearest":
        return F.one_hot(nearest(size, out), size).double()
    if filter == "pool":
        return F.adaptive_avg_pool1d(torch.eye(size, dtype=torch.float64)[None], out)[0].mT
    return weights(size, out, filter)


@lru_cache(maxsize=16)
def _inverse(size: int, out: int, filter: str) -> Tensor:
    """The pseudo-inverse [size, out], without what the axis all but removes."""
    return torch.linalg.pinv(_axis(size, out, filter), rtol=_FAINT)


def back_project(x: Tensor, y: Tensor, filter: str) -> Tensor:
    """An image near x [B, C, H, W], in [0, 1], that resampling makes y [B, C, h, w] of.

    x + A⁺ (y - A x), the nearest, alternating with the clamp; of what was enlarged it is the least
    squares solution, whatever x is. Source: Irani & Peleg 1991, back-projection, here with the exact
    pseudo-inverse; the momentum that spares most rounds is Beck & Teboulle 2009, FISTA.
    """
    sizes = list(zip(x.shape[2:], y.shape[2:], strict=True))
    rows, cols = (_axis(n, m, filter).to(x.device) for n, m in sizes)
    up, across = (_inverse(n, m, filter).to(x.device) for n, m in sizes)
    target, ahead = y.double(), x.double()
    before = ahead
    for step in range(_ROUNDS):
        wanted = ahead + up @ (target - rows @ ahead @ cols.mT) @ across.mT
        near = wanted.clamp(0, 1)
        if (near - wanted).abs().max() < 1e-8:
            break
        ahead, before = near + step / (step + 3) * (near - before), near
    return near.to(x)


class Reduction(Operator):
    """Shared by what makes an image smaller by an integer factor: sides max(1, n // factor)."""

    linear = True
    factor: Integer

    def __post_init__(self):
        numbers(self, "factor", 1, 2**16, integer=True)
        one_for_all(self, "factor")

    def output_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        return (*shape[:2], *(max(1, n // factor) for n in shape[2:]))

    def input_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], *(n * self.factor for n in shape[2:]))

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return None if seen is None else F.adaptive_avg_pool2d(seen, self.output_shape(shape)[2:])


class Filtered(Operator):
    """Shared by what resamples to `output_shape` with a named filter, or one per image."""

    filter: str | Sequence[str]

    def _check_filter(self) -> None:
        many = isinstance(self.filter, (tuple, list))  # one per image, as `sample` draws them
        names = tuple(self.filter) if many else (self.filter,)
        wrong = [name for name in names if name not in NAMES]
        if self.filter != "any" and (wrong or not names):
            raise ValueError(f"filter={wrong[0] if wrong else ()!r} must be one of {', '.join(NAMES)}, any")
        object.__setattr__(self, "filter", names if len(names) > 1 else names[0])

    @property
    def linear(self) -> bool:
        return self.filter != "any"

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        return replace(self, filter=tuple(ANY[i] for i in rng.integers(len(ANY)))) if self.filter == "any" else self

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = self.output_shape(x.shape)[2:]
        if isinstance(self.filter, str):
            return resize(x, size, self.filter)
        return row_by_row(lambda row, name: resize(row, size, name), x, filter=self.filter)

    def reach(self, shape: Shape) -> float:
        out = self.output_shape(shape)
        widest = max(support for support, _ in FILTERS.values())
        return widest * max(1.0, *(n / m for n, m in zip(shape[2:], out[2:], strict=True)))

    @property
    def certain(self) -> bool:
        return self.filter != "any" and super().certain

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return back_project(x, y, self.filter)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        size = self.output_shape(shape)[2:]
        return resize(seen, size, "nearest") if self.filter == "nearest" else F.adaptive_avg_pool2d(seen, size)


@register("downsample", exact="Pillow's resize", gradient="adjoint")
class Downsample(Filtered, Reduction):
    """Make an image smaller by `factor` as PIL.Image.resize does, antialiased.

    An image that holds only k/255 gets Pillow's 8-bit arithmetic bit for bit, any other Pillow's
    float arithmetic (mode "F"). factor: integer ≥ 1. filter: bicubic, bilinear, box, hamming,
    lanczos, nearest, or "any": one of bilinear, bicubic and lanczos, drawn for each image. Output
    sides max(1, n // factor). Gradient: the adjoint of the linear filter. `approx()` is average
    pooling: a solver does not know the filter. `project`: the least change that gives y, in float
    arithmetic and within [0, 1]; saved with 8 bits, it gives y to a level or two.
    """

    factor: Integer
    filter: str | Sequence[str] = "bicubic"

    def __post_init__(self):
        super().__post_init__()
        self._check_filter()

    def approx(self) -> Operator:
        return Pool(self.factor)


@register("resize", exact="Pillow's resize", gradient="adjoint")
class Resize(Filtered):
    """Resample an image to `size`, or by `scale`, as PIL.Image.resize does, antialiased.

    Values, gradient and `project` as `downsample`. size: one side for a square, or (h, w), written 40x60 or
    40|60; at most 2^26 pixels. scale: above 0 to 64, for sides max(1, round(scale·n)), half to
    even. filter: as `downsample`.

    `approx()` is itself where the filter is named, also by `sample`: who names one knows it. Of
    "any" it is bicubic, the middle of the three: over photos reduced by 1.6, 4 and 16 and enlarged
    by 1.5 and 4, its mean and its worst distance to them are smaller than those of pooling or of
    any other filter.
    """

    size: Integer | tuple[int, int] | None = None
    scale: Number | None = None
    filter: str | Sequence[str] = "bicubic"
    whole = ("size",)

    def __post_init__(self):
        if (self.size is None) == (self.scale is None):
            raise ValueError("give either size or scale, as in resize:40 or resize:scale=0.5")
        if self.scale is not None:
            numbers(self, "scale", 0, 64, above=True)
            one_for_all(self, "scale")
        else:
            self._check_size()
        self._check_filter()

    def _check_size(self) -> None:
        given = self.size
        if isinstance(given, str):  # "40x60"
            sides = given.split("x")
            object.__setattr__(self, "size", tuple(int(s) if s.isdecimal() else s for s in sides))
        numbers(self, "size", 1, 2**16, integer=True)
        if isinstance(self.size, tuple):
            if len(self.size) != 2:
                raise ValueError(f"size={given!r} has {len(self.size)} sides; give one for a square, or (h, w)")
            if self.size[0] == self.size[1]:
                object.__setattr__(self, "size", self.size[0])
        if not isinstance(self.size, Range):
            self.output_shape((1, 1, 1, 1))  # refuses too many pixels

    def output_shape(self, shape: Shape) -> Shape:
        if self.size is None:
            scale = decided(self.scale)
            size = tuple(max(1, round(scale * n)) for n in shape[2:])
        else:
            size = self.size if isinstance(self.size, tuple) else (decided(self.size),) * 2
        if size[0] * size[1] > _MOST_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} is more than {_MOST_PIXELS} pixels; give a smaller size")
        return (*shape[:2], *size)

    def input_shape(self, shape: Shape) -> Shape:
        scale = 1 if self.scale is None else self.scale
        return (*shape[:2], *(max(1, round(n / scale)) for n in shape[2:]))

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        found = super().cut(shape, window)
        if found is None:
            return None
        size = tuple(span.stop - span.start for span in found[1])
        return replace(self, size=size, scale=None), found[1]

    def approx(self) -> Operator:
        return replace(self, filter="bicubic") if self.filter == "any" else self


@register("pool", exact="mean of each cell", gradient="adjoint")
class Pool(Reduction):
    """Average pooling by `factor`, what a solver assumes of an unknown reduction.

    factor: integer ≥ 1. Output sides max(1, n // factor); sides that do not divide are cut into
    bins that differ by at most a pixel. Gradient: its own, the adjoint. `project` as `downsample`.
    """

    factor: Integer
    local = True  # of whole cells

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_shape(x.shape)[2:])

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return back_project(x, y, "pool")
