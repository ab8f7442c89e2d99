"""Pillow's resize as matrices, and the image near another one that it turns into a given image.

Pillow weighs a window of source pixels that grows with the reduction, so every filter is
antialiased; only "nearest" picks single pixels. Images of 8 bits get Pillow's fixed-point
arithmetic, other images its float arithmetic. On the CPU, Pillow's own library does the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import interpolation, pillow_library
from .constants import cached_constant
from .pillow_library import Size, begins_with_rows
from .transforms import fold, is_differentiated, is_transformed, unfold

Weight = Callable[[Tensor], Tensor]  # of a pixel at a distance
Band = tuple[int, int, Tensor]  # first pixel, last pixel + 1, weights [pixels, outputs]

# Pillow stores these two coefficients as float32
_STORED = torch.tensor([0.54, 0.46], dtype=torch.float32, device="cpu")
_HAMMING_MEAN: float = _STORED[0].item()
_HAMMING_WAVE: float = _STORED[1].item()


def _box(t: Tensor) -> Tensor:
    return torch.ones_like(t)


def _triangle(t: Tensor) -> Tensor:
    return 1 - t.abs()


def _hamming(t: Tensor) -> Tensor:
    wave = torch.cos(math.pi * t)
    window = _HAMMING_MEAN + _HAMMING_WAVE * wave
    return torch.sinc(t) * window


def _cubic(t: Tensor, a: float = -0.5) -> Tensor:
    x = t.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, far)


def _lanczos(t: Tensor) -> Tensor:
    window = torch.sinc(t / 3)
    return torch.sinc(t) * window


# name: (support, weight at distance t), as Pillow defines them
FILTERS: dict[str, tuple[float, Weight]] = {
    "box": (0.5, _box),
    "bilinear": (1.0, _triangle),
    "hamming": (1.0, _hamming),
    "bicubic": (2.0, _cubic),
    "lanczos": (3.0, _lanczos),
}
_BITS = 22  # fractional bits of Pillow's fixed-point weights
_FAINT = 1e-3  # singular values below this share of the largest count as zero
_ROUNDS = 100  # of back-projection, at most; a few do where little is black or white
_BAND = 16  # outputs per matrix product: their windows overlap, the rest of the matrix is zero
_MOST_WEIGHTS = 2**27  # entries of one axis' matrix, 1 GB


def _check_memory(size: int, out: int) -> None:
    """Raise ValueError if the matrix of one axis, which every gradient needs, is too large."""
    if size * out > _MOST_WEIGHTS:
        raise ValueError(
            f"resampling {size} pixels to {out} takes too much memory; cut the image into tiles"
        )


@cached_constant(maxsize=16)
def weights(size: int, out: int, filter: str) -> Tensor:
    """The matrix [out, size] of Pillow's resize along one axis, float64; each row sums to 1."""
    _check_memory(size, out)
    support, weight = FILTERS[filter]
    scale = size / out
    stretch = max(scale, 1.0)
    outputs = torch.arange(out, dtype=torch.float64)
    centres = (outputs + 0.5) * scale
    centre = centres[:, None]
    # the window of each output, rounded by C's (int) cast and cut at the edges of the image
    half_window = support * stretch
    start = centre - half_window
    first = (start + 0.5).trunc()
    first = first.clamp(min=0)
    stop = centre + half_window
    end = (stop + 0.5).trunc()
    end = end.clamp(max=size)
    pixel = torch.arange(size, dtype=torch.float64)
    t = (pixel + 0.5 - centre) / stretch
    in_window = (pixel >= first) & (pixel < end)
    # the box is half open, and the other filters are zero at the end of their support
    in_support = (t > -support) & (t <= support)
    counts = in_window & in_support
    weights_of_window = weight(t)
    matrix = torch.where(counts, weights_of_window, 0.0)
    sums = matrix.sum(1, keepdim=True)
    return matrix / sums


@cached_constant(maxsize=64)
def nearest(size: int, out: int) -> Tensor:
    """The index [out] of the pixel that Pillow's NEAREST picks along one axis.

    Pillow adds the step size/out repeatedly, and so do the rounding errors here.
    """
    step = size / out
    position = step / 2
    indices = []
    for _ in range(out):
        indices.append(int(position))
        position += step
    return torch.tensor(indices, dtype=torch.int64)


