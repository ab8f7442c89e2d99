"""Quantisation tables and chroma sampling: of a quality, of a user, or of a file's header.

Tables are in natural (row by row) order. Source: ITU-T T.81, Annexes B and K; the scaling by a
quality and the guesses about colour are libjpeg's.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor

from .params import show
from .surrogate import declare

Tables = tuple[tuple[int, ...], ...]
SAMPLINGS = {  # how many pixels share a chroma sample: across, down
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:2:0": (2, 2),
    "4:4:0": (1, 2),
}
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
_ZIGZAG = sorted(
    range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)
)

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


def sampling_name(given: object) -> object:
    """The name of a sampling: 420 and "420" mean "4:2:0". Other values are returned unchanged."""
    name = ":".join(str(given))
    return name if name in SAMPLINGS else given


def check_tables(given: object) -> Tables:
    """1 to 3 tables of 64 integers as nested tuples, from nested or flat sequences or an array."""
    values = _flat(given)
    if len(values) not in (64, 128, 192) or not all(isinstance(value, Real) for value in values):
        raise ValueError(
            f"tables={show(given)} must be 1 to 3 tables of 64 integers: "
            "luma, chroma or luma, Cb, Cr"
        )
    for value in values:
        if value != value // 1 or not 1 <= value <= LARGEST:
            raise ValueError(
                f"tables hold {value:g}; every entry must be an integer from 1 to {LARGEST}"
            )
    return tuple(tuple(int(v) for v in values[i : i + 64]) for i in range(0, len(values), 64))


def _flat(given: object) -> list:
    given = given.tolist() if hasattr(given, "tolist") else given  # arrays and tensors
    return (
        [value for item in given for value in _flat(item)]
        if isinstance(given, (list, tuple))
        else [given]
    )


def read_header(file: str | Path | bytes) -> tuple[Tables, str]:
    """(tables, subsampling) of a JPEG file or its bytes: baseline, optimised or progressive.

    Tables: one of a grayscale file, else luma and chroma, or luma, Cb and Cr where those differ.
    Raises ValueError naming what is damaged, or what the model does not cover.
    """
    data = (
        bytes(file) if isinstance(file, (bytes, bytearray, memoryview)) else Path(file).read_bytes()
    )
    tables: dict[int, tuple[int, ...]] = {}
    used: dict[int, tuple[int, ...]] = {}  # each component's table when its first scan began
    components: list[tuple[int, int, int, int]] = []
    jfif = False
    transform: int | None = None
    for marker, body in _segments(data):
        if marker == _DQT:
            tables |= _quantisation(body)
        elif marker == _APP0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) > 11:
            transform = body[11]
        elif marker in _UNSUPPORTED:
            raise ValueError(
                f"this JPEG uses {_UNSUPPORTED[marker]}, which the model does not cover"
            )
        elif marker in _SOF:
            if components:
                raise ValueError("this JPEG is damaged: it has two frame headers")
            components = _frame(body)
        elif marker == _SOS:
            if not components:
                raise ValueError(
                    "this JPEG is damaged: it has no frame header before its first scan"
                )
            for ident, _, _, table in components:
                if ident in body[1 : 1 + 2 * body[0] : 2] and ident not in used:
                    if table not in tables:
                        raise ValueError(
                            f"this JPEG is damaged: it lacks quantisation table {table}"
                        )
                    used[ident] = tables[table]
            if len(used) == len(components):
                break
    if len(components) == 3:
        _check_colour([ident for ident, *_ in components], jfif, transform)
    each = [used[ident] for ident, *_ in components]
    if len(each) == 3 and each[1] == each[2]:
        each.pop()
    return check_tables(each), _sampling(components)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of each segment; skips what is between them, such as a scan's data."""
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"this is no JPEG: it starts with {data[:4]!r}")
    at = 2
    while True:
        at = data.find(b"\xff", at) + 1
        marker = data[at] if 0 < at < len(data) else _EOI
        if marker in _ALONE:
            continue
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        if marker == _EOI or at + 1 + size > len(data):
            raise ValueError(
                f"this JPEG is truncated at byte {len(data)}, "
                "before the first scan of each component"
            )
        if size < 2:
            raise ValueError(f"this JPEG is damaged: the segment at byte {at} has length {size}")
        yield marker, data[at + 3 : at + 1 + size]
        at += 1 + size


def _quantisation(body: bytes) -> dict[int, tuple[int, ...]]:
    tables = {}
    while body:
        precision, ident = body[0] >> 4, body[0] & 15
        width = 1 + precision
        if precision > 1 or ident > 3 or len(body) < 1 + 64 * width:
            raise ValueError(
                "this JPEG is damaged: a quantisation table is incomplete or has no known kind"
            )
        zigzag = [
            int.from_bytes(body[i : i + width], "big") for i in range(1, 1 + 64 * width, width)
        ]
        tables[ident] = tuple(value for _, value in sorted(zip(_ZIGZAG, zigzag, strict=True)))
        body = body[1 + 64 * width :]
    return tables


def _frame(body: bytes) -> list[tuple[int, int, int, int]]:
    """(id, horizontal factor, vertical factor, table) of each component."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise ValueError(f"this JPEG is damaged: its frame header has {len(body)} bytes")
    if body[0] != 8:
        raise ValueError(f"this JPEG has {body[0]} bits per sample; the model covers 8")
    if not any(body[1:3]) or not any(body[3:5]):
        raise ValueError(
            "this JPEG does not say its size in its frame header, which the model does not cover"
        )
    if body[5] not in (1, 3):
        kind = "CMYK or YCCK" if body[5] == 4 else "no known colour space"
        raise ValueError(
            f"this JPEG has {body[5]} components ({kind}); the model covers grayscale and YCbCr"
        )
    return [
        (body[i], body[i + 1] >> 4, body[i + 1] & 15, body[i + 2]) for i in range(6, len(body), 3)
    ]


def _check_colour(idents: list[int], jfif: bool, transform: int | None) -> None:
    """libjpeg's guess: YCbCr, unless an Adobe marker or the component ids say RGB."""
    if not jfif and (transform == 0 or (transform is None and bytes(idents) == b"RGB")):
        raise ValueError(
            "this JPEG stores RGB without conversion; the model covers grayscale and YCbCr"
        )


def _sampling(components: list[tuple[int, int, int, int]]) -> str:
    if len(components) == 1:
        return "4:2:0"  # of no consequence
    (h, v), *chroma = [(h, v) for _, h, v, _ in components]
    for name, (across, down) in SAMPLINGS.items():
        fits = (
            h * v > 0 and h * v + sum(ch * cv for ch, cv in chroma) <= 10
        )  # blocks that libjpeg decodes at once
        if fits and all((h, v) == (ch * across, cv * down) for ch, cv in chroma):
            return name
    factors = ", ".join(f"{ch}x{cv}" for ch, cv in [(h, v), *chroma])
    raise ValueError(
        f"this JPEG has sampling factors {factors}; the model covers {', '.join(SAMPLINGS)}"
    )
