"""Resampling: what Pillow's resize does to an image, and the average pooling a solver assumes.

Pillow weighs a window of the source whose support grows with the reduction, so that every filter
is antialiased. Both passes are matrices; 8-bit images get Pillow's fixed-point arithmetic.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import Operator, Shape, register
from .params import numbers
from .rng import Rng


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
ANY = ("bilinear", "bicubic", "lanczos")  # what the published benchmark draws from
_BITS = 22  # fractional bits of Pillow's fixed-point weights


@lru_cache(maxsize=64)
def weights(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] of Pillow's resize along one axis, float64, rows summing to 1."""
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


class _Resample(torch.autograd.Function):
    """rows · x · colsᵀ; 8-bit images in Pillow's fixed point. Gradient: the linear map's adjoint."""

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        ctx.save_for_backward(rows, cols)
        (oh, h), (ow, w) = rows.shape, cols.shape
        if h > oh and h - oh > 2 * (w - ow):  # since Pillow 13; the first pass's rounding shows
            return _passes(x.mT, cols, rows).mT
        return _passes(x, rows, cols)

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, cols = ctx.saved_tensors
        return (rows.mT @ grad.double() @ cols).to(grad), None, None


def _passes(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Along the last axis first, each image in the arithmetic of its kind."""
    eight_bit = _is_eight_bit(x)
    if eight_bit.all():
        return _fixed_point(x, rows, cols)
    linear = (rows @ (x.double() @ cols.mT).to(x).double()).to(x)  # mode "F" stores float32 between
    return torch.where(eight_bit, _fixed_point(x, rows, cols), linear) if eight_bit.any() else linear


def _is_eight_bit(x: Tensor) -> Tensor:
    """[B, 1, 1, 1]: whether each image holds nothing but k/255."""
    levels = x * 255
    on_grid = ((levels - levels.round()).abs() < 1e-4) & (levels > -0.5) & (levels < 255.5)
    return on_grid.flatten(1).all(1).view(-1, 1, 1, 1)


def _fixed_point(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    pixels = (x.double() * 255).round()
    for matrix in (cols, rows):  # rounded to 8 bits between
        fixed = matrix * 2.0**_BITS
        fixed = fixed.abs().add(0.5).floor() * fixed.sign()
        pixels = ((pixels @ fixed.mT + 2.0 ** (_BITS - 1)) / 2.0**_BITS).floor().clamp(0, 255).mT
    return (pixels / 255).to(x)


def resize(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    """x [B, C, H, W] resampled to `size` (h, w) as Pillow does."""
    rows, cols = (weights(n, m, filter).to(x.device) for n, m in zip(x.shape[2:], size, strict=True))
    return _Resample.apply(x, rows, cols)


class Reduction(Operator):
    """Shared by what makes an image smaller by an integer factor: sides max(1, n // factor)."""

    linear = True
    factor: int

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], *(max(1, n // self.factor) for n in shape[2:]))

    def input_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], *(n * self.factor for n in shape[2:]))

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return None if seen is None else F.adaptive_avg_pool2d(seen, self.output_shape(shape)[2:])


@register("downsample")
class Downsample(Reduction):
    """Make an image smaller by `factor` as PIL.Image.resize does, antialiased.

    An image that holds only k/255 gets Pillow's 8-bit arithmetic bit for bit, any other Pillow's
    float arithmetic (mode "F"). factor: integer ≥ 1. filter: bicubic, bilinear, box, hamming,
    lanczos, or "any": one of bilinear, bicubic and lanczos, drawn for each image. Output sides
    max(1, n // factor). Gradient: the adjoint of the linear filter. `approx()` is average pooling:
    a solver does not know the filter.
    """

    factor: int
    filter: str | tuple[str, ...] = "bicubic"

    def __post_init__(self):
        numbers(self, "factor", 1, 2**16, integer=True)
        if isinstance(self.filter, (tuple, list)):  # one per image, as `sample` draws them
            names = tuple(self.filter)
            object.__setattr__(self, "filter", names[0] if len(names) == 1 else names)
        for name in self.filter if isinstance(self.filter, tuple) else (self.filter,):
            if name not in FILTERS and name != "any":
                raise ValueError(f"filter={name!r} must be one of {', '.join(FILTERS)}, any")

    @property
    def linear(self) -> bool:
        return "any" not in (self.filter if isinstance(self.filter, tuple) else (self.filter,))

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.filter != "any":
            return self
        return Downsample(self.factor, tuple(ANY[i] for i in rng.integers(len(ANY))))

    def approx(self) -> Operator:
        return Pool(self.factor)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = self.output_shape(x.shape)[2:]
        if isinstance(self.filter, str):
            return resize(x, size, self.filter)
        if len(self.filter) != len(x):
            raise ValueError(f"filter has {len(self.filter)} names for {len(x)} images; give one, or one per image")
        return torch.cat([resize(x[i : i + 1], size, name) for i, name in enumerate(self.filter)])


@register("pool")
class Pool(Reduction):
    """Average pooling by `factor`, what a solver assumes of an unknown reduction.

    factor: integer ≥ 1. Output sides max(1, n // factor); sides that do not divide are cut into
    bins that differ by at most a pixel. Gradient: its own, the adjoint.
    """

    factor: int

    def __post_init__(self):
        numbers(self, "factor", 1, 2**16, integer=True)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_shape(x.shape)[2:])
