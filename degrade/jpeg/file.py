"""JPEG files, byte for byte as Pillow (libjpeg-turbo) writes them.

Source: ITU-T T.81, Annex B; JFIF 1.01. The order of segments is libjpeg's.
"""

from __future__ import annotations

import functools
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy
from numpy import ndarray
from torch import Tensor

from ..transforms import is_transformed
from .header import ZIGZAG
from .huffman import STANDARD_CODES, Huffman, optimal, packed
from .layout import CMYK, LARGEST_SIDE, RGB, SAMPLINGS, YCBCR, YCCK, Layout
from .scan import Component, Scan, codes_of_scan, mcus_across, scans_of
from .steps import table_indices

if TYPE_CHECKING:
    from .coefficients import JPEGCoefficients

_LARGEST_INTERVAL = 65535  # MCUs between two restarts
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP14, _DQT, _DHT, _DRI, _SOS = 0xE0, 0xEE, 0xDB, 0xC4, 0xDD, 0xDA
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"
_ADOBE = b"Adobe\0\x64\0\0\0\0"  # version 100, no flags; the colour transform follows
_ADOBE_TRANSFORM = {RGB: 0, CMYK: 0, YCCK: 2}
_NAMES = {YCBCR: b"\1\2\3", YCCK: b"\1\2\3\4", RGB: b"RGB", CMYK: b"CMYK"}


class FileOptions(NamedTuple):
    """How a file encodes its coefficients; see `jpeg_bytes`."""

    optimize: bool = False
    progressive: bool = False
    restart_marker_blocks: int = 0
    restart_marker_rows: int = 0

    def checked(self) -> FileOptions:
        """The same in plain types. Raises ValueError for intervals that no file can hold."""
        return self._replace(
            optimize=bool(self.optimize),
            progressive=bool(self.progressive),
            restart_marker_blocks=_interval("restart_marker_blocks", self.restart_marker_blocks),
            restart_marker_rows=_interval("restart_marker_rows", self.restart_marker_rows),
        )


def _interval(name: str, value: int) -> int:
    if not isinstance(value, Integral) or not 0 <= value <= _LARGEST_INTERVAL:
        raise ValueError(f"{name}={value!r} must be an integer from 0 to {_LARGEST_INTERVAL}")
    return int(value)  # may be one of numpy's integers


def encode(coefficients: JPEGCoefficients, options: FileOptions) -> list[bytes]:
    """The bytes of a JPEG file for each image."""
    height, width = coefficients.size
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(
            f"x has {height}×{width} pixels; a JPEG file has at most {LARGEST_SIDE} on a side"
        )
    if any(map(is_transformed, coefficients.components)):
        raise ValueError(
            "jpeg_bytes: torch.func cannot transform bytes; call it outside, or on x.detach()"
        )
    plain_options = options.checked()
    blocks_of_components = []
    for component in coefficients.components:
        blocks_of_components.append(_in_file_order(component))
    entries = coefficients.tables.flatten(2).cpu().numpy()
    in_file_order = entries.take(ZIGZAG, 2)
    colour = coefficients.colour
    layout = coefficients.layout
    if len(blocks_of_components) == 1:
        colour = YCBCR
        layout = layout._replace(mcu=SAMPLINGS.get(coefficients.subsampling, (1, 1)))
    files = []
    for i, tables_of_image in enumerate(in_file_order):
        blocks_of_image = [blocks[i] for blocks in blocks_of_components]
        components = _components(blocks_of_image, layout, colour)
        file = _file(components, tables_of_image, coefficients.size, plain_options, colour)
        files.append(file)
    return files


def _components(blocks: list[ndarray], layout: Layout, colour: str) -> list[Component]:
    """The components of one image, whose coefficients are in zigzag order."""
    components = []
    for number, blocks_of_component in enumerate(blocks):
        across, down = layout.factors(number)
        is_chroma = not layout.is_luma(number)
        name = _NAMES[colour][number]
        component = Component(blocks_of_component, across, down, int(is_chroma), name)
        components.append(component)
    return components


def _in_file_order(component: Tensor) -> ndarray:
    """Coefficients [B, rows, columns, 8, 8] in zigzag order [B, rows, columns, 64].

    A row of blocks is taken as 8 rows of a plane. That is how coefficients of images lie in memory.
    """
    batch, rows, columns = component.shape[:3]
    planes = component.transpose(2, 3).reshape(batch, rows, 64 * columns)
    levels = planes.cpu().numpy()
    _check_range(levels, columns)
    index = _zigzag_of_row(columns)
    blocks = levels.take(index, 2, mode="clip")
    return blocks.reshape(batch, rows, columns, 64)


@functools.lru_cache(maxsize=4)
def _zigzag_of_row(columns: int) -> ndarray:
    """Where the coefficients of a row of blocks lie in [8, columns, 8], block by block."""
    vertical, horizontal = numpy.divmod(ZIGZAG, 8)
    block = numpy.arange(columns)[:, None]
    places = (vertical * columns + block) * 8 + horizontal
    return places.ravel()