def _both_axes(
    matrix: Callable[..., Tensor], x: Tensor, size: Size, *form: str | float | None
) -> list[Tensor]:
    """matrix(n, m, *form) for the rows and for the columns, on x's device."""
    sizes = zip(x.shape[2:], size, strict=True)
    matrices = []
    for n, m in sizes:
        on_cpu = matrix(n, m, *form)
        on_device = on_cpu.to(x.device)
        matrices.append(on_device)
    return matrices


class _Resample(torch.autograd.Function):
    """y = R x Cᵀ, with R and C the `weights` of rows and columns; 8-bit images in fixed point.

    Gradient: the adjoint Rᵀ y C of the linear map.
    """

    @staticmethod
    def forward(x: Tensor, size: Size, filter: str) -> Tensor:
        levels = pillow_library.levels_of(x)
        if levels is None:
            return _in_pillows_order(_passes, x, size, filter)
        result = x.new_empty(*x.shape[:2], *size)
        for index, out in enumerate(result.numpy()):
            levels_of_image = levels[index]
            if levels_of_image is not None:
                pillow_library.resize_into(out, levels_of_image, filter)
            else:
                image = x[index : index + 1]
                result[index] = _in_pillows_order(_float_passes, image, size, filter)[0]
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, size, ctx.filter = inputs
        ctx.sizes = (x.shape[2:], size)

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int, None, None], x: Tensor, size: Size, filter: str
    ) -> tuple[Tensor, int]:
        batch = fold(x, dims[0], info.batch_size)
        resized = _Resample.apply(batch, size, filter)
        return unfold(resized, info.batch_size), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (height, width), (out_height, out_width) = ctx.sizes
        rows = weights(height, out_height, ctx.filter)
        columns = weights(width, out_width, ctx.filter)
        rows = rows.to(grad.device)
        columns = columns.to(grad.device)
        transposed = rows.mT @ grad.double() @ columns
        return transposed.to(grad), None, None


def _in_pillows_order(
    passes: Callable[[Tensor, Size, str], Tensor], x: Tensor, size: Size, filter: str
) -> Tensor:
    """Apply two passes, of which the second is along the rows, or along the columns."""
    height, width = size
    before = (x.shape[2], x.shape[3])
    if not begins_with_rows(before, size):
        return passes(x, size, filter)
    turned_size = (width, height)
    turned = passes(x.mT, turned_size, filter)
    # the caller may change it in place
    return turned.mT.clone(memory_format=torch.contiguous_format)


def _passes(x: Tensor, size: Size, filter: str) -> Tensor:
    """Resample along the last axis, then along the one before it."""
    eight_bit = _is_eight_bit(x)
    without_values = torch.compiler.is_compiling() or x.is_meta
    count = None if without_values else int(eight_bit.sum())  # the host waits once
    if count is not None and count == len(x):
        return fixed_point(x, size, filter)
    linear = _float_passes(x, size, filter)
    if count == 0:
        return linear
    stepwise = fixed_point(x, size, filter)  # of some, or of nobody knows which
    return torch.where(eight_bit, stepwise, linear)


def _is_eight_bit(x: Tensor) -> Tensor:
    """Whether each image holds only values k/255, [B, 1, 1, 1]."""
    levels = (x * 255).flatten(1)
    above_lowest = levels.amin(1) > -0.5
    below_highest = levels.amax(1) < 255.5
    nearest_level = levels.round()
    distance = levels.sub_(nearest_level).abs_()
    on_grid = distance.amax(1) < 1e-4
    eight_bit = on_grid & above_lowest & below_highest
    return eight_bit.view(-1, 1, 1, 1)


def _float_passes(x: Tensor, size: Size, filter: str) -> Tensor:
    """Pillow's mode "F", which stores float32 between the passes."""
    pixels = x
    for out in reversed(size):
        bands = _float_bands(pixels.shape[3], out, filter, x.device)
        sums = _product(pixels.double(), bands)
        pixels = sums.to(x.dtype).mT
    return pixels.contiguous()


def fixed_point(x: Tensor, size: Size, filter: str) -> Tensor:
    """Pillow's 8-bit arithmetic: each pass is rounded to 8 bits."""
    levels = (x * 255).round_()
    pixels = levels.double()
    for out in reversed(size):
        bands = _fixed_bands(pixels.shape[3], out, filter, x.device)
        sums = _product(pixels, bands)
        sums.add_(2.0 ** (_BITS - 1))
        sums.mul_(2.0**-_BITS)
        levels = sums.floor_()
        levels.clamp_(0, 255)
        pixels = levels.mT
    resized = pixels.to(x.dtype)
    return resized.div_(255)


