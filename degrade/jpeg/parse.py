"""Read what the header of a JPEG file says: its tables, its chroma sampling and its colours.

Source: ITU-T T.81, Annex B; the guesses about colour are libjpeg's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .header import ZIGZAG, Tables, check_tables
from .layout import CMYK, RGB, YCBCR, YCCK, check_sampling, sampling_of_factors

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


class _Component(NamedTuple):
    """A component of the frame header. across, down: its sampling factors."""

    ident: int
    across: int
    down: int
    table: int


class Header(NamedTuple):
    """What a file's header says. tables: see `read_header`. colour: one of `COLOURS`."""

    tables: Tables
    subsampling: str
    colour: str


def read_header(file: str | Path | bytes) -> Header:
    """The header of a JPEG file or its bytes: baseline, optimised or progressive.

    Tables: one of a grayscale file, else luma and chroma, or luma, Cb and Cr where those differ; of
    an RGB or CMYK file as many as differ from those that follow.
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
    colour = header.colour()
    subsampling = _sampling(components, colour)
    tables = [header.used_tables[component.ident] for component in components]
    fewest = 2 if colour == YCBCR else 1
    while len(tables) > fewest and tables[-1] == tables[-2]:
        tables.pop()
    return Header(check_tables(tables), subsampling, colour)


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

    def colour(self) -> str:
        """libjpeg's guess: YCbCr, unless an Adobe marker or the names of components say RGB.

        Of four components: CMYK, unless an Adobe marker says YCCK.
        """
        if len(self.components) == 4:
            return YCCK if self._adobe_transform else CMYK
        if self._jfif or len(self.components) == 1:
            return YCBCR
        idents = bytes(component.ident for component in self.components)
        named_rgb = self._adobe_transform is None and idents == b"RGB"
        is_rgb = named_rgb or self._adobe_transform == 0
        return RGB if is_rgb else YCBCR


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
    if count not in (1, 3, 4):
        raise ValueError(
            f"this JPEG has {count} components; the model covers 1 (grayscale), 3 and 4 (CMYK)"
        )
    components = []
    for first in range(6, len(body), 3):
        ident, factors, table = body[first : first + 3]
        across = factors >> 4
        down = factors & 15
        components.append(_Component(ident, across, down, table))
    return components


def _sampling(components: list[_Component], colour: str) -> str:
    """The name of the sampling, from the sampling factors."""
    if len(components) == 1:
        return "4:2:0" if colour == YCBCR else "4:4:4"  # of no consequence
    factors = [(component.across, component.down) for component in components]
    text = ":".join(f"{across}x{down}" for across, down in factors)
    try:
        check_sampling(text)
    except ValueError as error:
        raise ValueError(f"this JPEG has sampling factors that libjpeg refuses: {error}") from error
    return sampling_of_factors(factors, has_chroma=colour in (YCBCR, YCCK))
