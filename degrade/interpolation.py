"""Resampling as torch, OpenCV and MATLAB do it: matrices along rows and along columns.

Unlike Pillow's filters, the bilinear and bicubic ones of torch are not antialiased: an output pixel
depends on two or four pixels of the input, however much the image shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant

Size = tuple[int, int]  # height, width

_TORCH_CUBIC = -0.75  # Keys' parameter in torch and OpenCV
_MATLAB_CUBIC = -0.5


def interpolate(x: Tensor, size: Size, filter: str, step: float | None = None) -> Tensor:
    """Resample x [B, C, H, W] to `size` (h, w). It is linear in x.

    filter: one of NAMES. step: pixels of x per pixel of the result; None for the ratio of the
    sides.
    """
    height, width = x.shape[2:]
    out_height, out_width = size
    name = axis_name(filter, (height, width), size)
    rows = axis(height, out_height, name, step)
    columns = axis(width, out_width, name, step)
    transposed_columns = columns.mT.to(x.device)
    narrowed = x.double() @ transposed_columns
    resampled = rows.to(x.device) @ narrowed
    return resampled.to(x)


def axis_name(filter: str, size: Size, out: Size) -> str:
    """The name of the matrices in AXES: OpenCV's area has two laws."""
    if filter != "cv2-area":
        return filter
    height, width = size
    out_height, out_width = out
    shrinks = height >= out_height and width >= out_width
    return "cv2-area" if shrinks else "cv2-area-enlarging"


@cached_constant(maxsize=16)
def axis(size: int, out: int, filter: str, step: float | None) -> Tensor:
    """The matrix [out, size] along one axis, float64; each row sums to 1."""
    if step is None:
        step = size / out
    matrix = AXES[filter]
    return matrix(size, out, step)


def _centres(out: int, step: float) -> Tensor:
    """The positions of output pixels among the pixels of the input, whose first is at 0."""
    outputs = torch.arange(out, dtype=torch.float64)
    return (outputs + 0.5) * step - 0.5


def _taps(size: int, positions: Tensor, shares: Tensor) -> Tensor:
    """The matrix with `shares` [out, taps] at pixels `positions` [out, taps]."""
    out = len(shares)
    matrix = shares.new_zeros(out, size)
    pixels = positions.long()
    return matrix.scatter_add(1, pixels, shares)


def _torch_bilinear(size: int, out: int, step: float) -> Tensor:
    if out == size:  # torch keeps such a side as it is on the CPU, whatever the scale is
        return torch.eye(size, dtype=torch.float64)
    positions = _centres(out, step)
    inside = positions.clamp(0, size - 1)
    return between_neighbours(size, inside)


def between_neighbours(size: int, positions: Tensor) -> Tensor:
    """Linear interpolation at positions [out] from 0 to size - 1, as a matrix [out, size]."""
    first = positions.floor()
    following = first + 1
    second = following.clamp(max=size - 1)
    share = positions - first
    neighbours = torch.stack([first, second], 1)
    shares = torch.stack([1 - share, share], 1)
    return _taps(size, neighbours, shares)


def _torch_bicubic(size: int, out: int, step: float) -> Tensor:
    positions = _centres(out, step)[:, None]
    offsets = torch.arange(-1, 3, dtype=torch.float64)
    nearest_four = positions.floor() + offsets
    distances = nearest_four - positions
    shares = _cubic(distances, _TORCH_CUBIC)
    inside = nearest_four.clamp(0, size - 1)
    return _taps(size, inside, shares)


def _cubic(t: Tensor, a: float) -> Tensor:
    """Keys' cubic kernel at distance t, zero from 2 on."""
    x = t.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    beyond_one = torch.where(x < 2, far, 0.0)
    return torch.where(x < 1, near, beyond_one)


def _torch_area(size: int, out: int, step: float) -> Tensor:
    """The mean of the pixels that a cell touches, each counted fully."""
    identity = torch.eye(size, dtype=torch.float64)
    pooled: Tensor = F.adaptive_avg_pool1d(identity[None], out)
    return pooled[0].mT.contiguous()


def _cv2_area(size: int, out: int, step: float) -> Tensor:
    """The mean of a cell, to which each pixel counts by the share that lies in it."""
    cells = torch.arange(out, dtype=torch.float64)[:, None]
    pixels = torch.arange(size, dtype=torch.float64)
    start = cells * step
    overlap_start = torch.maximum(start, pixels)
    overlap_end = torch.minimum(start + step, pixels + 1)
    length = overlap_end - overlap_start
    overlap = length.clamp(min=0)
    return _normalised(overlap)


def _normalised(shares: Tensor) -> Tensor:
    """Rows that sum to 1."""
    sums = shares.sum(1, keepdim=True)
    return shares / sums


def _cv2_area_enlarging(size: int, out: int, step: float) -> Tensor:
    """OpenCV's area where a side grows: a pixel, or a mixture of two where a cell has both.

    It rounds as OpenCV does, because rounding decides where cells begin.
    """
    growth = out / size
    reduction = 1 / growth
    outputs = torch.arange(out, dtype=torch.float64)
    first = torch.floor(outputs * reduction)
    following = (first + 1) * growth
    share = outputs + 1 - following
    share = share.float().double()
    fraction = share - share.floor()
    share = torch.where(share <= 0, 0.0, fraction)
    last = size - 1
    positions = first + share
    inside = torch.where(first >= last, last, positions)
    return between_neighbours(size, inside)


def _matlab_bicubic(size: int, out: int, step: float) -> Tensor:
    """MATLAB's imresize: antialiased, mirrored at the edges with the first pixel repeated."""
    stretch = max(step, 1.0)
    positions = _centres(out, step)[:, None]
    reach = math.ceil(2 * stretch) + 1
    offsets = torch.arange(-reach, reach + 2, dtype=torch.float64)
    near = positions.floor() + offsets
    distances = near - positions
    weights = _cubic(distances / stretch, _MATLAB_CUBIC)
    shares = _normalised(weights)
    forward = near.remainder(2 * size)
    backward = 2 * size - 1 - forward
    mirrored = torch.minimum(forward, backward)
    return _taps(size, mirrored, shares)


# The matrix of each filter along one axis: size, out, step → [out, size]
AXES: dict[str, Callable[[int, int, float], Tensor]] = {
    "torch-bilinear": _torch_bilinear,
    "torch-bicubic": _torch_bicubic,
    "torch-area": _torch_area,
    "cv2-area": _cv2_area,
    "cv2-area-enlarging": _cv2_area_enlarging,
    "matlab-bicubic": _matlab_bicubic,
}
NAMES = ("torch-bilinear", "torch-bicubic", "torch-area", "cv2-area", "matlab-bicubic")
SCALED = ("torch-bilinear", "torch-bicubic", "matlab-bicubic")  # positions may follow a scale