def _product(pixels: Tensor, bands: list[Band]) -> Tensor:
    """Resample along the last axis."""
    parts = []
    for first, end, band in bands:
        window = pixels[..., first:end]
        parts.append(window @ band)
    return torch.cat(parts, 3)


@cached_constant(maxsize=16)
def _float_bands(size: int, out: int, filter: str, device: torch.device) -> list[Band]:
    """The matrix in bands of a few outputs."""
    return _cut_into_bands(weights(size, out, filter), device)


@cached_constant(maxsize=16)
def _fixed_bands(size: int, out: int, filter: str, device: torch.device) -> list[Band]:
    """The matrix in fixed point, in bands of a few outputs."""
    scaled = weights(size, out, filter) * 2.0**_BITS
    magnitude = scaled.abs() + 0.5
    fixed = magnitude.floor() * scaled.sign()
    return _cut_into_bands(fixed, device)


def _cut_into_bands(matrix: Tensor, device: torch.device) -> list[Band]:
    bands = []
    for block in matrix.split(_BAND):
        used = block.any(0).nonzero()
        first = int(used[0])
        end = int(used[-1]) + 1
        window = block[:, first:end]
        band = window.mT.contiguous()
        on_device = band.to(device)
        bands.append((first, end, on_device))
    return bands


def resize(x: Tensor, size: Size, filter: str) -> Tensor:
    """Resample x [B, C, H, W] to `size` (h, w) as Pillow does."""
    if filter == "nearest":
        rows, columns = _both_axes(nearest, x, size)
        picked_rows = x.index_select(2, rows)
        return picked_rows.index_select(3, columns)
    for before, after in zip(x.shape[2:], size, strict=True):
        _check_memory(before, after)
    has_graph = is_transformed(x) or is_differentiated(x)
    function = _Resample.apply if has_graph else _Resample.forward
    resized: Tensor = function(x, size, filter)
    return resized


@cached_constant(maxsize=16)
def _axis(size: int, out: int, filter: str, step: float | None = None) -> Tensor:
    """The matrix [out, size] along one axis, float64, of a filter, of "nearest" or of "pool".

    step: see `interpolation.axis`.
    """
    if filter in interpolation.AXES:
        return interpolation.axis(size, out, filter, step)
    if filter == "nearest":
        picked = nearest(size, out)
        return F.one_hot(picked, size).double()
    if filter == "pool":
        identity = torch.eye(size, dtype=torch.float64)
        pooled: Tensor = F.adaptive_avg_pool1d(identity[None], out)
        return pooled[0].T
    return weights(size, out, filter)


@cached_constant(maxsize=16)
def _inverse(size: int, out: int, filter: str, step: float | None = None) -> Tensor:
    """The pseudo-inverse [size, out] of `_axis`, without the directions that it nearly removes."""
    matrix = _axis(size, out, filter, step)
    inverse: Tensor = torch.linalg.pinv(matrix, rtol=_FAINT)
    return inverse


def back_project(x: Tensor, y: Tensor, filter: str, step: float | None = None) -> Tensor:
    """Change x [B, C, H, W] as little as possible, within [0, 1], so that resampling gives y.

    x ← clamp(x + A⁺ (y - A x)), repeated with momentum. Where A enlarges, the result is the least
    squares solution, whatever x is. Source: Irani & Peleg 1991 (back-projection), here with the
    exact pseudo-inverse A⁺; the momentum is that of Beck & Teboulle 2009 (FISTA).
    """
    size = (y.shape[2], y.shape[3])
    rows, columns = _both_axes(_axis, x, size, filter, step)
    rows_inverse, columns_inverse = _both_axes(_inverse, x, size, filter, step)
    target = y.double()
    extrapolated = x.double()
    previous = extrapolated
    for step in range(_ROUNDS):
        resampled = rows @ extrapolated @ columns.mT
        residual = target - resampled
        correction = rows_inverse @ residual @ columns_inverse.mT
        unclamped = extrapolated + correction
        image = unclamped.clamp(0, 1)
        clamped_away = (image - unclamped).abs()
        if clamped_away.max() < 1e-8:
            break
        momentum = step / (step + 3)
        change = image - previous
        extrapolated = image + momentum * change
        previous = image
    return image.to(x)
