"""How a file itself was saved, as far as its header tells."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from ..codec import Codec
from ..geometry import Turn
from ..jpeg import JPEG
from ..jpeg.encoders import ENCODERS, LIBJPEG_TURBO
from ..jpeg.header import quality_tables
from ..jpeg.layout import FOUR_CHANNELS, YCBCR, base_tables
from ..jpeg.parse import read_header
from ..jpeg.steps import table_indices
from ..photofile import EXIF_TURNS, upright
from .evidence import Evidence, Finding
from .webp import is_lossless, quantiser, webp_quality

if TYPE_CHECKING:
    from PIL.Image import Image


_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class LastSave:
    """What the file itself says about how it was saved.

    pixels: as they were saved, before `turn` made them upright. table: of luma, for a JPEG.
    other_codec: whether another lossy codec wrote the file.
    """

    pixels: numpy.ndarray
    stages: list[Evidence]
    table: Tensor | None = None
    turn: Turn | None = None
    other_codec: bool = False


def last_save(data: bytes, displayed: numpy.ndarray) -> LastSave:
    """Read how the file was saved; `displayed` holds its pixels as a viewer shows them."""
    from PIL import Image as PillowImage

    with PillowImage.open(io.BytesIO(data)) as image:
        codec = image.format
        if codec == "WEBP":
            return _last_webp(data, displayed, image)
        if codec in ("JPEG", "MPO"):
            return _last_jpeg(data, displayed, image)
    if codec in ("AVIF", "JPEG2000"):
        why = (
            f"the file is {codec}, whose settings its pixels do not tell; "
            f"codec:{codec.lower()},75 would be a guess"
        )
        return _unknown_codec(displayed, why)
    return LastSave(displayed, [])


def _last_jpeg(data: bytes, displayed: numpy.ndarray, image: Image) -> LastSave:
    """Describe a JPEG file by the tables, the sampling and the orientation of its header."""
    orientation = image.getexif().get(_ORIENTATION)
    try:
        jpeg = _with_quality(JPEG.from_file(data))
    except ValueError as error:
        return _unknown_codec(displayed, f"the file is a JPEG, but {error}")
    if jpeg.colour in FOUR_CHANNELS:
        return _unknown_codec(displayed, _words_about_cmyk(jpeg))
    pixels = numpy.asarray(image.convert("RGB"))
    is_grey = jpeg.tables is not None and len(jpeg.tables) == 1
    why = "the file's own tables" if is_grey else "the file's own tables and sampling"
    why += _words_about_encoder(jpeg)
    turn = None
    if orientation in EXIF_TURNS:
        turn = Turn(*EXIF_TURNS[orientation])
        why += "; it was compressed as it lay, and EXIF turns it upright"
    if not numpy.array_equal(upright(pixels, orientation or 1), displayed):
        why += "; its pixels are shown through a colour profile, which no operator holds"
    finding = Finding(str(jpeg), 1.0, why)
    tables = read_header(data).tables
    table = torch.tensor(tables[0]).double()
    return LastSave(pixels, [Evidence(jpeg, finding)], table, turn)


def _last_webp(data: bytes, displayed: numpy.ndarray, image: Image) -> LastSave:
    """Describe a WebP file by its quality, which follows from the quantiser in its header."""
    coarseness = quantiser(data)
    if coarseness is None:
        if is_lossless(data):
            return LastSave(displayed, [])
        return _unknown_codec(displayed, "the file is a WEBP whose header says no quantiser")
    quality = webp_quality(image.convert("RGB"), coarseness)
    codec = Codec("webp", quality)
    why = f"the quantiser in the file's header is that of about quality {quality}"
    finding = Finding(str(codec), 0.95, why)
    return LastSave(displayed, [Evidence(codec, finding)], other_codec=True)


def _unknown_codec(displayed: numpy.ndarray, why: str) -> LastSave:
    """Describe a lossy file whose settings are not known."""
    evidence = Evidence(None, Finding("", 1.0, why))
    return LastSave(displayed, [evidence], other_codec=True)


def _with_quality(jpeg: JPEG) -> JPEG:
    """Write a JPEG by its quality if its tables are those of libjpeg-turbo, or of libjpeg 9e."""
    for encoder in (LIBJPEG_TURBO, "ijg9e"):
        quality = _quality_of(jpeg, ENCODERS[encoder].base)
        if quality is not None:
            return JPEG(quality, jpeg.subsampling, encoder=encoder, colour=jpeg.colour)
    return jpeg


def _quality_of(jpeg: JPEG, base: Tensor) -> int | None:
    """The highest quality at which an encoder with these base tables has a JPEG's tables."""
    if jpeg.tables is None:
        return None
    qualities = torch.arange(1.0, 101, dtype=torch.float32, device="cpu")
    base_of_components = base_tables(jpeg.colour, base)
    tables_of_qualities = quality_tables(qualities, base_of_components).flatten(2)
    given = torch.tensor(jpeg.tables, dtype=tables_of_qualities.dtype, device="cpu")
    is_grey = jpeg.colour == YCBCR and len(given) == 1
    count = 1 if is_grey else len(base_of_components)
    if len(given) > count:
        return None
    tables = given[table_indices(len(given), count)]
    is_equal = tables_of_qualities[:, :count] == tables
    has_tables = is_equal.flatten(1).all(1)
    indices = has_tables.nonzero()
    if len(indices) == 0:
        return None
    return int(indices[-1]) + 1


def _words_about_cmyk(jpeg: JPEG) -> str:
    """How a JPEG of CMYK was saved, which no operator on the RGB image repeats."""
    settings = str(jpeg)
    if jpeg.tables is not None:
        settings = f"colour={jpeg.colour},subsampling={jpeg.subsampling}, not with libjpeg's tables"
    words = _words_about_encoder(jpeg)
    return f"the file is a JPEG of CMYK, which is shown as RGB; it was saved as {settings}{words}"


def _words_about_encoder(jpeg: JPEG) -> str:
    """What the tables of a JPEG tell of the library that wrote it."""
    if jpeg.encoder == "ijg9e":
        return "; the tables are those of IJG's libjpeg 9e and 9f"
    quality = _quality_of(jpeg, ENCODERS["mozjpeg-notrellis"].base)
    if quality is not None and jpeg.tables is not None:
        return f"; the tables are MozJPEG's of quality {quality}, whose trellis search has no model"
    return ""
