"""The other DCTs of JPEG libraries: libjpeg's fast one, and the 16-point ones of IJG 7 and later.

Planes are [planes, height, width]; spectra have 8 rows and 8 columns for each block. Integers in
float64 keep all digits here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .sampling import Sampling
from .stages import M

# The first eight of 16 columns; the others mirror them, with the sign of the frequency's parity.
_FORWARD = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11529, 11086, 10217, 8956, 7350, 5461, 3363, 1135),
    (11363, 9633, 6436, 2260, -2260, -6436, -9633, -11363),
    (11086, 7350, 1136, -5461, -10217, -11529, -8956, -3363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (10217, 1136, -8955, -11086, -3363, 7350, 11529, 5461),
    (9633, -2260, -11363, -6437, 6437, 11363, 2260, -9633),
    (8956, -5461, -11086, 1137, 11530, 3363, -10217, -7350),
)
_INVERSE = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11529, 11086, 10217, 8956, 7350, 5461, 3363, 1136),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (11086, 7350, 1136, -5461, -10217, -11529, -8955, -3363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (10217, 1136, -8955, -11086, -3363, 7349, 11529, 5461),
    (9632, -2260, -11363, -6436, 6436, 11363, 2260, -9632),
    (8956, -5461, -11086, 1137, 11529, 3363, -10217, -7350),
)


def _mirrored(left: tuple[tuple[int, ...], ...]) -> Tensor:
    """The 16 columns of a matrix of which the first eight are given."""
    half = torch.tensor(left, dtype=torch.float64, device="cpu")
    parity = torch.tensor([1, -1] * 4, dtype=torch.float64, device="cpu")
    right = half.flip(1) * parity[:, None]
    return torch.cat([half, right], 1)


_OF_EIGHT = M.double()
_FORWARD_BY_SCALE = {1: _OF_EIGHT, 2: _mirrored(_FORWARD)}
_INVERSE_BY_SCALE = {1: _OF_EIGHT, 2: _mirrored(_INVERSE)}


def scaled_forward_dct(x: Tensor, scale: Sampling) -> Tensor:
    """8 times the DCT of blocks of 8·scale samples, of which the 8×8 low frequencies are kept.

    scale: across, down; 1 or 2 each.
    """
    across, down = scale
    row_transform = _FORWARD_BY_SCALE[across].to(x.device)
    column_transform = _FORWARD_BY_SCALE[down].to(x.device)
    blocks = in_blocks(x.double(), scale)
    rows = _shifted(blocks @ row_transform.T, 11)
    bits = 15 + (across == 2) + (down == 2)
    spectra = _shifted(column_transform @ rows, bits)
    return in_plane(spectra).to(x)


def scaled_inverse_dct(c: Tensor, scale: Sampling) -> Tensor:
    """The inverse DCT of 8×8 coefficients to blocks of 8·scale samples."""
    across, down = scale
    row_transform = _INVERSE_BY_SCALE[across].to(c.device)
    column_transform = _INVERSE_BY_SCALE[down].to(c.device)
    blocks = in_blocks(c.double(), (1, 1))
    columns = _shifted(column_transform.T @ blocks, 11)
    samples = _shifted(columns @ row_transform, 18)
    return in_plane(samples).to(c)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits, rounded to the nearest integer; a half is rounded up."""
    shifted: Tensor = x / 2**bits
    return shifted.add_(0.5).floor_()


def in_blocks(x: Tensor, scale: Sampling) -> Tensor:
    """A plane as blocks [planes, rows of blocks, columns of blocks, 8·down, 8·across]."""
    across, down = scale
    rows: Tensor = x.unflatten(1, (-1, 8 * down))
    columns: Tensor = rows.unflatten(3, (-1, 8 * across))
    return columns.transpose(2, 3)


def in_plane(blocks: Tensor) -> Tensor:
    """The inverse of `in_blocks`."""
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


# The fast DCT ("ifast"): the butterflies of Arai, Agui and Nakajima with 8-bit constants ----------


def fast_forward_dct(x: Tensor) -> Tensor:
    """The DCT of every block, each frequency scaled by its own factor; see `fast_divisors`."""
    blocks = in_blocks(x, (1, 1))
    rows = _fast_1d(blocks, 4)
    return in_plane(_fast_1d(rows, 3))


def _fast_1d(x: Tensor, axis: int) -> Tensor:
    """The eight frequencies of eight samples along an axis."""
    d0, d1, d2, d3, d4, d5, d6, d7 = x.unbind(axis)
    t0, t7 = _sum_and_difference(d0, d7)
    t1, t6 = _sum_and_difference(d1, d6)
    t2, t5 = _sum_and_difference(d2, d5)
    t3, t4 = _sum_and_difference(d3, d4)

    a0, a3 = _sum_and_difference(t0, t3)
    a1, a2 = _sum_and_difference(t1, t2)
    z1 = _times(a2 + a3, 181)
    f0, f4 = _sum_and_difference(a0, a1)
    f2, f6 = _sum_and_difference(a3, z1)

    b0 = t4 + t5
    b1 = t5 + t6
    b2 = t6 + t7
    z5 = _times(b0 - b2, 98)
    z2 = _times(b0, 139) + z5
    z4 = _times(b2, 334) + z5
    z3 = _times(b1, 181)
    p, m = _sum_and_difference(t7, z3)
    f5, f3 = _sum_and_difference(m, z2)
    f1, f7 = _sum_and_difference(p, z4)
    return torch.stack([f0, f1, f2, f3, f4, f5, f6, f7], axis)


def _sum_and_difference(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a + b, a - b


def _times(x: Tensor, factor: int) -> Tensor:
    """⌊x·factor / 256⌋"""
    return (x * (factor / 256)).floor_()


def fast_divisors(steps: Tensor) -> Tensor:
    """What the fast DCT's coefficients are divided by, for steps [..., 8, width]."""
    angles = torch.arange(8, dtype=torch.float64, device="cpu") * (math.pi / 16)
    scales = math.sqrt(2) * angles.cos()
    scales[0] = 1
    table = (2**14 * torch.outer(scales, scales)).round().to(steps.device)
    blocks_across = steps.shape[-1] // 8
    plane = table.repeat(1, blocks_across)
    divisors = (steps.double() * plane + 2**10).div_(2**11).floor_()
    return divisors.to(steps)
