"""MozJPEG's overshoot deringing: it lets white areas swing above white, where the decoder clamps.

A block is a line of 64 samples in zigzag order. Each run of white samples is replaced by a cubic
that continues the slopes beside it.
"""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from .dct import in_blocks, in_plane
from .header import ZIGZAG

_WHITE = 127.0  # the largest sample, centred at 0
_MOST = 31  # levels above white


def deringed(plane: Tensor, steps: Tensor) -> Tensor:
    """Samples [planes, height, width] with overshoot; steps [planes, 1, 8, width]."""
    if plane.is_meta:  # it has a shape and no values
        return plane
    order = torch.tensor(ZIGZAG, device=plane.device)
    blocks = in_blocks(plane, (1, 1))
    samples = blocks.flatten(3)
    lines = samples[..., order].float()
    white = lines >= _WHITE
    has_both = white.any(-1) & ~white.all(-1)
    dc_of_columns = steps[:, :, 0, ::8]
    dc_steps = dc_of_columns.expand(has_both.shape)
    lines[has_both] = _with_overshoot(lines[has_both], dc_steps[has_both].float())
    changed = torch.empty_like(lines)
    changed[..., order] = lines
    changed_blocks: Tensor = changed.unflatten(3, (8, 8))
    result = in_plane(changed_blocks)
    return result.to(plane).contiguous()


def _with_overshoot(lines: Tensor, dc_steps: Tensor) -> Tensor:
    """Lines [n, 64] in which some samples are white and others are not."""
    white = lines >= _WHITE
    limits = _WHITE + _levels_above_white(lines, white, dc_steps)
    run_numbers = _run_numbers(white)
    if len(lines) == 0:
        return lines
    most_runs = int(run_numbers.max())
    for number in range(1, most_runs + 1):
        in_run = white & (run_numbers == number)
        has_run = in_run.any(1)
        lines[has_run] = _with_run(lines[has_run], in_run[has_run], limits[has_run])
    return lines


def _levels_above_white(lines: Tensor, white: Tensor, dc_steps: Tensor) -> Tensor:
    """How far the white samples of each line may swing: the mean must stay below white."""
    room = _WHITE * 64 - lines.sum(1)
    room_of_sample = room / white.sum(1)
    above = torch.minimum(2 * dc_steps, room_of_sample.trunc())
    return above.clamp(max=_MOST)


def _run_numbers(white: Tensor) -> Tensor:
    """For each white sample the number of its run in the line, from 1."""
    follows_white = white.roll(1, 1)
    follows_white[:, 0] = False
    begins = white & ~follows_white
    return begins.cumsum(1)


def _with_run(lines: Tensor, in_run: Tensor, limits: Tensor) -> Tensor:
    """Replace one run of white samples in each line by a cubic."""
    length = in_run.sum(1)
    start = in_run.int().argmax(1)
    end = start + length
    before = _slope(lines, start - 1, start - 2)
    after = _slope(lines, end, end + 1)
    slope_before = torch.where(start == 0, after, before)
    slope_after = torch.where(end == 64, slope_before, after)
    t = _times(start, length)
    rise = slope_before * length
    fall = -slope_after * length
    curve = _cubic(t, rise[:, None], fall[:, None])
    overshoot = torch.minimum(curve.ceil(), limits[:, None])
    return torch.where(in_run, overshoot, lines)


def _cubic(t: Tensor, rise: Tensor, fall: Tensor) -> Tensor:
    """Hermite's cubic from white at t = 0, with slope `rise`, to white at t = 1, with `fall`."""
    t2 = t * t
    t3 = t2 * t
    value_at_start = 2 * t3 - 3 * t2 + 1
    slope_at_start = t3 - 2 * t2 + t
    value_at_end = -2 * t3 + 3 * t2
    slope_at_end = t3 - t2
    # in the order of MozJPEG's float32 sums
    curve = _WHITE * value_at_start
    curve = curve + rise * slope_at_start
    curve = curve + _WHITE * value_at_end
    return curve + fall * slope_at_end


def _slope(lines: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The slope toward a run from the samples beside it, at least that which reaches white."""
    near_samples = _samples_at(lines, near)
    far_samples = _samples_at(lines, far)
    slope = near_samples - far_samples
    return torch.maximum(slope, _WHITE - near_samples)


def _samples_at(lines: Tensor, positions: Tensor) -> Tensor:
    """One sample of each line; the first or last one for a position outside of it."""
    inside = positions.clamp(0, 63)
    samples = lines.gather(1, inside[:, None])
    return samples[:, 0]


def _times(start: Tensor, length: Tensor) -> Tensor:
    """t of all 64 samples of each line: from 0 before its run to 1 behind it."""
    positions = torch.arange(64, device=start.device)
    steps = positions - start[:, None] + 1
    inside = steps.clamp(0, 64)
    times = _TIMES.to(start.device)
    return times[length[:, None], inside]


def _times_of_runs() -> Tensor:
    """t = j/(L + 1) for runs of length L, in row L: sums of float32 steps, as in MozJPEG."""
    lengths = numpy.arange(1, 66)
    exact_steps = 1 / lengths
    steps = exact_steps.astype(numpy.float32)
    repeated = steps[:, None].repeat(64, 1)
    times = numpy.zeros((65, 65), numpy.float32)
    numpy.cumsum(repeated, 1, out=times[:, 1:])
    return torch.from_numpy(times)


_TIMES = _times_of_runs()
