"""Quantisation tables, of a quality or of a user.

Tables are in natural (row by row) order. Source: ITU-T T.81, Annex K; the scaling by a quality is
libjpeg's.
"""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from ..params import show
from ..surrogate import declare
from ..transforms import is_differentiated, is_transformed

Tables = tuple[tuple[int, ...], ...]
LARGEST = 32767  # libjpeg limits the entries of a table to this

# Tables K.1 (luminance) and K.2 (chrominance)
STANDARD = torch.tensor(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            *[[99] * 8] * 4,
        ],
    ],
    device="cpu",
)


def _zigzag_order(index: int) -> tuple[int, int]:
    """Sort by diagonal; odd diagonals run downward and even ones upward."""
    row, column = divmod(index, 8)
    diagonal = row + column
    is_odd = diagonal % 2 == 1
    return diagonal, row if is_odd else column


ZIGZAG = sorted(range(64), key=_zigzag_order)


def quality_tables(quality: Tensor, base: Tensor = STANDARD) -> Tensor:
    """The luminance and chrominance tables [B, 2, 8, 8] of qualities [B], 1 to 100.

    base: the tables K of quality 50, [2, 8, 8].

    clamp(⌊(K·S + 50) / 100⌋, 1, 255) with S = ⌊5000 / q⌋ below 50, else 200 - 2q. Gradient: all
    roundings straight through, zero where the clamp holds.
    """
    by_table = quality.view(-1, 1, 1, 1)
    expanded = by_table.expand(-1, *base.shape)
    q = by_table.detach()
    base = base.to(quality)
    scale = torch.where(q < 50, (5000 / q).floor(), 200 - 2 * q)
    entry = ((base * scale + 50) / 100).floor()
    clamped = entry.clamp(1, 255)
    if not is_transformed(quality) and not is_differentiated(quality):
        return clamped
    scale_slope = torch.where(q < 50, -5000 / q**2, -2.0)
    inside = (entry >= 1) & (entry <= 255)
    slope = base / 100 * scale_slope
    return declare(expanded, clamped, slope * inside)


def check_tables(given: object) -> Tables:
    """1 to 4 tables of 64 integers as nested tuples, from nested or flat sequences or an array."""
    values = _flat(given)
    are_numbers = all(isinstance(value, Real) for value in values)
    if len(values) not in (64, 128, 192, 256) or not are_numbers:
        raise ValueError(
            f"tables={show(given)} must be 1 to 4 tables of 64 integers: "
            "luma, chroma or luma, Cb, Cr; 4 for CMYK"
        )
    for value in values:
        is_integer = value == value // 1
        if not is_integer or not 1 <= value <= LARGEST:
            raise ValueError(
                f"tables hold {value:g}; every entry must be an integer from 1 to {LARGEST}"
            )
    integers = tuple(map(int, values))
    tables = []
    for first in range(0, len(integers), 64):
        tables.append(integers[first : first + 64])
    return tuple(tables)


def _flat(given: object) -> list:
    """The numbers in nested sequences, arrays or tensors, in order."""
    if hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, (list, tuple)):
        return [given]
    values = []
    for item in given:
        values.extend(_flat(item))
    return values
