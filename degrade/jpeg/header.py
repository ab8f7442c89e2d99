"""Quantisation tables and chroma sampling: of a quality, of a user, or of a file's header.

Tables are in natural (row by row) order. Source: ITU-T T.81, Annexes B and K; the scaling by a
quality and the guesses about colour are libjpeg's.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import show
from ..surrogate import declare

Tables = tuple[tuple[int, ...], ...]
# How many pixels share a chroma sample: across, down. The last five have no name of the form a:b:c;
# theirs are the sampling factors of luma, where those of chroma are 1x1, as cjpeg takes them.
SAMPLINGS = {
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:2:0": (2, 2),
    "4:4:0": (1, 2),
    "4:1:1": (4, 1),
    "4:1:0": (4, 2),
    "4:4:1": (1, 4),
    "3x1": (3, 1),
    "3x2": (3, 2),
    "1x3": (1, 3),
    "2x3": (2, 3),
    "2x4": (2, 4),
}
LARGEST = 32767  # libjpeg limits the entries of a table to this
_MOST_BLOCKS = 10  # of an MCU, which libjpeg decodes at once

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

_UNSUPPORTED = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical lossless",
    0xC9: "arithmetic coding",
    0xCA: "arithmetic coding",
    0xCB: "arithmetic coding",
    0xCD: "arithmetic coding",
    0xCE: "arithmetic coding",
    0xCF: "arithmetic coding",
    0xC8: "an extension",
    0xDE: "hierarchical coding",
    0xF7: "JPEG-LS",
}
_SOF = (0xC0, 0xC1, 0xC2)
_SOS, _EOI, _DQT, _APP0, _APP14 = 0xDA, 0xD9, 0xDB, 0xE0, 0xEE
_ALONE = {0x00, 0x01, 0xFF, *range(0xD0, 0xD8)}  # no segment follows: data, fill bytes, restarts


def quality_tables(quality: Tensor, base: Tensor = STANDARD) -> Tensor:
    """The luminance and chrominance tables [B, 2, 8, 8] of qualities [B], 1 to 100.

    base: the tables K of quality 50, [2, 8, 8].

    clamp(⌊(K·S + 50) / 100⌋, 1, 255) with S = ⌊5000 / q⌋ below 50, else 200 - 2q. Gradient: all
    roundings straight through, zero where the clamp holds.
    """
    by_table = quality.view(-1, 1, 1, 1)
    expanded = by_table.expand(-1, *base.shape)
    q = expanded.detach()
    base = base.to(quality)
    is_low = q < 50
    scale = torch.where(is_low, (5000 / q).floor(), 200 - 2 * q)
    scale_slope = torch.where(is_low, -5000 / q**2, -2.0)
    entry = ((base * scale + 50) / 100).floor()
    inside = (entry >= 1) & (entry <= 255)
    slope = base / 100 * scale_slope
    clamped = entry.clamp(1, 255)
    return declare(expanded, clamped, slope * inside)


def sampling_name(given: object) -> object:
    """The name of a sampling: 420 and "420" mean "4:2:0". Other values are returned unchanged."""
    name = ":".join(str(given))
    return name if name in SAMPLINGS else given


def check_tables(given: object) -> Tables:
    """1 to 3 tables of 64 integers as nested tuples, from nested or flat sequences or an array."""
    values = _flat(given)
    are_numbers = all(isinstance(value, Real) for value in values)
    if len(values) not in (64, 128, 192) or not are_numbers:
        raise ValueError(
            f"tables={show(given)} must be 1 to 3 tables of 64 integers: "
            "luma, chroma or luma, Cb, Cr"
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


class _Component(NamedTuple):
    """A component of the frame header. across, down: its sampling factors."""

    ident: int
    across: int
    down: int
    table: int


def read_header(file: str | Path | bytes) -> tuple[Tables, str]:
    """(tables, subsampling) of a JPEG file or its bytes: baseline, optimised or progressive.

    Tables: one of a grayscale file, else luma and chroma, or luma, Cb and Cr where those differ.
    Raises ValueError naming what is damaged, or what the model does not cover.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        data = bytes(file)
    else:
        data = Path(file).read_bytes()
    header = _Header()
    for marker, body in _segments(data):
        header.read(marker, body)
        if header.is_complete:
            break
    components = header.components
    if len(components) == 3:
        header.check_colour()
    tables = [header.used_tables[component.ident] for component in components]
    if len(tables) == 3 and tables[1] == tables[2]:
        tables.pop()
    return check_tables(tables), _sampling(components)


