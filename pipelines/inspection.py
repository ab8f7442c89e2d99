"""`degrade inspect` of pictures: what the file is, and a guess of what happened to it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageCms
from rich.text import Text

from degrade import Identity
from degrade.forensics import Guess, guess
from degrade.imagefile import FORMATS, contents

from . import files, tables
from .console import say, shortened

BITS_PER_SAMPLE = 258  # the tag of TIFF


def show(path: Path) -> int:
    """Describe one picture. Returns the exit code."""
    result = _guess(path)
    tables.show(tables.facts(file_facts(path)))
    table = tables.columns("what happened", "confidence", "why")
    for finding in result.findings:
        # A finding without a stage is a remark, whose confidence would say nothing.
        confidence = f"{finding.confidence:.2f}" if finding.stage else ""
        stage, why = shortened(finding.stage), shortened(finding.why)
        table.add_row(Text(stage), confidence, Text(why))
    if result.clipped:
        share = f"{result.clipped:.2%} of the pixels lie in areas of 0 or 255"
        table.add_row("", "", f"{share}, which tell less than others")
    if table.row_count:
        tables.show(table)
    tables.show(Text(shortened(str(result.operator))))
    for alternative in result.alternatives:
        likelihood = f"{alternative.likelihood:.2f} times as likely"
        tables.show(Text(shortened(f"or, {likelihood}: {alternative.operator}")))
    return 0


def show_folder(folder: Path) -> int:
    """Describe every picture below a folder, a row each. Returns the exit code."""
    sources = files.gather([folder])
    table = tables.columns("picture", "size", "mode", "what happened", "least confidence")
    failed = 0
    for source in sources:
        try:
            about, result = file_facts(source.path), _guess(source.path)
        except (ValueError, OSError) as error:
            say(f"error: {error}")
            failed += 1
            continue
        happened = Text(shortened(_what_happened(result)))
        name = Text(source.relative.as_posix())
        table.add_row(name, about["size"], about["mode"], happened, _least_confidence(result))
    if table.row_count:
        tables.show(table)
    if not failed:
        return 0
    return 2 if failed == len(sources) else 3


def _guess(path: Path) -> Guess:
    """`guess`, whose errors name the file as a command does."""
    try:
        return guess(path)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("file=")) from error


def _what_happened(result: Guess) -> str:
    """The operator, and what no operator describes, such as a JPEG of a rare chroma sampling."""
    remarks = [finding.why for finding in result.findings if not finding.stage]
    if result.operator == Identity() and remarks:
        return "; ".join(remarks)
    return "; ".join([str(result.operator), *remarks])


def _least_confidence(result: Guess) -> str:
    confidences = [finding.confidence for finding in result.findings if finding.stage]
    return f"{min(confidences):.2f}" if confidences else ""


def file_facts(path: Path) -> dict[str, str]:
    """Format, size, mode, depth, transparency, palette and colour profile of a picture's file.

    Raises ValueError for a file that Pillow cannot open.
    """
    data = contents(path)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            palette = image.palette if image.mode == "P" else None
            return {
                "format": image.format or "",
                "size": f"{image.width}×{image.height}",
                "mode": f"{image.mode}, {_depth_text(image, data)}",
                "transparency": _transparency(image),
                "palette": f"{len(palette.colors)} colours" if palette else "none",
                "colour profile": _profile_name(image.info.get("icc_profile")),
            }
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise ValueError(f"{path} is not an image that can be read") from error


def _depth_text(image: Image.Image, data: bytes) -> str:
    """For example "8 bits per channel"; a palette or black and white has no channels."""
    depth = _depth(image, data)
    unit = "pixel" if image.mode in ("1", "P") else "channel"
    return f"{depth} bit per {unit}" if depth == 1 else f"{depth} bits per {unit}"


def _depth(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file; Pillow opens 16-bit colour as 8 bits."""
    if image.format == "PNG":
        return data[24]  # in the IHDR chunk
    tags = getattr(image, "tag_v2", {})
    if BITS_PER_SAMPLE in tags:
        return int(tags[BITS_PER_SAMPLE][0])
    if image.mode == "1":
        return 1
    if image.mode.startswith("I;16"):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def _transparency(image: Image.Image) -> str:
    if not image.has_transparency_data:
        return "none"
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    if lowest == 255:
        return "an alpha channel, opaque everywhere"
    return "an alpha channel; the picture is laid over white"


def _profile_name(profile: bytes | None) -> str:
    if profile is None:
        return "none; sRGB is assumed"
    try:
        return ImageCms.getProfileDescription(io.BytesIO(profile)).strip() or "unnamed"
    except (OSError, ImageCms.PyCMSError):
        return "broken; sRGB is assumed"
