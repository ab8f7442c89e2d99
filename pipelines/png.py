"""Write PNG files that keep what a photo's file held: 16 bits, alpha, ICC profile and EXIF data.

Pillow writes no colours of 16 bits.
Source: Portable Network Graphics Specification (Third Edition), W3C 2025.
"""

from __future__ import annotations

import struct
import zlib

import numpy

from degrade.photofile import Levels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_PAETH = 4  # the filter of every row
_PERCEPTUAL = b"\x00"  # the rendering intent, which PNG writes beside the name of sRGB
_BAND = 256  # rows that are filtered at a time, which bounds the memory
_LEVEL = 6  # of compression
_EXIF_MARK = b"Exif\x00\x00"  # which JPEG has before the data


def png(levels: Levels, profile: bytes | None = None, exif: bytes | None = None) -> bytes:
    """The bytes of a PNG file.

    levels: [h, w, 1 to 4], uint8 or uint16; the last of 2 or 4 channels is alpha. profile: ICC;
    None marks the colours as sRGB, so that viewers agree on them.
    """
    height, width, channels = levels.shape
    bits = 8 * levels.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [_SIGNATURE, _chunk(b"IHDR", header)]
    if profile is None:
        chunks.append(_chunk(b"sRGB", _PERCEPTUAL))
    else:
        chunks.append(_chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(profile)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(_EXIF_MARK)))
    chunks.append(_chunk(b"IDAT", _compressed(levels)))
    chunks.append(_chunk(b"IEND", b""))
    return b"".join(chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def _compressed(levels: Levels) -> bytes:
    """Filter and compress the rows, a band of them at a time."""
    compressor = zlib.compressobj(_LEVEL)
    parts = []
    above = numpy.zeros_like(levels[:1])
    for top in range(0, len(levels), _BAND):
        band = levels[top : top + _BAND]
        parts.append(compressor.compress(_filtered(band, above)))
        above = band[-1:]
    parts.append(compressor.flush())
    return b"".join(parts)


def _filtered(band: Levels, above: Levels) -> bytes:
    """The rows after the Paeth filter, each with the filter's number before it.

    above: the row before the band.
    """
    rows = len(band)
    big_endian = band.dtype.newbyteorder(">")
    with_above = numpy.concatenate([above, band]).astype(big_endian)
    values = with_above.view(numpy.uint8).reshape(rows + 1, -1).astype(numpy.int16)
    pixel = band.shape[2] * band.itemsize  # in bytes
    current = values[1:]
    up = values[:-1]
    left = _shifted(current, pixel)
    up_left = _shifted(up, pixel)
    residual = (current - _paeth(left, up, up_left)).astype(numpy.uint8)
    numbers = numpy.full((rows, 1), _PAETH, numpy.uint8)
    return numpy.concatenate([numbers, residual], 1).tobytes()


def _shifted(values: Levels, pixel: int) -> Levels:
    """The bytes of the pixel to the left; 0 where there is none."""
    return numpy.pad(values, ((0, 0), (pixel, 0)))[:, : values.shape[1]]


def _paeth(left: Levels, up: Levels, up_left: Levels) -> Levels:
    """Of the three neighbours the one nearest to left + up - up_left; ties in this order."""
    to_left = abs(up - up_left)
    to_up = abs(left - up_left)
    to_up_left = abs(left + up - 2 * up_left)
    up_is_nearest = to_up <= to_up_left
    prediction = numpy.where(up_is_nearest, up, up_left)
    left_is_nearest = (to_left <= to_up) & (to_left <= to_up_left)
    return numpy.where(left_is_nearest, left, prediction)