class _Header:
    """What the segments read so far say about tables, components and colour."""

    def __init__(self) -> None:
        self.components: list[_Component] = []
        self.used_tables: dict[int, tuple[int, ...]] = {}  # when a component's first scan began
        self._tables: dict[int, tuple[int, ...]] = {}
        self._jfif = False
        self._adobe_transform: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the first scan of every component has begun."""
        count = len(self.components)
        return count > 0 and len(self.used_tables) == count

    def read(self, marker: int, body: bytes) -> None:
        """Take over what one segment says."""
        if marker == _DQT:
            self._tables |= _quantisation(body)
        elif marker == _APP0 and body.startswith(b"JFIF\0"):
            self._jfif = True
        elif marker == _APP14 and body.startswith(b"Adobe"):
            if len(body) > 11:
                self._adobe_transform = body[11]
        elif marker in _UNSUPPORTED:
            raise ValueError(
                f"this JPEG uses {_UNSUPPORTED[marker]}, which the model does not cover"
            )
        elif marker in _SOF:
            if self.components:
                raise ValueError("this JPEG is damaged: it has two frame headers")
            self.components = _frame(body)
        elif marker == _SOS:
            self._begin_scan(body)

    def _begin_scan(self, body: bytes) -> None:
        """Note the tables of the components that a scan holds."""
        if not self.components:
            raise ValueError("this JPEG is damaged: it has no frame header before its first scan")
        count = body[0]
        idents_in_scan = body[1 : 1 + 2 * count : 2]
        for component in self.components:
            ident = component.ident
            if ident not in idents_in_scan or ident in self.used_tables:
                continue
            table = self._tables.get(component.table)
            if table is None:
                raise ValueError(
                    f"this JPEG is damaged: it lacks quantisation table {component.table}"
                )
            self.used_tables[ident] = table

    def check_colour(self) -> None:
        """libjpeg's guess: YCbCr, unless an Adobe marker or the component ids say RGB."""
        if self._jfif:
            return
        idents = bytes(component.ident for component in self.components)
        named_rgb = self._adobe_transform is None and idents == b"RGB"
        if named_rgb or self._adobe_transform == 0:
            raise ValueError(
                "this JPEG stores RGB without conversion; the model covers grayscale and YCbCr"
            )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of each segment; skips what is between them, such as a scan's data."""
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"this is no JPEG: it starts with {data[:4]!r}")
    end = 2  # of the segment before
    while True:
        at = data.find(b"\xff", end) + 1
        has_marker = 0 < at < len(data)
        marker = data[at] if has_marker else _EOI
        if marker in _ALONE:
            end = at
            continue
        size_bytes = data[at + 1 : at + 3]
        size = int.from_bytes(size_bytes, "big")
        end = at + 1 + size
        if marker == _EOI or end > len(data):
            raise ValueError(
                f"this JPEG is truncated at byte {len(data)}, "
                "before the first scan of each component"
            )
        if size < 2:
            raise ValueError(f"this JPEG is damaged: the segment at byte {at} has length {size}")
        yield marker, data[at + 3 : end]


def _quantisation(body: bytes) -> dict[int, tuple[int, ...]]:
    """The tables of a segment, in natural order, by their number."""
    tables = {}
    while body:
        precision = body[0] >> 4
        ident = body[0] & 15
        width = 1 + precision  # bytes per entry
        end = 1 + 64 * width
        is_known = precision <= 1 and ident <= 3
        if not is_known or len(body) < end:
            raise ValueError(
                "this JPEG is damaged: a quantisation table is incomplete or has no known kind"
            )
        table = [0] * 64
        for entry, index in enumerate(ZIGZAG):
            first = 1 + entry * width
            value = body[first : first + width]
            table[index] = int.from_bytes(value, "big")
        tables[ident] = tuple(table)
        body = body[end:]
    return tables


def _frame(body: bytes) -> list[_Component]:
    """The components of a frame header."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise ValueError(f"this JPEG is damaged: its frame header has {len(body)} bytes")
    bits = body[0]
    if bits != 8:
        raise ValueError(f"this JPEG has {bits} bits per sample; the model covers 8")
    has_height = any(body[1:3])
    has_width = any(body[3:5])
    if not has_height or not has_width:
        raise ValueError(
            "this JPEG does not say its size in its frame header, which the model does not cover"
        )
    count = body[5]
    if count not in (1, 3):
        kind = "CMYK or YCCK" if count == 4 else "no known colour space"
        raise ValueError(
            f"this JPEG has {count} components ({kind}); the model covers grayscale and YCbCr"
        )
    components = []
    for first in range(6, len(body), 3):
        ident, factors, table = body[first : first + 3]
        across = factors >> 4
        down = factors & 15
        components.append(_Component(ident, across, down, table))
    return components


def _sampling(components: list[_Component]) -> str:
    """The name of the chroma sampling, from the sampling factors."""
    if len(components) == 1:
        return "4:2:0"  # of no consequence
    luma, *chroma = components
    blocks = sum(component.across * component.down for component in components)
    if luma.across * luma.down > 0 and blocks <= _MOST_BLOCKS:
        for name, (across, down) in SAMPLINGS.items():
            if all(_shares(luma, component, across, down) for component in chroma):
                return name
    factors = [f"{component.across}x{component.down}" for component in components]
    raise ValueError(
        f"this JPEG has sampling factors {', '.join(factors)}; "
        f"the model covers {', '.join(SAMPLINGS)}"
    )


def _shares(luma: _Component, chroma: _Component, across: int, down: int) -> bool:
    """Whether across × down pixels share a sample of a chroma component."""
    same_across = luma.across == chroma.across * across
    same_down = luma.down == chroma.down * down
    return same_across and same_down
