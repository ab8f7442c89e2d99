"""The scans of a JPEG: which coefficients each holds, and in which codes.

A baseline file has one scan. A progressive one has several: first a coefficient's high bits, then
one more bit at a time. Names are those of ITU-T T.81, Annexes A, F.1.2 and G.1; the choice of scans
is libjpeg's. K is a quantised coefficient, in zigzag order from here on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy
from numpy import ndarray

from .huffman import END, PLAIN, code, codes_of, in_table
from .items import ZERO_RUN, end_codes, end_of_band_counts
from .refinement import refined


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
    name: a byte of the file.
    """

    blocks: ndarray
    across: int
    down: int
    huffman: int
    name: int


def scans_of(count: int, progressive: bool, is_ycbcr: bool) -> list[Scan]:
    """The scans of a file with `count` components."""
    every = tuple(range(count))
    if not progressive:
        return [Scan(every)]
    if is_ycbcr:
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
        *_scans_of_each(count, 1, 5, 0, 2),
        *_scans_of_each(count, 6, 63, 0, 2),
        *_scans_of_each(count, 1, 63, 2, 1),
        Scan(every, 0, 0, 1, 0),
        *_scans_of_each(count, 1, 63, 1, 0),
    ]


def _scans_of_each(count: int, first: int, last: int, high: int, low: int) -> list[Scan]:
    """The same scan of each component, one after the other."""
    return [Scan((number,), first, last, high, low) for number in range(count)]


def mcus_across(scan: Scan, components: list[Component]) -> int:
    """How many MCUs a row of a scan has. An MCU of a single component is one block."""
    first = components[scan.components[0]]
    columns: int = first.blocks.shape[1]
    if len(scan.components) == 1:
        return columns
    return -(-columns // first.across)


def codes_of_scan(scan: Scan, components: list[Component], restart: int) -> ndarray:
    """The codes of a scan, with a restart after every `restart` MCUs (0: none)."""
    is_single = len(scan.components) == 1
    parts = []
    tables_of_mcu: list[int] = []
    for number in scan.components:
        component = components[number]
        blocks = _in_mcus(component, is_single)
        parts.append(_band(blocks, scan, restart))
        blocks_of_mcu = blocks.shape[1]
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
        return refined(band, tables, ends)
    if is_first:
        return _with_dc(band, tables, ends)
    return _one_bit_each(band[:, 0] & 1, ends)


def _with_dc(band: ndarray, tables: ndarray, ends: ndarray) -> ndarray:
    """Code DC and, in a baseline file, AC: F.1.2. Each block that ends with a zero has an end."""
    width = band.shape[1]
    ends_early = numpy.zeros(len(band), bool)
    if width > 1:
        ends_early = numpy.logical_not(band[:, -1])
    return _sequence(band, ends_early, tables, ends, has_dc=True)


def _first_band(band: ndarray, tables: ndarray, ends: ndarray) -> ndarray:
    """Code the high bits of AC: G.1.2.2."""
    has_codes = numpy.count_nonzero(band, axis=1) > 0
    ends_early = numpy.logical_not(band[:, -1])
    no_corrections = numpy.zeros(len(band), numpy.int64)
    end_counts = end_of_band_counts(has_codes, ends_early, ends, no_corrections)
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
    is_filled = (rows, columns) == (mcu_rows * down, mcu_columns * across)
    filled = blocks if is_filled else _filled(component, mcu_rows, mcu_columns)
    grid = filled.reshape(mcu_rows, down, mcu_columns, across, 64)
    mcus = grid.swapaxes(1, 2)
    return mcus.reshape(-1, down * across, 64)


def _filled(component: Component, mcu_rows: int, mcu_columns: int) -> ndarray:
    """The blocks of a component and those that fill the last MCUs [rows, columns, 64]."""
    blocks, across, down = component.blocks, component.across, component.down
    rows, columns = blocks.shape[:2]
    filled = numpy.zeros((mcu_rows * down, mcu_columns * across, 64), blocks.dtype)
    filled[:rows, :columns] = blocks
    filled[:rows, columns:, 0] = blocks[:, -1:, 0]
    for row in range(rows, len(filled)):
        last_of_mcu = filled[row - 1, across - 1 :: across, 0]
        filled[row, :, 0] = last_of_mcu.repeat(across)
    return filled


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


def _one_bit_each(bits: ndarray, ends: ndarray) -> ndarray:
    """Code one bit of each block."""
    stops = numpy.flatnonzero(ends) + 1
    codes = code(PLAIN, 1, bits.astype(numpy.int32))
    return numpy.insert(codes, stops, END)


def _sequence(
    band: ndarray, end_counts: ndarray, tables: ndarray, ends: ndarray, has_dc: bool
) -> ndarray:
    """Code blocks [blocks, width] of which no scan before coded anything.

    end_counts: for each block how many blocks, up to it, end with zeros that one code stands for.
    """
    count, width = band.shape
    is_coded = band != 0
    if has_dc:
        is_coded[:, 0] = True
    index = numpy.flatnonzero(is_coded)
    values = band.ravel().take(index)
    index = index.astype(numpy.int32)  # whose division is faster; a side has at most 65,500 pixels
    block = index // width
    column = index - block * width
    is_first = numpy.ones(len(block), bool)
    is_first[1:] = block[1:] != block[:-1]
    firsts = numpy.flatnonzero(is_first)
    zeros = numpy.diff(index, prepend=index[:1]) - 1
    zeros[firsts] = column[firsts]
    ac_tables = 2 * tables + 1
    table = ac_tables.take(block)
    long = numpy.flatnonzero(zeros > 15)
    before = long.repeat(zeros[long] >> 4)  # codes of 16 zeros are inserted here
    zero_runs = code(ZERO_RUN, 0, 0) + in_table(table[before])
    if has_dc:
        table[firsts] -= 1
    codes = codes_of(values, zeros, table)
    codes_of_block = numpy.zeros(count, numpy.int64)
    codes_of_block[block[firsts]] = numpy.diff(firsts, append=len(block))
    stops = numpy.cumsum(codes_of_block)
    blocks_of_ends, ends_of_blocks = _ends(end_counts, ac_tables, ends)
    places = numpy.concatenate([stops[blocks_of_ends], before])
    inserted = numpy.concatenate([ends_of_blocks, zero_runs])
    return numpy.insert(codes, places, inserted)


def _ends(end_counts: ndarray, tables: ndarray, ends: ndarray) -> tuple[ndarray, ndarray]:
    """After which blocks bands and intervals end, in order, and the codes that say so."""
    blocks = numpy.flatnonzero(end_counts)
    counts = end_counts[blocks].astype(numpy.int32)
    codes = end_codes(counts) + in_table(tables[blocks])
    last_blocks = numpy.flatnonzero(ends)
    places = numpy.searchsorted(blocks, last_blocks, side="right")
    return numpy.insert(blocks, places, last_blocks), numpy.insert(codes, places, END)
