"""Scans of a progressive JPEG that add one more bit to AC coefficients: ITU-T T.81, G.1.2.3."""

from __future__ import annotations

import numpy
from numpy import ndarray

from .huffman import PLAIN, Codes
from .items import ZERO_RUN, Items, code_ends, end_of_band_counts, items_of


def refined(band: ndarray, tables: ndarray, ends: ndarray) -> Codes:
    """Code one more bit of AC coefficients [blocks, width]: G.1.2.3.

    A coefficient of ±1 is new and has a code. A larger one has a correction bit, which follows the
    next code.
    """
    width = band.shape[1]
    last_new = _last_new(band)
    end_counts = _ends_of_refinement(band, last_new, ends)
    items = items_of(band, end_counts, ends, has_dc=False)
    is_coefficient = items.column < width
    magnitude = abs(items.value)
    is_new = is_coefficient & (magnitude == 1)
    is_correction = is_coefficient & (magnitude > 1)
    zeros = _zeros_since_code(items, is_new)
    is_coded = items.column <= last_new[items.block]
    zero_runs = _new_zero_runs(items, zeros, is_correction) * is_coded
    symbols = 16 * (zeros & 15) + 1
    values = (items.value > 0).astype(numpy.int32)
    sizes = numpy.ones_like(values)
    code_ends(items, symbols, values, sizes)
    table = 256 * (2 * tables[items.block] + 1)
    symbols += table
    symbols[items.ends] = PLAIN
    # The codes in order: those of 16 zeros, then that of the item, unless it is a correction
    codes_of_item = zero_runs + ~is_correction
    stops = numpy.cumsum(codes_of_item)
    zero_run_symbols = table + ZERO_RUN
    code_symbols = zero_run_symbols.repeat(codes_of_item)
    code_values = numpy.zeros_like(code_symbols)
    code_sizes = numpy.zeros_like(code_symbols)
    coded = numpy.flatnonzero(~is_correction)
    places = stops[coded] - 1
    code_symbols[places] = symbols[coded]
    code_values[places] = values[coded]
    code_sizes[places] = sizes[coded]
    codes = Codes(code_symbols, code_values, code_sizes, stops[items.ends])
    correction_bits = magnitude[is_correction] & 1
    next_code = stops[is_correction]
    return _with_corrections(codes, correction_bits, next_code)


def _with_corrections(codes: Codes, bits: ndarray, next_code: ndarray) -> Codes:
    """Insert each correction bit behind the code with this index."""
    after = next_code + 1
    inserted_before_ends = numpy.searchsorted(after, codes.ends, side="right")
    return Codes(
        symbols=numpy.insert(codes.symbols, after, PLAIN),
        values=numpy.insert(codes.values, after, bits),
        sizes=numpy.insert(codes.sizes, after, 1),
        ends=codes.ends + inserted_before_ends,
    )


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
