"""The scans of a JPEG: which coefficients each holds, and in which codes.

A baseline file has one scan. A progressive one has several: first a coefficient's high bits, then
one more bit at a time. Names are those of ITU-T T.81, Annexes A, F.1.2 and G.1; the choice of scans
is libjpeg's. K is a quantised coefficient, in zigzag order from here on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy
from numpy import ndarray

from .huffman import PLAIN, Codes

_ZERO_RUN = 0xF0  # the symbol of 16 zeros
_MOST_BLOCKS = 32767  # without a further coefficient, that one end-of-band code counts
_MOST_CORRECTIONS = 937  # bits that libjpeg holds back before it ends such a run of blocks
_BIT_LENGTHS = numpy.array([number.bit_length() for number in range(2**15 + 1)], numpy.int32)


class Scan(NamedTuple):
    """A scan of some components (by their numbers): coefficients `first` to `last`.

    low: how many low bits it leaves to later scans. high: how many the scan before left, 0 if none.
    """

    components: tuple[int, ...]
    first: int = 0
    last: int = 63
    high: int = 0
    low: int = 0


class Component(NamedTuple):
    """A component of one image: its blocks in zigzag order [rows, columns, 64].

    across, down: how many of them an MCU holds. huffman: 0 for the tables of luma, 1 of chroma.
    """

    blocks: ndarray
    across: int
    down: int
    huffman: int


def scans_of(count: int, progressive: bool) -> list[Scan]:
    """The scans of a file with `count` components."""
    every = tuple(range(count))
    if not progressive:
        return [Scan(every)]
    if count == 3:
        luma, blue, red = (0,), (1,), (2,)
        return [
            Scan(every, 0, 0, 0, 1),
            Scan(luma, 1, 5, 0, 2),
            Scan(red, 1, 63, 0, 1),
            Scan(blue, 1, 63, 0, 1),
            Scan(luma, 6, 63, 0, 2),
            Scan(luma, 1, 63, 2, 1),
            Scan(every, 0, 0, 1, 0),
            Scan(red, 1, 63, 1, 0),
            Scan(blue, 1, 63, 1, 0),
            Scan(luma, 1, 63, 1, 0),
        ]
    return [
        Scan(every, 0, 0, 0, 1),
        Scan(every, 1, 5, 0, 2),
        Scan(every, 6, 63, 0, 2),
        Scan(every, 1, 63, 2, 1),
        Scan(every, 0, 0, 1, 0),
        Scan(every, 1, 63, 1, 0),
    ]


def mcus_across(scan: Scan, components: list[Component]) -> int:
    """How many MCUs a row of a scan has. An MCU of a single component is one block."""
    first = components[scan.components[0]]
    columns: int = first.blocks.shape[1]
    if len(scan.components) == 1:
        return columns
    return -(-columns // first.across)


def codes_of_scan(scan: Scan, components: list[Component], restart: int) -> Codes:
    """The codes of a scan, with a restart after every `restart` MCUs (0: none)."""
    is_single = len(scan.components) == 1
    parts = []
    tables_of_mcu: list[int] = []
    for number in scan.components:
        component = components[number]
        blocks = _in_mcus(component, is_single)
        blocks_of_mcu = blocks.shape[1]
        parts.append(_band(blocks, scan, restart))
        tables_of_mcu += [component.huffman] * blocks_of_mcu
    mcus = numpy.concatenate(parts, 1)
    count, blocks_of_mcu, width = mcus.shape
    band = mcus.reshape(-1, width)
    tables_of_one = numpy.array(tables_of_mcu, numpy.int32)
    tables = numpy.tile(tables_of_one, count)
    interval = restart * blocks_of_mcu
    ends = _last_of_intervals(len(band), interval)
    is_first = scan.high == 0
    if scan.first > 0 and is_first:
        return _first_band(band, tables, ends)
    if scan.first > 0:
        return _refined(band, tables, ends)
    if is_first:
        return _with_dc(band, tables, ends)
    return _one_bit_each(band[:, 0] & 1, ends)


def _with_dc(band: ndarray, tables: ndarray, ends: ndarray) -> Codes:
    """Code DC and, in a baseline file, AC: F.1.2. Each block that ends with a zero has an end."""
    width = band.shape[1]
    ends_early = numpy.zeros(len(band), bool)
    if width > 1:
        ends_early = numpy.logical_not(band[:, -1])
    return _sequence(band, ends_early, tables, ends, has_dc=True)


def _first_band(band: ndarray, tables: ndarray, ends: ndarray) -> Codes:
    """Code the high bits of AC: G.1.2.2."""
    has_codes = numpy.count_nonzero(band, axis=1) > 0
    ends_early = numpy.logical_not(band[:, -1])
    no_corrections = numpy.zeros(len(band), numpy.int64)
    end_counts = _end_of_band_counts(has_codes, ends_early, ends, no_corrections)
    return _sequence(band, end_counts, tables, ends, has_dc=False)


def _in_mcus(component: Component, is_single: bool) -> ndarray:
    """The blocks in the order of the scan: [MCUs, blocks of an MCU, 64].

    Where several components share a scan, blocks are added to fill the last MCUs. They have no AC,
    and the DC of the block coded before them, so that they cost few bits.
    """
    blocks = component.blocks
    if is_single:
        return blocks.reshape(-1, 1, 64)
    across, down = component.across, component.down
    rows, columns = blocks.shape[:2]
    mcu_rows = -(-rows // down)
    mcu_columns = -(-columns // across)
    filled = numpy.zeros((mcu_rows * down, mcu_columns * across, 64), blocks.dtype)
    filled[:rows, :columns] = blocks
    filled[:rows, columns:, 0] = blocks[:, -1:, 0]
    for row in range(rows, len(filled)):
        last_of_mcu = filled[row - 1, across - 1 :: across, 0]
        filled[row, :, 0] = last_of_mcu.repeat(across)
    grid = filled.reshape(mcu_rows, down, mcu_columns, across, 64)
    mcus = grid.swapaxes(1, 2)
    return mcus.reshape(-1, down * across, 64)


def _band(blocks: ndarray, scan: Scan, restart: int) -> ndarray:
    """The numbers that a scan codes [MCUs, blocks, coefficients]: high bits, and differences of DC.

    DC is shifted down, and AC toward zero.
    """
    if scan.first > 0:
        band = blocks[:, :, scan.first : scan.last + 1]
        magnitudes = numpy.abs(band) >> scan.low
        signed: ndarray = numpy.sign(band) * magnitudes
        return signed
    band = blocks[:, :, : scan.last + 1] >> scan.low
    if scan.high == 0:
        dc = band[:, :, 0]
        in_order = dc.ravel()
        before = numpy.zeros_like(in_order)
        before[1:] = in_order[:-1]
        if restart > 0:
            interval = restart * dc.shape[1]
            before[::interval] = 0
        dc -= before.reshape(dc.shape)
    return band


def _last_of_intervals(count: int, interval: int) -> ndarray:
    """Which of `count` blocks are the last of a restart interval."""
    is_last = numpy.zeros(count, bool)
    if interval > 0:
        is_last[interval - 1 :: interval] = True
    is_last[-1] = True
    return is_last


def _one_bit_each(bits: ndarray, ends: ndarray) -> Codes:
    """Code one bit of each block."""
    stops = numpy.flatnonzero(ends) + 1
    values = numpy.insert(bits.astype(numpy.int32), stops, 0)
    ends_of_intervals = stops + numpy.arange(1, len(stops) + 1)
    sizes = numpy.ones_like(values)
    sizes[ends_of_intervals - 1] = 0
    symbols = numpy.full_like(values, PLAIN)
    return Codes(symbols, values, sizes, ends_of_intervals)


class _Items(NamedTuple):
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


def _items(band: ndarray, end_counts: ndarray, ends: ndarray, has_dc: bool) -> _Items:
    """The items of blocks [blocks, width]. With DC, the first coefficient is always an item."""
    count, width = band.shape
    grid = numpy.empty((count, width + 2), numpy.int16)
    grid[:, :width] = band
    grid[:, width] = end_counts
    grid[:, width + 1] = ends
    is_item = grid != 0
    if has_dc:
        is_item[:, 0] = True
    index = numpy.flatnonzero(is_item)
    value = grid.ravel().take(index).astype(numpy.int32)
    block = index // (width + 2)
    first_of_block = block * (width + 2)
    column = (index - first_of_block).astype(numpy.int32)
    is_first = numpy.ones(len(block), bool)
    is_first[1:] = block[1:] != block[:-1]
    ends_of_bands = numpy.flatnonzero(column == width)
    ends_of_intervals = numpy.flatnonzero(column > width)
    return _Items(block, column, value, is_first, ends_of_bands, ends_of_intervals)


def _sequence(
    band: ndarray, end_counts: ndarray, tables: ndarray, ends: ndarray, has_dc: bool
) -> Codes:
    """Code blocks [blocks, width] of which no scan before coded anything.

    end_counts: for each block how many blocks, up to it, end with zeros that one code stands for.
    """
    items = _items(band, end_counts, ends, has_dc)
    sizes = _BIT_LENGTHS.take(numpy.abs(items.value))
    negative = items.value >> 31  # -1 or 0
    mask = (1 << sizes) - 1
    values = (items.value + negative) & mask
    zeros = items.column.copy()  # before each item in its block
    next_column = items.column[:-1] + 1
    zeros[1:] -= next_column * ~items.is_first[1:]
    symbols = 16 * (zeros & 15) + sizes
    _code_ends(items, symbols, values, sizes)
    table = 2 * tables.take(items.block) + 1
    if has_dc:
        table -= items.column == 0
    symbols += 256 * table
    symbols[items.ends] = PLAIN
    zero_runs = zeros >> 4
    zero_runs[items.ends_of_bands] = 0
    zero_runs[items.ends] = 0
    long = numpy.flatnonzero(zero_runs)
    before = long.repeat(zero_runs[long])  # codes of 16 zeros are inserted here
    zero_run_symbols = 256 * table[before] + _ZERO_RUN
    inserted_before_ends = numpy.searchsorted(before, items.ends)
    return Codes(
        symbols=numpy.insert(symbols, before, zero_run_symbols),
        values=numpy.insert(values, before, 0),
        sizes=numpy.insert(sizes, before, 0),
        ends=items.ends + 1 + inserted_before_ends,
    )


def _code_ends(items: _Items, symbols: ndarray, values: ndarray, sizes: ndarray) -> None:
    """Fill in the codes of the ends of bands, and empty codes for the ends of intervals.

    A number n of bands is coded as the length of n in bits, and the bits after its first one.
    """
    counts = items.value[items.ends_of_bands]
    further_bits = _BIT_LENGTHS[counts] - 1
    sizes[items.ends_of_bands] = further_bits
    values[items.ends_of_bands] = counts - (1 << further_bits)
    symbols[items.ends_of_bands] = 16 * further_bits
    sizes[items.ends] = 0
    values[items.ends] = 0


def _end_of_band_counts(
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


def _refined(band: ndarray, tables: ndarray, ends: ndarray) -> Codes:
    """Code one more bit of AC coefficients [blocks, width]: G.1.2.3.

    A coefficient of ±1 is new and has a code. A larger one has a correction bit, which follows the
    next code.
    """
    width = band.shape[1]
    last_new = _last_new(band)
    end_counts = _ends_of_refinement(band, last_new, ends)
    items = _items(band, end_counts, ends, has_dc=False)
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
    _code_ends(items, symbols, values, sizes)
    table = 256 * (2 * tables[items.block] + 1)
    symbols += table
    symbols[items.ends] = PLAIN
    # The codes in order: those of 16 zeros, then that of the item, unless it is a correction
    codes_of_item = zero_runs + ~is_correction
    stops = numpy.cumsum(codes_of_item)
    zero_run_symbols = table + _ZERO_RUN
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
    """`_end_of_band_counts` of a refinement, in which corrections may follow the last code."""
    width = band.shape[1]
    follows = numpy.arange(width) > last_new[:, None]
    is_correction = abs(band) > 1
    corrections = (is_correction & follows).sum(1)
    has_codes = last_new >= 0
    ends_early = last_new < width - 1
    return _end_of_band_counts(has_codes, ends_early, ends, corrections)


def _zeros_since_code(items: _Items, is_new: ndarray) -> ndarray:
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


def _new_zero_runs(items: _Items, zeros: ndarray, is_correction: ndarray) -> ndarray:
    """How many runs of 16 zeros end since the item before, which may be a correction."""
    runs = zeros >> 4
    coded_before = numpy.zeros_like(runs)
    coded_before[1:] = runs[:-1] * is_correction[:-1]
    coded_before[items.is_first] = 0
    return runs - coded_before
