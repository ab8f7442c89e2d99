"""A JPEG before the last one: its quality, its block grid and its chroma sampling."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import Shift
from ..jpeg import JPEG
from ..jpeg.header import quality_tables
from ..operator import Operator
from .blocks import blocks_of, coefficients
from .comb import ORDER, TABLES, Comb, aligned_comb, comb_nats, shifted_comb
from .evidence import Evidence, Finding, confidence_of
from .view import View

_BLUE = torch.tensor([-0.168736, -0.331264, 0.5], dtype=torch.float64)  # Cb
_CLEAR = 40  # nats: weaker evidence of an earlier JPEG is not reported
_FAINT = 10  # nats: weaker evidence of an earlier JPEG is no alternative either
_PART = 400  # pixels: the side of the part on which kinds of chroma sampling are tried
_MOST_BLOCKS = 4000  # in which a comb of chroma is searched


def earlier_jpeg(view: View, last_table: Tensor | None) -> tuple[list[Evidence], Comb | None]:
    """Find a JPEG before the last one, on its own block grid; return its comb if it is clear."""
    comb = _clearest_comb(view, last_table)
    if comb is None:
        return [], None
    is_clear = _strength(comb) > _CLEAR
    saving = _Saving(JPEG(comb.quality), _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx))
    if last_table is None and len(view.colours) == 3:
        saving = _sampling(view.colours, comb)
    dy = _shorter_shift(saving.top)
    dx = _shorter_shift(saving.left)
    chain: Operator = saving.jpeg
    why = f"its coefficients are multiples of the steps of quality {comb.quality}"
    if dy or dx:
        chain = Shift(dy, dx) >> saving.jpeg >> Shift(-dy, -dx)
        why += (
            f", in blocks that begin {dy % 8} rows and {dx % 8} columns outside: "
            "it was cropped since"
        )
    confidence = confidence_of(_strength(comb), 60)
    finding = Finding(str(chain), confidence, why)
    evidence = Evidence(chain, finding, is_clear, "jpeg")
    return [evidence], comb if is_clear else None


def coarsest_jpeg(
    earlier: Comb | None, last_table: Tensor | None
) -> tuple[tuple[int, int], Tensor | None]:
    """(block grid, luma's table) of the JPEG with the larger steps; None without a JPEG."""
    if earlier is None:
        return (0, 0), last_table
    table = TABLES[earlier.quality - 1]
    if last_table is not None and last_table.sum() > table.sum():
        return (0, 0), last_table
    return (earlier.dy, earlier.dx), table


def _clearest_comb(view: View, last_table: Tensor | None) -> Comb | None:
    """The earlier JPEG with the clearest evidence, on a grid of its own or on the last one's."""
    is_jpeg = last_table is not None
    combs = [shifted_comb(view.luma, view.clipped, is_jpeg)]
    if last_table is not None:
        is_clipped = blocks_of(view.clipped).flatten(2).any(2)
        blocks = blocks_of(view.luma)
        c = coefficients(blocks[~is_clipped])
        combs.append(aligned_comb(c, last_table))
    clear = []
    for comb in combs:
        if comb is not None and _strength(comb) > _FAINT:
            clear.append(comb)
    return max(clear, key=_clearness, default=None)


def _clearness(comb: Comb) -> tuple[bool, float]:
    """The order of combs: clear ones come first, then those with a larger margin."""
    return _strength(comb) > _CLEAR, comb.margin


def _strength(comb: Comb) -> float:
    """The weaker of a comb's two pieces of evidence, in nats."""
    return min(comb.nats, comb.margin)


def _corner_of_mcus(corner: int) -> int:
    """Where the blocks of 16 begin on a grid of blocks of 8, on the side nearer to the edge."""
    return corner + 8 if corner > 4 else corner


def _shorter_shift(corner: int) -> int:
    """The shift that puts the corner of the grid on the edge. The shorter of two loses less."""
    return 8 - (corner + 8) % 16


class _Saving(NamedTuple):
    """A JPEG, and the row and column where its blocks of 16×16 begin."""

    jpeg: JPEG
    top: int
    left: int

    def change(self, colours: Tensor) -> float:
        """The mean square by which one more saving changes a part of the picture."""
        rows = slice(self.top, self.top + _PART)
        columns = slice(self.left, self.left + _PART)
        part = colours[None, :, rows, columns].float() / 255
        difference = self.jpeg(part) - part
        return float(difference.square().mean())


def _sampling(colours: Tensor, comb: Comb) -> _Saving:
    """Find how chroma was sampled: one more saving in the same way changes little."""
    if _has_full_chroma(colours, comb):
        jpeg = JPEG(comb.quality, "4:4:4")
        return _Saving(jpeg, _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx))
    tops = (comb.dy, comb.dy + 8)
    lefts = (comb.dx, comb.dx + 8)
    candidates = []
    for subsampling, top, left in itertools.product(("4:2:0", "4:2:2"), tops, lefts):
        jpeg = JPEG(comb.quality, subsampling)
        candidates.append(_Saving(jpeg, top, left))
    return min(candidates, key=lambda candidate: candidate.change(colours))


def _has_full_chroma(colours: Tensor, comb: Comb) -> bool:
    """Whether chroma has a comb on the grid of luma, so that it was not enlarged."""
    blue = torch.tensordot(_BLUE, colours, 1)
    blocks = blocks_of(blue.round(), comb.dy, comb.dx).flatten(0, 1)
    c = coefficients(blocks)[None, :_MOST_BLOCKS]
    quality = torch.tensor([float(comb.quality)])
    tables = quality_tables(quality)
    chroma_table = tables[:, 1].flatten(1).double()
    nats = comb_nats(c, chroma_table, ORDER[:20], (0.35, 0.7))
    return bool(nats.max() > _CLEAR)