def _check_range(planes: ndarray, columns: int) -> None:
    """Raise ValueError for coefficients [B, rows, 8·columns·8] that Huffman codes do not cover."""
    if planes.min() >= -1023 and planes.max() <= 1023:
        return
    blocks = planes.reshape(-1, 8, columns, 8)
    lowest = numpy.full((8, 1, 8), -1023)
    lowest[0, 0, 0] = -1024
    too_low = blocks < lowest
    too_high = blocks > 1023
    wrong = blocks[too_low | too_high]
    if len(wrong) > 0:
        raise ValueError(
            f"a coefficient is {wrong[0]}; a file holds -1023 to 1023, and -1024 at [0, 0]"
        )


def _file(
    components: list[Component],
    tables: ndarray,
    size: tuple[int, int],
    options: FileOptions,
    colour: str,
) -> bytes:
    """The file of one image, whose tables are in zigzag order."""
    table_numbers = _table_numbers(tables, len(components), colour)
    transform = _ADOBE_TRANSFORM.get(colour)
    if transform is None:
        application = _segment(_APP0, _JFIF)
    else:
        application = _segment(_APP14, _ADOBE + bytes([transform]))
    parts = [_SOI, application]
    for number in dict.fromkeys(table_numbers):
        parts.append(_quantisation_segment(number, tables[number]))
    has_wide_table = any(tables[number].max() > 255 for number in table_numbers)
    frame = _EXTENDED if has_wide_table else _BASELINE
    if options.progressive:
        frame = _PROGRESSIVE
    body = _frame_body(components, table_numbers, size)
    parts.append(_segment(frame, body))
    interval_before = 0
    is_ycbcr = len(components) == 3 and colour == YCBCR
    for scan in scans_of(len(components), options.progressive, is_ycbcr):
        interval = _restart_interval(scan, components, options)
        codes = codes_of_scan(scan, components, interval)
        huffman: list[Huffman | None] = list(STANDARD_CODES)
        if options.optimize or options.progressive:
            huffman = optimal(codes)
        parts.append(_huffman_segments(scan, components, huffman))
        if interval != interval_before:
            parts.append(_segment(_DRI, interval.to_bytes(2, "big")))
            interval_before = interval
        parts.append(_segment(_SOS, _scan_body(scan, components)))
        parts.append(_with_restart_markers(packed(codes, huffman)))
    parts.append(_EOI)
    return b"".join(parts)


def _table_numbers(tables: ndarray, count: int, colour: str) -> list[int]:
    """Which table each of `count` components uses. In YCCK equal ones are stored once."""
    numbers = table_indices(len(tables), count)
    if colour != YCCK:
        return numbers
    stored = tables.tolist()
    return [stored.index(stored[number]) for number in numbers]


def _segment(marker: int, body: bytes) -> bytes:
    size = len(body) + 2
    return bytes([0xFF, marker]) + size.to_bytes(2, "big") + body


def _quantisation_segment(number: int, table: ndarray) -> bytes:
    """A table in zigzag order, of bytes, or of two bytes each where an entry needs them."""
    is_wide = table.max() > 255
    precision = 16 if is_wide else 0
    entries = table.astype(">u2" if is_wide else "u1")
    return _segment(_DQT, bytes([precision + number]) + entries.tobytes())


def _frame_body(
    components: list[Component], table_numbers: list[int], size: tuple[int, int]
) -> bytes:
    """Bits per sample, size, and of each component its name, its factors and its table."""
    height, width = size
    body = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    body += bytes([len(components)])
    for i, component in enumerate(components):
        factors = 16 * component.across + component.down
        body += bytes([component.name, factors, table_numbers[i]])
    return body


def _restart_interval(scan: Scan, components: list[Component], options: FileOptions) -> int:
    """After how many MCUs of a scan there is a restart marker; 0 for never."""
    if options.restart_marker_rows > 0:
        interval = options.restart_marker_rows * mcus_across(scan, components)
        return min(interval, _LARGEST_INTERVAL)
    return options.restart_marker_blocks


def _huffman_segments(
    scan: Scan, components: list[Component], huffman: list[Huffman | None]
) -> bytes:
    """The Huffman tables of a scan, in the order in which its components use them."""
    segments = {}
    for number in scan.components:
        table = components[number].huffman
        if scan.first == 0 and scan.high == 0:
            segments[2 * table] = table  # class 0: DC
        if scan.last > 0:
            segments[2 * table + 1] = 16 + table  # class 1: AC
    parts = []
    for index, name in segments.items():
        codes = huffman[index]
        assert codes is not None  # optimal tables exist wherever a component has codes
        body = bytes([name]) + codes.counts + codes.symbols
        parts.append(_segment(_DHT, body))
    return b"".join(parts)


def _scan_body(scan: Scan, components: list[Component]) -> bytes:
    """Of each component its name and its Huffman tables, then which coefficients the scan holds."""
    body = bytes([len(scan.components)])
    for number in scan.components:
        component = components[number]
        table = component.huffman
        has_dc_codes = scan.first == 0 and scan.high == 0
        has_ac_codes = scan.last > 0
        body += bytes([component.name, 16 * table * has_dc_codes + table * has_ac_codes])
    return body + bytes([scan.first, scan.last, 16 * scan.high + scan.low])


def _with_restart_markers(intervals: list[bytes]) -> bytes:
    """Join the intervals of a scan by the markers 0xFFD0 to 0xFFD7, in turn."""
    parts = [intervals[0]]
    for i, interval in enumerate(intervals[1:]):
        marker = 0xD0 + i % 8
        parts.append(bytes([0xFF, marker]))
        parts.append(interval)
    return b"".join(parts)
