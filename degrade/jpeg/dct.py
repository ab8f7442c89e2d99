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
    blocks = _in_blocks(x.double(), scale)
    rows = (blocks @ row_transform.T + 2**10).div_(2**11).floor_()
    bits = 15 + (across == 2) + (down == 2)
    spectra = (column_transform @ rows + 2 ** (bits - 1)).div_(2**bits).floor_()
    return _in_plane(spectra).to(x)


def scaled_inverse_dct(c: Tensor, scale: Sampling) -> Tensor:
    """The inverse DCT of 8×8 coefficients to blocks of 8·scale samples."""
    across, down = scale
    row_transform = _INVERSE_BY_SCALE[across].to(c.device)
    column_transform = _INVERSE_BY_SCALE[down].to(c.device)
    blocks = _in_blocks(c.double(), (1, 1))
    columns = (column_transform.T @ blocks + 2**10).div_(2**11).floor_()
    samples = (columns @ row_transform + 2**17).div_(2**18).floor_()
    return _in_plane(samples).to(c)


def _in_blocks(x: Tensor, scale: Sampling) -> Tensor:
    """A plane as blocks [planes, rows of blocks, columns of blocks, 8·down, 8·across]."""
    across, down = scale
    rows: Tensor = x.unflatten(1, (-1, 8 * down))
    columns: Tensor = rows.unflatten(3, (-1, 8 * across))
    return columns.transpose(2, 3)


def _in_plane(blocks: Tensor) -> Tensor:
    """The inverse of `_in_blocks`."""
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


# The fast DCT ("ifast"): the butterflies of Arai, Agui and Nakajima with 8-bit constants ----------


def fast_forward_dct(x: Tensor) -> Tensor:
    """The DCT of every block, each frequency scaled by its own factor; see `fast_divisors`."""
    blocks = _in_blocks(x, (1, 1))
    rows = _fast_1d(blocks, 4)
    return _in_plane(_fast_1d(rows, 3))


def _fast_1d(x: Tensor, axis: int) -> Tensor:
    d = x.unbind(axis)
    t0, t7 = d[0] + d[7], d[0] - d[7]
    t1, t6 = d[1] + d[6], d[1] - d[6]
    t2, t5 = d[2] + d[5], d[2] - d[5]
    t3, t4 = d[3] + d[4], d[3] - d[4]
    a0, a3 = t0 + t3, t0 - t3
    a1, a2 = t1 + t2, t1 - t2
    z1 = _times(a2 + a3, 181)
    b0, b1, b2 = t4 + t5, t5 + t6, t6 + t7
    z5 = _times(b0 - b2, 98)
    z2 = _times(b0, 139) + z5
    z4 = _times(b2, 334) + z5
    z3 = _times(b1, 181)
    p, m = t7 + z3, t7 - z3
    frequencies = [a0 + a1, p + z4, a3 + z1, m - z2, a0 - a1, m + z2, a3 - z1, p - z4]
    return torch.stack(frequencies, axis)


def _times(x: Tensor, factor: int) -> Tensor:
    """⌊x·factor / 256⌋"""
    return (x * (factor / 256)).floor_()


def fast_divisors(steps: Tensor) -> Tensor:
    """What the fast DCT's coefficients are divided by, for steps [..., 8, width]."""
    scales = [1.0] + [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(1, 8)]
    factors = []
    for down in scales:
        factors.append([round(2**14 * down * across) for across in scales])
    table = steps.new_tensor(factors, dtype=torch.float64)
    blocks_across = steps.shape[-1] // 8
    plane = table.repeat(1, blocks_across)
    divisors = (steps.double() * plane + 2**10).div_(2**11).floor_()
    return divisors.to(steps)
