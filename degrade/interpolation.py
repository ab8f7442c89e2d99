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
    form = axis_name(filter, (height, width), size)
    rows = axis(height, out_height, form, step).to(x.device)
    columns = axis(width, out_width, form, step).to(x.device)
    resampled = rows @ x.double() @ columns.mT
    return resampled.to(x)


def axis_name(filter: str, size: Size, out: Size) -> str:
    """The name of the matrices in AXES: OpenCV's area has two laws."""
    if filter != "cv2-area":
        return filter
    shrinks = size[0] >= out[0] and size[1] >= out[1]
    return "cv2-area" if shrinks else "cv2-area-enlarging"


@cached_constant(maxsize=16)
def axis(size: int, out: int, filter: str, step: float | None) -> Tensor:
    """The matrix [out, size] along one axis, float64; each row sums to 1."""
    return AXES[filter](size, out, size / out if step is None else step)


def _centres(out: int, step: float) -> Tensor:
    """The positions of output pixels among the pixels of the input, whose first is at 0."""
    outputs = torch.arange(out, dtype=torch.float64)
    return (outputs + 0.5) * step - 0.5


def _taps(size: int, positions: Tensor, shares: Tensor) -> Tensor:
    """The matrix with `shares` [out, taps] at pixels `positions` [out, taps]."""
    matrix = torch.zeros(len(shares), size, dtype=torch.float64)
    return matrix.scatter_add(1, positions.long(), shares)


def _torch_bilinear(size: int, out: int, step: float) -> Tensor:
    if out == size:  # torch keeps such a side as it is on the CPU, whatever the scale is
        return torch.eye(size, dtype=torch.float64)
    position = _centres(out, step).clamp(0, size - 1)
    return _between_neighbours(size, position)


def _between_neighbours(size: int, position: Tensor) -> Tensor:
    """Each output is between two pixels; beyond the last one is the last one."""
    first = position.floor()
    share = position - first
    second = (first + 1).clamp(max=size - 1)
    positions = torch.stack([first, second], 1)
    return _taps(size, positions, torch.stack([1 - share, share], 1))


def _torch_bicubic(size: int, out: int, step: float) -> Tensor:
    position = _centres(out, step)
    nearest_four = position.floor()[:, None] + torch.arange(-1, 3, dtype=torch.float64)
    shares = _cubic(nearest_four - position[:, None], _TORCH_CUBIC)
    return _taps(size, nearest_four.clamp(0, size - 1), shares)


def _cubic(t: Tensor, a: float) -> Tensor:
    """Keys' cubic kernel at distance t, zero from 2 on."""
    x = t.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _torch_area(size: int, out: int, step: float) -> Tensor:
    """The mean of the pixels that a cell touches, each counted fully."""
    identity = torch.eye(size, dtype=torch.float64)
    pooled: Tensor = F.adaptive_avg_pool1d(identity[None], out)
    return pooled[0].mT.contiguous()


def _cv2_area(size: int, out: int, step: float) -> Tensor:
    """The mean of a cell, to which each pixel counts by the share that lies in it."""
    start = torch.arange(out, dtype=torch.float64)[:, None] * step
    pixel = torch.arange(size, dtype=torch.float64)
    overlap_end = torch.minimum(start + step, pixel + 1)
    overlap_start = torch.maximum(start, pixel)
    overlap = (overlap_end - overlap_start).clamp(min=0)
    return overlap / overlap.sum(1, keepdim=True)


def _cv2_area_enlarging(size: int, out: int, step: float) -> Tensor:
    """OpenCV's area where a side grows: a pixel, or a mixture of two where a cell has both.

    It rounds as OpenCV does, because rounding decides where cells begin.
    """
    growth = out / size
    outputs = torch.arange(out, dtype=torch.float64)
    first = (outputs * (1 / growth)).floor()
    share = (outputs + 1) - (first + 1) * growth
    share = share.float().double()
    share = torch.where(share <= 0, 0.0, share - share.floor())
    is_last = first >= size - 1
    share = torch.where(is_last, 0.0, share)
    return _between_neighbours(size, first.clamp(max=size - 1) + share)


def _matlab_bicubic(size: int, out: int, step: float) -> Tensor:
    """MATLAB's imresize: antialiased, mirrored at the edges with the first pixel repeated."""
    stretch = max(step, 1.0)
    position = _centres(out, step)[:, None]
    reach = math.ceil(2 * stretch) + 1
    near = position.floor() + torch.arange(-reach, reach + 2, dtype=torch.float64)
    shares = _cubic((near - position) / stretch, _MATLAB_CUBIC)
    shares = shares / shares.sum(1, keepdim=True)
    period = near.remainder(2 * size)
    mirrored = torch.minimum(period, 2 * size - 1 - period)
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
