"""Scans of a progressive JPEG that add one more bit to AC coefficients: ITU-T T.81, G.1.2.3."""

from __future__ import annotations

import numpy
from numpy import ndarray

from .huffman import END, PLAIN, code, in_table
from .items import ZERO_RUN, Items, end_codes, end_of_band_counts, items_of


def refined(band: ndarray, tables: ndarray, ends: ndarray) -> ndarray:
    """Code one more bit of AC coefficients [blocks, width]: G.1.2.3.

    A coefficient of ±1 is new and has a code. A larger one has a correction bit, which follows the
    next code.
    """
    width = band.shape[1]
    last_new = _last_new(band)
    end_counts = _ends_of_refinement(band, last_new, ends)
    items = items_of(band, end_counts, ends)
    is_coefficient = items.column < width
    magnitude = abs(items.value)
    is_new = is_coefficient & (magnitude == 1)
    is_correction = is_coefficient & (magnitude > 1)
    zeros = _zeros_since_code(items, is_new)
    is_coded = items.column <= last_new[items.block]
    zero_runs = _new_zero_runs(items, zeros, is_correction) * is_coded
    is_positive = (items.value > 0).astype(numpy.int32)
    codes_of_items = code(16 * (zeros & 15) + 1, 1, is_positive)
    counts = items.value[items.ends_of_bands]
    codes_of_items[items.ends_of_bands] = end_codes(counts)
    table = in_table(2 * tables[items.block] + 1)
    codes_of_items += table
    codes_of_items[items.ends] = END
    # The codes in order: those of 16 zeros, then that of the item, unless it is a correction
    codes_before_next = zero_runs + ~is_correction
    stops = numpy.cumsum(codes_before_next)
    zero_run_codes = table + code(ZERO_RUN, 0, 0)
    codes = zero_run_codes.repeat(codes_before_next)
    coded = numpy.flatnonzero(~is_correction)
    codes[stops[coded] - 1] = codes_of_items[coded]
    corrections = code(PLAIN, 1, magnitude[is_correction] & 1)
    next_code = stops[is_correction]
    return numpy.insert(codes, next_code + 1, corrections)


def _last_new(band: ndarray) -> ndarray:
    """The place of the last ±1 in each block [blocks, width]; -1 where there is none."""
    width = band.shape[1]
    is_new = abs(band) == 1
    from_last = is_new[:, ::-1]
    places = width - 1 - from_last.argmax(1)
    return numpy.where(is_new.any(1), places, -1)


def _ends_of_refinement(band: ndarray, last_new: ndarray, ends: ndarray) -> ndarray:
    """`end_of_band_counts` of a refinement, in which corrections may follow the last code."""
    width = band.shape[1]
    follows = numpy.arange(width) > last_new[:, None]
    is_correction = abs(band) > 1
    corrections = (is_correction & follows).sum(1)
    has_codes = last_new >= 0
    ends_early = last_new < width - 1
    return end_of_band_counts(has_codes, ends_early, ends, corrections)


def _zeros_since_code(items: Items, is_new: ndarray) -> ndarray:
    """How many zeros lie between an item and the last new coefficient before it in its block."""
    order = numpy.arange(len(items.column))
    firsts = numpy.where(items.is_first, order, 0)
    first_of_block = numpy.maximum.accumulate(firsts)
    items_before = order - first_of_block
    zeros = items.column - items_before  # since the block began
    new = numpy.where(is_new, order, -1)
    last_new = numpy.maximum.accumulate(new)
    new_before = numpy.full(len(order), -1)
    new_before[1:] = last_new[:-1]
    in_same_block = new_before >= first_of_block
    zeros_then = numpy.where(in_same_block, zeros[new_before], 0)
    return zeros - zeros_then


def _new_zero_runs(items: Items, zeros: ndarray, is_correction: ndarray) -> ndarray:
    """How many runs of 16 zeros end since the item before, which may be a correction."""
    runs = zeros >> 4
    coded_before = numpy.zeros_like(runs)
    coded_before[1:] = runs[:-1] * is_correction[:-1]
    coded_before[items.is_first] = 0
    return runs - coded_before
