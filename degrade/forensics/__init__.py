"""Estimate what happened to a file, as a chain of operators, from its pixels and its header.

The chain has the usual order: enlarged, noisy, saved as JPEG, cropped, saved again.
docs/forensics.md says how each stage is detected, how well, and what cannot be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..imagefile import contents
from ..operator import Operator
from ..params import show
from ..photofile import decode_photo
from .earlier import coarsest_jpeg, earlier_jpeg
from .enlargement import enlargement_evidence
from .evidence import Finding
from .histories import Alternative, alternatives_of, chain_of
from .noise import noise_evidence
from .saved import last_save
from .view import SIDE, View, clipped_share, middle

__all__ = ["SIDE", "Alternative", "Finding", "Guess", "guess"]

_SHARP = 0.9  # levels: a comb that is blurred more than this had noise added after its JPEG


@dataclass(frozen=True)
class Guess:
    """What happened to a file.

    operator: maps a clean picture of the file's displayed size to the file's pixels. findings: in
    the order of the chain. clipped: the share of pixels in areas of at least 3×3 pixels at 0 or
    255. alternatives: other histories whose evidence is nearly as strong, the likeliest first.
    """

    operator: Operator
    findings: tuple[Finding, ...]
    clipped: float
    alternatives: tuple[Alternative, ...] = ()


def guess(file: str | Path | bytes) -> Guess:
    """Estimate what happened to the picture in `file`, which is a path or the file's bytes.

    It detects an enlargement (1.3 to 8 times), noise, an earlier JPEG with libjpeg's tables on any
    block grid, and how the file itself was saved: for a JPEG, the header gives the tables and the
    orientation exactly; for a WebP, it gives the quality nearly. Each is one finding. A stage that
    is not detected may still have happened. The result is deterministic. Only the middle `SIDE`²
    pixels of a large picture are examined. Raises ValueError, which names the file, if it cannot be
    read as a picture.
    """
    name, data = _name_and_data(file)
    photo = decode_photo(data, name)
    displayed = photo.rgb8
    saved = last_save(data, displayed)
    hidden = photo.hidden
    if hidden is not None:
        hidden = middle(hidden)
    view = View(middle(saved.pixels), hidden)

    earlier, comb = earlier_jpeg(view, saved.table)
    grid, table = coarsest_jpeg(comb, saved.table)
    compressed = saved.other_codec or table is not None
    height, width = saved.pixels.shape[:2]
    enlargement = enlargement_evidence(view, (height, width), compressed)
    if comb is not None and comb.blur > _SHARP:
        noise = noise_evidence(view, (0, 0), saved.table)
        evidence = [*enlargement, *earlier, *noise, *saved.stages]
    else:
        noise = noise_evidence(view, grid, table)
        evidence = [*enlargement, *noise, *earlier, *saved.stages]
    reported = [piece for piece in evidence if piece.reported]
    operator = chain_of(reported, saved.turn)
    findings = tuple(piece.finding for piece in reported)
    alternatives = alternatives_of(evidence, operator, saved.turn)
    clipped = clipped_share(displayed)
    return Guess(operator, findings, clipped, alternatives)


def _name_and_data(file: str | Path | bytes) -> tuple[str, bytes]:
    """Return the name of a file for messages, and its bytes."""
    if isinstance(file, bytes):
        return "file", file
    if not isinstance(file, (str, Path)):
        raise ValueError(f"file={show(file)} must be a path or the bytes of a picture")
    name = f"file={file}"
    return name, contents(file, name)
