"""Write PNG files that keep what a photo's file held: 16 bits, alpha, ICC profile and EXIF data.

Pillow cannot write colours of 16 bits. `is_whole` tells whether a PNG was cut since.
Source: Portable Network Graphics Specification (Third Edition), W3C 2025.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy

from degrade.photofile import Levels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {  # by the number of channels
    1: 0,  # grey
    2: 4,  # grey and alpha
    3: 2,  # colours
    4: 6,  # colours and alpha
}
_PAETH = 4  # the number of the filter that every row gets
_PERCEPTUAL = b"\x00"  # the rendering intent in the chunk sRGB
_PROFILE_NAME = b"ICC profile\x00"
_DEFLATE = b"\x00"  # the compression method in the chunk iCCP
_BAND = 256  # this many rows are filtered at a time, which bounds the memory
_LEVEL = 6  # of compression
_EXIF_MARK = b"Exif\x00\x00"  # JPEG files have it before the data, PNG files do not


def png(levels: Levels, profile: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Encode an image as PNG.

    levels: [h, w, 1 to 4], uint8 or uint16; the last of 2 or 4 channels is alpha. profile: ICC;
    None marks the colours as sRGB, so that viewers agree on them.
    """
    chunks = [_SIGNATURE, _header(levels)]
    if profile is None:
        chunks.append(_chunk(b"sRGB", _PERCEPTUAL))
    else:
        compressed = zlib.compress(profile)
        data = _PROFILE_NAME + _DEFLATE + compressed
        chunks.append(_chunk(b"iCCP", data))
    if exif is not None:
        data = exif.removeprefix(_EXIF_MARK)
        chunks.append(_chunk(b"eXIf", data))
    chunks.append(_chunk(b"IDAT", _compressed(levels)))
    chunks.append(_end())
    return b"".join(chunks)


def is_whole(path: Path) -> bool:
    """Whether a file exists and ends as a PNG does; a copy that was stopped does not."""
    if not path.is_file():
        return False
    end = _end()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(end)))
        return file.read() == end


def _end() -> bytes:
    """The last chunk of every PNG."""
    return _chunk(b"IEND", b"")


def _header(levels: Levels) -> bytes:
    """The chunk with size, depth and type of colours; compression, filters and order are 0."""
    height, width, channels = levels.shape
    bits = 8 * levels.itemsize
    colour_type = _COLOUR_TYPES[channels]
    data = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return _chunk(b"IHDR", data)


def _chunk(name: bytes, data: bytes) -> bytes:
    named_data = name + data
    length = struct.pack(">I", len(data))
    checksum = struct.pack(">I", zlib.crc32(named_data))
    return length + named_data + checksum


def _compressed(levels: Levels) -> bytes:
    """Filter and compress the rows, a band of them at a time."""
    compressor = zlib.compressobj(_LEVEL)
    parts = []
    row_above = numpy.zeros_like(levels[:1])
    for top in range(0, len(levels), _BAND):
        band = levels[top : top + _BAND]
        filtered = _filtered(band, row_above)
        parts.append(compressor.compress(filtered))
        row_above = band[-1:]
    parts.append(compressor.flush())
    return b"".join(parts)


def _filtered(band: Levels, row_above: Levels) -> bytes:
    """Apply the Paeth filter to the rows of a band; each row begins with the filter's number.

    row_above: the row before the band.
    """
    with_above = numpy.concatenate([row_above, band])
    values = _bytes_of(with_above)
    current = values[1:]
    up = values[:-1]
    pixel = band.shape[2] * band.itemsize  # in bytes
    left = _shifted(current, pixel)
    up_left = _shifted(up, pixel)
    difference = current - _paeth(left, up, up_left)
    residual = difference.astype(numpy.uint8)  # modulo 256
    numbers = numpy.full((len(band), 1), _PAETH, numpy.uint8)
    rows = numpy.concatenate([numbers, residual], 1)
    return rows.tobytes()


def _bytes_of(levels: Levels) -> Levels:
    """The bytes of each row in the order of the file, as int16, so that differences fit."""
    big_endian = levels.dtype.newbyteorder(">")
    stored = levels.astype(big_endian)
    row_bytes = stored.view(numpy.uint8).reshape(len(levels), -1)
    return row_bytes.astype(numpy.int16)


def _shifted(values: Levels, pixel: int) -> Levels:
    """For each byte, that of the pixel to the left; 0 where there is none."""
    count = values.shape[1]
    padded = numpy.pad(values, ((0, 0), (pixel, 0)))
    return padded[:, :count]


def _paeth(left: Levels, up: Levels, up_left: Levels) -> Levels:
    """Choose the neighbour nearest to left + up - up_left; of equally near ones the first."""
    to_left = abs(up - up_left)
    to_up = abs(left - up_left)
    to_up_left = abs(left + up - 2 * up_left)
    up_is_nearer = to_up <= to_up_left
    prediction = numpy.where(up_is_nearer, up, up_left)
    left_beats_up = to_left <= to_up
    left_is_nearest = left_beats_up & (to_left <= to_up_left)
    return numpy.where(left_is_nearest, left, prediction)
