"""What Pillow's resize does to an image, and the image near another one that it makes a given one of.

Pillow weighs a window of the source whose support grows with the reduction, so that every filter
is antialiased; "nearest" alone picks single pixels. Both passes are matrices; 8-bit images get
Pillow's fixed-point arithmetic.
"""

from __future__ import annotations

import math
from itertools import accumulate, repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .transforms import fold, unfold


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, far)


_HAMMING = torch.tensor(
    [0.54, 0.46], dtype=torch.float32, device="cpu"
).tolist()  # Pillow writes these two as float32
# name: (support, weight at distance t); Pillow's definitions
FILTERS = {
    "box": (0.5, lambda t: torch.ones_like(t)),
    "bilinear": (1.0, lambda t: 1 - t.abs()),
    "hamming": (
        1.0,
        lambda t: torch.sinc(t) * (_HAMMING[0] + _HAMMING[1] * torch.cos(math.pi * t)),
    ),
    "bicubic": (2.0, lambda t: _cubic(t.abs())),
    "lanczos": (3.0, lambda t: torch.sinc(t) * torch.sinc(t / 3)),
}
_BITS = 22  # fractional bits of Pillow's fixed-point weights
_FAINT = 1e-3  # a part of the image whose weight is below this share of the largest counts as lost
_ROUNDS = 100  # of back-projection, at most; a few do where little is black or white
_BAND = (
    16  # outputs computed in one product: their windows overlap, and all else of the matrix is zero
)
_MOST_WEIGHTS = 2**27  # of one axis' matrix: 1 GB


@cached_constant(maxsize=16)
def weights(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] of Pillow's resize along one axis, float64, rows summing to 1."""
    if size * out > _MOST_WEIGHTS:
        raise ValueError(
            f"resampling {size} pixels to {out} takes more memory than is sane; cut the image into tiles"
        )
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


@cached_constant(maxsize=64)
def nearest(size: int, out: int) -> Tensor:
    """The pixel [out] that Pillow's NEAREST picks along one axis: it adds up the step, rounding each time."""
    step = size / out
    return torch.tensor([int(at) for at in accumulate(repeat(step, out - 1), initial=step / 2)])


class _Resample(torch.autograd.Function):
    """rows · x · colsᵀ; 8-bit images in Pillow's fixed point. Gradient: the linear map's adjoint."""

    @staticmethod
    def forward(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
        (h, w), (oh, ow) = x.shape[2:], size
        if h > oh and h - oh > 2 * (w - ow):  # since Pillow 13; the first pass's rounding shows
            turned = _passes(x.mT, (ow, oh), filter).mT
            return turned.clone(memory_format=torch.contiguous_format)  # may be changed in place
        return _passes(x, size, filter)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, size, ctx.filter = inputs
        ctx.sizes = (x.shape[2:], size)

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int, None, None], x: Tensor, size: tuple[int, int], filter: str
    ) -> tuple[Tensor, int]:
        resized = _Resample.apply(fold(x, dims[0], info.batch_size), size, filter)
        return unfold(resized, info.batch_size), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, cols = (
            weights(n, m, ctx.filter).to(grad.device) for n, m in zip(*ctx.sizes, strict=True)
        )
        return (rows.mT @ grad.double() @ cols).to(grad), None, None


def _passes(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    """Along the last axis first, each image in the arithmetic of its kind."""
    eight_bit = _is_eight_bit(x)
    compiling = torch.compiler.is_compiling()  # a graph cannot branch on values: it computes both
    if not compiling and eight_bit.all():
        return _fixed_point(x, size, filter)
    rows, cols = (
        weights(n, m, filter).to(x.device) for n, m in zip(x.shape[2:], size, strict=True)
    )
    linear = (rows @ (x.double() @ cols.mT).to(x).double()).to(x)  # mode "F" stores float32 between
    if not compiling and not eight_bit.any():
        return linear
    return torch.where(eight_bit, _fixed_point(x, size, filter), linear)


def _is_eight_bit(x: Tensor) -> Tensor:
    """[B, 1, 1, 1]: whether each image holds nothing but k/255."""
    levels = (x * 255).flatten(1)
    low, high = levels.amin(1), levels.amax(1)
    off_grid = levels.sub_(levels.round()).abs_().amax(1)
    return ((off_grid < 1e-4) & (low > -0.5) & (high < 255.5)).view(-1, 1, 1, 1)


def _fixed_point(x: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    pixels = (x * 255).round_().double()
    for out in reversed(size):  # rounded to 8 bits between
        parts = [
            pixels[..., a:b] @ block
            for a, b, block in _bands(pixels.shape[3], out, filter, x.device)
        ]
        pixels = (
            torch.cat(parts, 3)
            .add_(2.0 ** (_BITS - 1))
            .mul_(2.0**-_BITS)
            .floor_()
            .clamp_(0, 255)
            .mT
        )
    return pixels.to(x.dtype).div_(255)


@cached_constant(maxsize=16)
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


@cached_constant(maxsize=16)
def _axis(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] along one axis, float64, of a named filter, "nearest" or "pool"."""
    if filter == "nearest":
        return F.one_hot(nearest(size, out), size).double()
    if filter == "pool":
        return F.adaptive_avg_pool1d(torch.eye(size, dtype=torch.float64)[None], out)[0].mT
    return weights(size, out, filter)


@cached_constant(maxsize=16)
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
