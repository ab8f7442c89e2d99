"""Chroma sampling in libjpeg-turbo's integers: reduce planes and enlarge them, and the transposes.

Planes are [planes, height, width]. With `exact`, a function rounds where libjpeg shifts; without
it, it is the linear map that a gradient goes through.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_NARROW = 2  # libjpeg repeats the columns of chroma planes up to this width

Sampling = tuple[int, int]  # across, down: how many pixels share a chroma sample


def reduce(
    c: Tensor,
    sampling: Sampling,
    exact: bool,
    by_dct: Sampling = (1, 1),
    rows_together: int | None = None,
) -> Tensor:
    """The mean of the pixels that share a sample, and padding to whole blocks.

    by_dct: the factors by which a scaled DCT reduces the result further, so that the mean is over
    fewer pixels. rows_together: the last row is repeated up to a multiple of this first; None for
    that of the sampling.
    """
    across, down = sampling
    across_of_dct, down_of_dct = by_dct
    height, width = c.shape[1:]
    columns = divide_up(width, across)
    rows = divide_up(height, down)
    c = extend(c, 2, across * up8(columns))
    c = extend(c, 1, rounded_up(height, rows_together or down))
    c = mean_of_shared(c, (across // across_of_dct, down // down_of_dct), exact)
    c = extend(c, 1, down_of_dct * up8(rows))
    return c.contiguous()


def mean_of_shared(c: Tensor, sampling: Sampling, exact: bool) -> Tensor:
    """The mean of each group of down × across pixels."""
    across, down = sampling
    if down > 1:
        c = _sum_of_every(c, 1, down)
    if across > 1:
        c = _sum_of_every(c, 2, across)
    shared = across * down
    if shared > 1:
        c.mul_(1 / shared)
        if exact:
            offsets = _offsets_of_mean(c, sampling)
            c.add_(offsets).floor_()
    return c


def _sum_of_every(c: Tensor, axis: int, count: int) -> Tensor:
    """The sum of every `count` neighbours along an axis."""
    parts = []
    for first in range(count):
        index = [slice(None)] * 3
        index[axis] = slice(first, None, count)
        parts.append(c[tuple(index)])
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total.add_(part)
    return total


# By how many rows share a sample: what is added to even and to odd columns
_OFFSETS_OF_PAIR = {
    1: torch.tensor([0, 1 / 2], device="cpu"),
    2: torch.tensor([1 / 4, 1 / 2], device="cpu"),
}


def _offsets_of_mean(c: Tensor, sampling: Sampling) -> Tensor:
    """What libjpeg adds before it divides. At 4:2:2 and 4:2:0 columns alternate."""
    across, down = sampling
    width = c.shape[2]
    if sampling not in ((2, 1), (2, 2)):
        shared = across * down
        half = shared // 2 + 1 / 2  # the sum is an integer; 1/2 keeps clear of rounding errors
        return c.new_full((width,), half / shared)
    return _OFFSETS_OF_PAIR[down].to(c).repeat(width // 2)


def reduce_t(
    g: Tensor, sampling: Sampling, size: tuple[int, int], rows_together: int | None = None
) -> Tensor:
    """The transpose of `reduce` without its rounding."""
    across, down = sampling
    height, width = size
    shared = across * down
    if shared > 1:
        reduced_rows = rounded_up(height, rows_together or down) // down
        g = _fold(g, 1, reduced_rows)
        g = g / shared
        count, rows, columns = g.shape
        pixels = g[:, :, None, :, None]
        repeated = pixels.expand(-1, -1, down, -1, across)
        g = repeated.reshape(count, rows * down, columns * across)
    return shrink(g, height, width)


def samples_of(plane: Tensor, sampling: Sampling, size: tuple[int, int]) -> Tensor:
    """The samples that an image of this height and width has; the others only fill the blocks."""
    across, down = sampling
    height, width = size
    return plane[:, : divide_up(height, down), : divide_up(width, across)]


_SMOOTH = ((2, 1), (2, 2), (1, 2))  # samplings that libjpeg-turbo enlarges by interpolation
BIASES_OF_ROWS = (1 / 4, 1 / 2)  # what it adds before the shift to the rows of 4:4:0


def enlarge(
    c: Tensor,
    sampling: Sampling,
    exact: bool,
    biases_of_rows: tuple[float, float] | None = BIASES_OF_ROWS,
) -> Tensor:
    """libjpeg's "fancy upsampling": linear interpolation at quarters, except of narrow planes.

    Planes whose rows alone are halved (4:4:0) are interpolated whatever their width, and repeated
    where `biases_of_rows` is None. Samplings by more than two are repeated.
    """
    across, down = sampling
    shared = across * down
    if shared == 1:
        return c
    is_narrow = across == 2 and c.shape[2] <= _NARROW
    repeats_rows = sampling == (1, 2) and biases_of_rows is None
    if sampling not in _SMOOTH or is_narrow or repeats_rows:
        return repeat(c, sampling)
    c = c * (1 / shared**2)
    if down == 2:
        c = _interpolate(c, 1)
    if across == 2:
        c = _interpolate(c, 2)
    if exact:
        offsets = _offsets_of_interpolation(c, sampling, biases_of_rows or BIASES_OF_ROWS)
        c.add_(offsets).floor_()
    return c


def repeat(c: Tensor, sampling: Sampling) -> Tensor:
    """Repeat every sample for the pixels that share it."""
    across, down = sampling
    tall = c.repeat_interleave(down, 1)
    return tall.repeat_interleave(across, 2)


def _offsets_of_interpolation(
    c: Tensor, sampling: Sampling, biases_of_rows: tuple[float, float]
) -> Tensor:
    """What libjpeg adds before the shift that ends its interpolation: [rows, 1] or [columns]."""
    across, down = sampling
    height, width = c.shape[1:]
    if across == 1:
        pair = c.new_tensor(biases_of_rows)
        by_row = pair.repeat(height // 2)
        return by_row[:, None]
    offsets = (1 / 2, 7 / 16) if down == 2 else (1 / 4, 1 / 2)
    pair = c.new_tensor(offsets)
    return pair.repeat(width // 2)


def enlarge_t(g: Tensor, sampling: Sampling) -> Tensor:
    """The transpose of `enlarge` without its rounding."""
    across, down = sampling
    shared = across * down
    if shared == 1:
        return g
    is_narrow = across == 2 and g.shape[2] <= 2 * _NARROW
    if sampling not in _SMOOTH or is_narrow:
        columns = g.unflatten(2, (-1, across))
        groups: Tensor = columns.unflatten(1, (-1, down))
        return groups.sum((2, 4))
    if down == 2:
        g = _interpolate_t(g, 1)
    if across == 2:
        g = _interpolate_t(g, 2)
    return g.mul_(1 / shared**2)


def _interpolate(c: Tensor, axis: int) -> Tensor:
    """Between every two: 3·near + far, the ends repeated."""
    last = c.shape[axis] - 1
    shape = list(c.shape)
    shape.insert(axis + 1, 2)
    both = c.new_empty(shape)  # torch.stack takes far longer
    even, odd = both.unbind(axis + 1)
    before = c.narrow(axis, 0, last)
    after = c.narrow(axis, 1, last)
    torch.add(before, after, alpha=3, out=even.narrow(axis, 1, last))
    torch.add(after, before, alpha=3, out=odd.narrow(axis, 0, last))
    torch.mul(c.select(axis, 0), 4, out=even.select(axis, 0))
    torch.mul(c.select(axis, last), 4, out=odd.select(axis, last))
    return both.flatten(axis, axis + 1)


def _interpolate_t(g: Tensor, axis: int) -> Tensor:
    """The transpose of `_interpolate`."""
    pairs: Tensor = g.unflatten(axis, (-1, 2))
    even, odd = pairs.unbind(axis + 1)
    size = even.shape[axis]
    last = size - 1
    c = (even + odd).mul_(3)
    without_last = c.narrow(axis, 0, last)
    after = even.narrow(axis, 1, last)
    without_last.add_(after)
    without_first = c.narrow(axis, 1, last)
    before = odd.narrow(axis, 0, last)
    without_first.add_(before)
    first = even.select(axis, 0)
    c.select(axis, 0).add_(first)
    final = odd.select(axis, last)
    c.select(axis, last).add_(final)
    return c


def divide_up(n: int, divisor: int) -> int:
    """n / divisor, rounded up."""
    return -(-n // divisor)


def rounded_up(n: int, divisor: int) -> int:
    """The next multiple of a divisor."""
    return divide_up(n, divisor) * divisor


def up8(n: int) -> int:
    """The next multiple of 8."""
    return rounded_up(n, 8)


def extend(x: Tensor, axis: int, size: int) -> Tensor:
    """Repeat the last row (axis 1) or column (axis 2) up to `size`."""
    present = x.shape[axis]
    missing = size - present
    if missing == 0:
        return x
    last = x.narrow(axis, present - 1, 1)
    copies = last.repeat_interleave(missing, axis)
    return torch.cat([x, copies], axis)


def _fold(g: Tensor, axis: int, size: int) -> Tensor:
    """The transpose of `extend`."""
    present = g.shape[axis]
    surplus = present - size
    if surplus == 0:
        return g
    folded = g.narrow(axis, 0, size).clone()
    copies = g.narrow(axis, size, surplus)
    sum_of_copies = copies.sum(axis, keepdim=True)
    last = folded.narrow(axis, size - 1, 1)
    last.add_(sum_of_copies)
    return folded


def shrink(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of repeating the last row and column up to the size of g."""
    narrow = _fold(g, 2, width)
    return _fold(narrow, 1, height)


def pad(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of a crop."""
    below = height - g.shape[1]
    right = width - g.shape[2]
    margins = (0, right, 0, below)
    return F.pad(g, margins)
