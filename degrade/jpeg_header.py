"""Quantisation tables and chroma sampling: of a quality, given by hand, or read from a file's header.

Tables are in natural (row by row) order. Source: ITU-T T.81, Annexes B and K; the scaling by a
quality and the guesses about colour are libjpeg's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .surrogate import declare

Tables = tuple[tuple[int, ...], ...]
SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}  # how much smaller chroma is: across, down
LARGEST = 32767  # what libjpeg caps a table's entries at

# Tables K.1 (luminance) and K.2 (chrominance)
STANDARD = torch.tensor([
    [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
     [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
     [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
     [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]],
    [[17, 18, 24, 47, 99, 99, 99, 99], [18, 21, 26, 66, 99, 99, 99, 99],
     [24, 26, 56, 99, 99, 99, 99, 99], [47, 66, 99, 99, 99, 99, 99, 99],
     *[[99] * 8] * 4],
])  # fmt: skip
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))

_UNSUPPORTED = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical lossless",
    0xC9: "arithmetic coding", 0xCA: "arithmetic coding", 0xCB: "arithmetic coding",
    0xCD: "arithmetic coding", 0xCE: "arithmetic coding", 0xCF: "arithmetic coding",
}  # fmt: skip
_SOF, _SOS, _EOI, _DQT, _APP0, _APP14 = (0xC0, 0xC1, 0xC2), 0xDA, 0xD9, 0xDB, 0xE0, 0xEE


def quality_tables(quality: Tensor) -> Tensor:
    """The luminance and chrominance tables [B, 2, 8, 8] of qualities [B], 1 to 100.

    clamp(⌊(K·S + 50) / 100⌋, 1, 255) with S = ⌊5000 / q⌋ below 50, else 200 - 2q. Gradient: all
    roundings straight through, zero where the clamp holds.
    """
    each = quality.view(-1, 1, 1, 1).expand(-1, *STANDARD.shape)
    q, base = each.detach(), STANDARD.to(quality)
    scale = torch.where(q < 50, (5000 / q).floor(), 200 - 2 * q)
    entry = ((base * scale + 50) / 100).floor()
    slope = base / 100 * torch.where(q < 50, -5000 / q**2, -2.0)
    return declare(each, entry.clamp(1, 255), slope * ((entry >= 1) & (entry <= 255)))


def check_tables(given: object) -> Tables:
    """1 to 3 tables of 64 integers as nested tuples, from nested or flat sequences or an array."""
    try:
        values = torch.as_tensor(given, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError):
        values = []
    if len(values) not in (64, 128, 192):
        raise ValueError(f"tables={_short(given)} must be 1 to 3 tables of 64 integers: luma, chroma or luma, Cb, Cr")
    for value in values:
        if value != value // 1 or not 1 <= value <= LARGEST:
            raise ValueError(f"tables hold {value:g}; every entry must be an integer from 1 to {LARGEST}")
    return tuple(tuple(int(v) for v in values[i : i + 64]) for i in range(0, len(values), 64))


def read_header(file: str | Path | bytes) -> tuple[Tables, str]:
    """(tables, subsampling) of a JPEG file or its bytes: baseline, optimised or progressive.

    Tables: one of a grayscale file, else luma and chroma, or luma, Cb and Cr where those differ.
    Raises ValueError naming what is damaged, or what the model does not cover.
    """
    data = bytes(file) if isinstance(file, (bytes, bytearray, memoryview)) else Path(file).read_bytes()
    tables: dict[int, tuple[int, ...]] = {}
    components, jfif, transform = None, False, None
    for marker, body in _segments(data):
        if marker == _DQT:
            tables |= _quantisation(body)
        elif marker == _APP0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) > 11:
            transform = body[11]
        elif marker in _UNSUPPORTED:
            raise ValueError(f"this JPEG uses {_UNSUPPORTED[marker]}, which the model does not cover")
        elif marker in _SOF:
            components = _frame(body)
        elif marker == _SOS:
            break
    if components is None:
        raise ValueError("this JPEG has no frame header before its first scan; it is damaged")
    _check_colour([ident for ident, *_ in components], jfif, transform)
    missing = [table for *_, table in components if table not in tables]
    if missing:
        raise ValueError(f"this JPEG lacks quantisation table {missing[0]}; it is damaged")
    used = [tables[table] for *_, table in components]
    if len(used) == 3 and used[1] == used[2]:
        used.pop()
    return check_tables(used), _sampling(components)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of the segments up to the first scan."""
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"this is no JPEG: it starts with {data[:4]!r}")
    at, marker = 2, 0
    while marker != _SOS:
        if data[at : at + 1] not in (b"\xff", b""):
            raise ValueError(f"this JPEG is damaged: byte {at} should start a marker")
        while data[at : at + 1] == b"\xff":  # any number of them may fill
            at += 1
        head = data[at : at + 3]
        size = int.from_bytes(head[1:], "big")
        if len(head) < 3 or head[0] == _EOI or at + 1 + size > len(data):
            raise ValueError(f"this JPEG is truncated at byte {len(data)}, before its first scan")
        if size < 2:
            raise ValueError(f"this JPEG is damaged: the segment at byte {at} has length {size}")
        marker = head[0]
        yield marker, data[at + 3 : at + 1 + size]
        at += 1 + size


def _quantisation(body: bytes) -> dict[int, tuple[int, ...]]:
    tables = {}
    while body:
        wide, ident = body[0] >> 4, body[0] & 15
        width = 2 if wide else 1
        zigzag = [int.from_bytes(body[i : i + width], "big") for i in range(1, 1 + 64 * width, width)]
        if wide > 1 or len(body) < 1 + 64 * width:
            raise ValueError("this JPEG is damaged: a quantisation table is incomplete")
        tables[ident] = tuple(value for _, value in sorted(zip(_ZIGZAG, zigzag, strict=True)))
        body = body[1 + 64 * width :]
    return tables


def _frame(body: bytes) -> list[tuple[int, int, int, int]]:
    """(id, horizontal factor, vertical factor, table) of each component."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ValueError("this JPEG is damaged: its frame header is incomplete")
    if body[0] != 8:
        raise ValueError(f"this JPEG has {body[0]} bits per sample; the model covers 8")
    if body[5] not in (1, 3):
        kind = "CMYK or YCCK" if body[5] == 4 else "no known colour space"
        raise ValueError(f"this JPEG has {body[5]} components ({kind}); the model covers grayscale and YCbCr")
    return [(body[i], body[i + 1] >> 4, body[i + 1] & 15, body[i + 2]) for i in range(6, 6 + 3 * body[5], 3)]


def _check_colour(idents: list[int], jfif: bool, transform: int | None) -> None:
    """libjpeg's guess: YCbCr, unless an Adobe marker or the component ids say RGB."""
    untold = not jfif and transform is None
    rgb = (not jfif and transform == 0) or (untold and bytes(idents) == b"RGB")
    if len(idents) == 3 and rgb:
        raise ValueError("this JPEG stores RGB without conversion; the model covers grayscale and YCbCr")


def _sampling(components: list[tuple[int, int, int, int]]) -> str:
    if len(components) == 1:
        return "4:2:0"  # of no consequence
    (h, v), *chroma = [(h, v) for _, h, v, _ in components]
    for name, (across, down) in SAMPLINGS.items():
        if all((h, v) == (ch * across, cv * down) and ch and cv for ch, cv in chroma):
            return name
    factors = ", ".join(f"{ch}x{cv}" for ch, cv in [(h, v), *chroma])
    raise ValueError(f"this JPEG has sampling factors {factors}; the model covers {', '.join(SAMPLINGS)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
