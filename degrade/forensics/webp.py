"""Read how coarsely a lossy WebP file was quantised, and estimate the quality it was saved with.

Source: RFC 6386, sections 7 (boolean decoder) and 9 (frame header); RFC 9649 (the container).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_START = b"\x9d\x01\x2a"  # of a key frame, after a tag of 3 bytes
_LONGEST = 1024  # pixels: only the middle of a larger picture is saved again
_SEGMENTS = 4


class _Bits:
    """VP8's boolean decoder, for values that are 0 or 1 with equal probability."""

    def __init__(self, data: bytes):
        self.data = data
        self.value = int.from_bytes(data[:2], "big")
        self.position = 2
        self.range = 255
        self.shifts = 0

    def bit(self) -> int:
        split = 1 + (((self.range - 1) * 128) >> 8)
        is_one = self.value >= split << 8
        if is_one:
            self.range -= split
            self.value -= split << 8
        else:
            self.range = split
        while self.range < 128:
            self._shift()
        return int(is_one)

    def _shift(self) -> None:
        self.value <<= 1
        self.range <<= 1
        self.shifts += 1
        if self.shifts == 8:
            self.shifts = 0
            if self.position < len(self.data):
                self.value |= self.data[self.position]
            self.position += 1

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = 2 * value + self.bit()
        return value

    def optional(self, bits: int) -> int:
        """A number with a sign, after a bit that says whether there is one; else 0."""
        if not self.bit():
            return 0
        value = self.number(bits)
        return -value if self.bit() else value


def quantiser(data: bytes) -> float | None:
    """The mean quantiser index of a lossy WebP file's segments, 0 (finest) to 127.

    None for a lossless or animated file, and for one that is damaged.
    """
    frame = _chunk(data, b"VP8 ")
    if frame is None or frame[3:6] != _START or frame[0] & 1:
        return None
    bits = _Bits(frame[10:])
    bits.number(2)  # colour space, clamping
    segments = _segment_quantisers(bits)
    _skip_filter(bits)
    bits.number(2)  # partitions
    base = bits.number(7)
    if segments is None:
        return float(base)
    values, are_absolute = segments
    mean = sum(values) / _SEGMENTS
    return mean if are_absolute else base + mean


def is_lossless(data: bytes) -> bool:
    """Whether the file is a lossless WebP."""
    return _chunk(data, b"VP8L") is not None


def _chunk(data: bytes, wanted: bytes) -> bytes | None:
    """What the chunk with a name holds; None without one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    position = 12
    while position + 8 <= len(data):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        if name == wanted:
            return data[start : start + length]
        position = start + length + length % 2
    return None


def _segment_quantisers(bits: _Bits) -> tuple[list[int], bool] | None:
    """(the quantiser of each segment, whether they are absolute); None without segments."""
    if not bits.bit():
        return None
    updates_map = bits.bit()
    quantisers = None
    if bits.bit():
        are_absolute = bool(bits.bit())
        values = [bits.optional(7) for _ in range(_SEGMENTS)]
        for _ in range(_SEGMENTS):
            bits.optional(6)  # loop filter
        quantisers = values, are_absolute
    if updates_map:
        for _ in range(3):
            if bits.bit():
                bits.number(8)
    return quantisers


def _skip_filter(bits: _Bits) -> None:
    bits.number(1 + 6 + 3)  # type, level, sharpness
    has_changes = bits.bit()
    if has_changes and bits.bit():
        for _ in range(8):
            bits.optional(6)


def webp_quality(picture: Image, wanted: float) -> int:
    """The quality, 1 to 100, at which Pillow saves a picture with the quantiser `wanted`.

    How the encoder divides a picture into segments depends on what it shows. So the picture itself
    is saved at several qualities; the quantiser falls with quality.
    """
    width, height = picture.size
    left, top = max(0, width - _LONGEST) // 2, max(0, height - _LONGEST) // 2
    middle = picture.crop((left, top, min(width, left + _LONGEST), min(height, top + _LONGEST)))
    low, high = 1, 100
    while low < high:
        quality = (low + high) // 2
        if _quantiser_at(middle, quality) > wanted:
            low = quality + 1
        else:
            high = quality
    if low == 1:
        return low
    above = abs(_quantiser_at(middle, low) - wanted)
    below = abs(_quantiser_at(middle, low - 1) - wanted)
    return low if above <= below else low - 1


def _quantiser_at(picture: Image, quality: int) -> float:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality)
    value = quantiser(file.getvalue())
    assert value is not None  # Pillow saved it with loss
    return value
