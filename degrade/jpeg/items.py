"""What a scan of a JPEG says, in order: coefficients that are not zero, and ends of bands.

A band is the part of a block that a scan holds. Source: ITU-T T.81, F.1.2 and G.1.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy
from numpy import ndarray

from .huffman import code

ZERO_RUN = 0xF0  # the symbol of 16 zeros
_MOST_BLOCKS = 32767  # without a further coefficient, that one end-of-band code counts
_MOST_CORRECTIONS = 937  # bits that libjpeg holds back before it ends such a run of blocks
_BIT_LENGTHS = numpy.array([count.bit_length() for count in range(_MOST_BLOCKS + 1)], numpy.int32)


class Items(NamedTuple):
    """What a scan says, in order: coefficients that are not zero, ends of bands and of intervals.

    The first four have one number per item. column: the place in the block; `width`
    marks the end of bands, whose value counts them, and width + 1 the end of an interval.
    ends_of_bands, ends: where those two are.
    """

    block: ndarray
    column: ndarray
    value: ndarray
    is_first: ndarray  # of its block
    ends_of_bands: ndarray
    ends: ndarray


def items_of(band: ndarray, end_counts: ndarray, ends: ndarray) -> Items:
    """The items of blocks [blocks, width]."""
    count, width = band.shape
    grid = numpy.empty((count, width + 2), numpy.int16)
    grid[:, :width] = band
    grid[:, width] = end_counts
    grid[:, width + 1] = ends
    is_item = grid != 0
    index = numpy.flatnonzero(is_item)
    value = grid.ravel().take(index).astype(numpy.int32)
    index = index.astype(numpy.int32)  # whose division is faster; a side has at most 65,500 pixels
    block = index // (width + 2)
    first_of_block = block * (width + 2)
    column = index - first_of_block
    is_first = numpy.ones(len(block), bool)
    is_first[1:] = block[1:] != block[:-1]
    ends_of_bands = numpy.flatnonzero(column == width)
    ends_of_intervals = numpy.flatnonzero(column > width)
    return Items(block, column, value, is_first, ends_of_bands, ends_of_intervals)


def end_codes(counts: ndarray) -> ndarray:
    """The codes of table 0 that end the bands of so many blocks.

    A number n is coded as its length in bits, and the bits after its first one.
    """
    further_bits = _BIT_LENGTHS[counts] - 1
    rest = counts - (1 << further_bits)
    return code(16 * further_bits, further_bits, rest)


def end_of_band_counts(
    has_codes: ndarray, ends_early: ndarray, ends: ndarray, corrections: ndarray
) -> ndarray:
    """For the last block of each run of blocks that end with zeros, their number; else 0.

    A run begins in a block with codes or without, and goes on through blocks without codes.
    corrections: how many correction bits each block adds to its run.
    """
    count = len(has_codes)
    counts = numpy.zeros(count, numpy.int64)
    goes_on = numpy.zeros(count, bool)
    may_go_on = ends_early & ~ends
    goes_on[1:] = may_go_on[:-1] & ~has_codes[1:]
    firsts = numpy.flatnonzero(ends_early & ~goes_on)
    stops_here = ends_early.copy()
    stops_here[:-1] &= ~goes_on[1:]
    lasts = numpy.flatnonzero(stops_here)
    counts[lasts] = lasts - firsts + 1
    corrections_up_to = numpy.cumsum(corrections)
    corrections_before = corrections_up_to - corrections
    held_back = corrections_up_to[lasts] - corrections_before[firsts]
    too_long = (held_back > _MOST_CORRECTIONS) | (counts[lasts] > _MOST_BLOCKS)
    for first, last in zip(firsts[too_long], lasts[too_long], strict=True):
        counts[last] = 0
        while first <= last:
            most = corrections_before[first] + _MOST_CORRECTIONS
            full = numpy.searchsorted(corrections_up_to, most, side="right")
            stop = min(full, first + _MOST_BLOCKS - 1, last)
            counts[stop] = stop - first + 1
            first = stop + 1
    return counts
