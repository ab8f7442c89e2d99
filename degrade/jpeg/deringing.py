"""MozJPEG's overshoot deringing: it lets white areas swing above white, where the decoder clamps.

A block is a line of 64 samples in zigzag order. Each run of white samples is replaced by a cubic
that continues the slopes beside it.
"""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from .header import ZIGZAG

_WHITE = 127.0  # the largest sample, centred at 0
_MOST = 31  # levels above white


def deringed(plane: Tensor, steps: Tensor) -> Tensor:
    """Samples [planes, height, width] with overshoot; steps [planes, 1, 8, width]."""
    rows: Tensor = plane.unflatten(1, (-1, 8))
    columns: Tensor = rows.unflatten(3, (-1, 8))
    blocks = columns.transpose(2, 3).flatten(3)
    order = torch.tensor(ZIGZAG, device=plane.device)
    lines = blocks[..., order].float()
    dc_steps = steps[:, :, 0, ::8].expand(lines.shape[:3])
    white = lines >= _WHITE
    counts = white.sum(-1)
    has_both = (counts > 0) & (counts < 64)
    changed = lines[has_both]
    lines[has_both] = _with_overshoot(changed, dc_steps[has_both].float())
    natural = torch.empty_like(lines)
    natural[..., order] = lines
    blocks_of_rows: Tensor = natural.unflatten(3, (8, 8))
    result = blocks_of_rows.transpose(2, 3).flatten(3).flatten(1, 2)
    return result.to(plane).contiguous()


def _with_overshoot(lines: Tensor, dc_steps: Tensor) -> Tensor:
    """Lines [n, 64] in which some samples are white and others are not."""
    white = lines >= _WHITE
    counts = white.sum(1)
    room = (_WHITE * 64 - lines.sum(1)) / counts
    above = torch.minimum(2 * dc_steps, room.trunc()).clamp(max=_MOST)
    caps = _WHITE + above
    before = torch.cat([torch.zeros_like(white[:, :1]), white[:, :-1]], 1)
    number_of_run = (white & ~before).cumsum(1)
    most_runs = int(number_of_run.max()) if len(lines) > 0 else 0
    for number in range(1, most_runs + 1):
        in_run = white & (number_of_run == number)
        has_run = in_run.any(1)
        lines[has_run] = _with_run(lines[has_run], in_run[has_run], caps[has_run])
    return lines


def _with_run(lines: Tensor, in_run: Tensor, caps: Tensor) -> Tensor:
    """Replace one run of white samples in each line by a cubic."""
    length = in_run.sum(1)
    start = in_run.int().argmax(1)
    end = start + length
    slope_before = _slope(lines, start - 1, start - 2)
    slope_after = _slope(lines, end, end + 1)
    slope_before = torch.where(start == 0, slope_after, slope_before)
    slope_after = torch.where(end == 64, slope_before, slope_after)
    positions = torch.arange(64, device=lines.device)
    steps_from_start = positions - start[:, None] + 1
    times = _TIMES.to(lines.device)
    t = times[length[:, None], steps_from_start.clamp(0, 64)]
    t2 = t * t
    t3 = t2 * t
    rise = (slope_before * length)[:, None]
    fall = (-slope_after * length)[:, None]
    curve = _WHITE * (2 * t3 - 3 * t2 + 1) + rise * (t3 - 2 * t2 + t)
    curve = curve + _WHITE * (-2 * t3 + 3 * t2) + fall * (t3 - t2)
    overshoot = torch.minimum(curve.ceil(), caps[:, None])
    return torch.where(in_run, overshoot, lines)


def _slope(lines: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The slope toward a run from the samples beside it, at least that which reaches white."""
    first = lines.gather(1, near.clamp(0, 63)[:, None])[:, 0]
    second = lines.gather(1, far.clamp(0, 63)[:, None])[:, 0]
    return torch.maximum(first - second, _WHITE - first)


def _times_of_runs() -> Tensor:
    """t = j/(L + 1) for runs of length L, in row L: sums of float32 steps, as in MozJPEG."""
    lengths = numpy.arange(1, 66)
    steps = (1 / lengths).astype(numpy.float32)
    repeated = steps[:, None].repeat(64, 1)
    times = numpy.zeros((65, 65), numpy.float32)
    times[:, 1:] = repeated.cumsum(1, dtype=numpy.float32)
    return torch.from_numpy(times)


_TIMES = _times_of_runs()
