"""Huffman codes of JPEG, and the bits of a scan.

A scan is a sequence of codes. A code is a symbol of one of four Huffman tables and, after it, up to
14 extra bits as they are. Source: ITU-T T.81, Annexes C, F.1.2 and K; where the standard leaves a
choice, libjpeg's.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy
from numpy import ndarray

PLAIN = 1024  # instead of a symbol: extra bits without a Huffman code
_LONGEST = 16  # bits of a Huffman code
_WORD = 32


class Huffman(NamedTuple):
    """A Huffman table as files store it: how many codes have 1, 2, … 16 bits, and their symbols."""

    counts: bytes
    symbols: bytes


def _standard(counts: bytes, first_symbols: str, most_bits: int) -> Huffman:
    """A table of Annex K for coefficients up to 10 bits: some symbols, then the others in order."""
    first = bytes.fromhex(first_symbols)
    every = [0x00, 0xF0]
    for run in range(16):
        every.extend(range(16 * run + 1, 16 * run + 1 + most_bits))
    rest = sorted(set(every) - set(first))
    return Huffman(counts, first + bytes(rest))


# Tables K.3 to K.6: DC and AC of luma, DC and AC of chroma. A symbol of DC is a number of bits.
_AC_LUMA = "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282"
_AC_CHROMA = (
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1"
)
STANDARD_CODES = (
    Huffman(bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]), bytes(range(12))),
    _standard(bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125]), _AC_LUMA, 10),
    Huffman(bytes([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]), bytes(range(12))),
    _standard(bytes([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119]), _AC_CHROMA, 10),
)


class Codes(NamedTuple):
    """A sequence of codes.

    symbols: 256 · table + symbol, table 0 to 3 in the order of `STANDARD_CODES`; or PLAIN.
    values, sizes: the extra bits as a number, and how many they are.
    ends: for each restart interval, the index after its last code. That code is an empty one,
        which is filled up with ones to a whole byte.
    """

    symbols: ndarray
    values: ndarray
    sizes: ndarray
    ends: ndarray


def optimal(codes: Codes) -> list[Huffman | None]:
    """The shortest Huffman table of at most 16 bits for each of the four tables that is used."""
    counts = numpy.bincount(codes.symbols, minlength=PLAIN + 1)
    tables: list[Huffman | None] = []
    for first in range(0, PLAIN, 256):
        counts_of_table = counts[first : first + 256].tolist()
        is_used = any(counts_of_table)
        tables.append(_shortest(counts_of_table) if is_used else None)
    return tables


def _shortest(counts: list[int]) -> Huffman:
    """Huffman's algorithm as libjpeg does it, K.2: ties go to the larger symbol.

    A symbol 256 is added and dropped again, so that no code consists of ones.
    """
    lengths = [0] * 257
    heap = [(1, -256, [256])]
    for symbol, count in enumerate(counts):
        if count > 0:
            heap.append((count, -symbol, [symbol]))
    heapq.heapify(heap)
    while len(heap) > 1:
        least, name, leaves = heapq.heappop(heap)
        next_least, _, other_leaves = heapq.heappop(heap)
        merged = leaves + other_leaves
        for symbol in merged:
            lengths[symbol] += 1
        heapq.heappush(heap, (least + next_least, name, merged))
    used = [symbol for symbol, count in enumerate(counts) if count > 0]
    used.sort(key=lengths.__getitem__)  # stable: equal lengths stay in the order of symbols
    codes_of_length = [0] * 258
    for symbol in (*used, 256):
        codes_of_length[lengths[symbol]] += 1
    _shorten(codes_of_length)
    counts_of_lengths = codes_of_length[1 : _LONGEST + 1]
    return Huffman(bytes(counts_of_lengths), bytes(used))


def _shorten(codes_of_length: list[int]) -> None:
    """Make all codes at most 16 bits long, and drop the longest code, as Figure K.3 does."""
    longest = len(codes_of_length) - 1
    for length in range(longest, _LONGEST, -1):
        while codes_of_length[length] > 0:
            shorter = length - 2
            while codes_of_length[shorter] == 0:
                shorter -= 1
            codes_of_length[length] -= 2
            codes_of_length[length - 1] += 1
            codes_of_length[shorter + 1] += 2
            codes_of_length[shorter] -= 1
    length = _LONGEST
    while codes_of_length[length] == 0:
        length -= 1
    codes_of_length[length] -= 1


def packed(codes: Codes, tables: list[Huffman | None]) -> list[bytes]:
    """The bytes of each restart interval, with a zero byte after every 0xFF."""
    patterns, pattern_sizes = _patterns(tables)
    lengths = pattern_sizes.take(codes.symbols) + codes.sizes
    patterns_of_codes = patterns.take(codes.symbols) << codes.sizes
    bits = patterns_of_codes | codes.values
    filled = _fill_bytes(bits, lengths, codes.ends)
    stops = numpy.cumsum(lengths)
    data = _joined(bits, lengths, stops)
    intervals = []
    begin = 0
    for end in filled.tolist():
        interval = data[begin:end]
        intervals.append(interval.replace(b"\xff", b"\xff\x00"))
        begin = end
    return intervals


def _patterns(tables: list[Huffman | None]) -> tuple[ndarray, ndarray]:
    """The bits of each symbol's code, and how many they are: [1025], PLAIN's being empty."""
    patterns = numpy.zeros(PLAIN + 1, numpy.int32)
    sizes = numpy.zeros(PLAIN + 1, numpy.int32)
    for number, table in enumerate(tables):
        if table is None:
            continue
        pattern = 0
        symbols = iter(table.symbols)
        for size, count in enumerate(table.counts, start=1):
            for _ in range(count):
                index = 256 * number + next(symbols)
                patterns[index] = pattern
                sizes[index] = size
                pattern += 1
            pattern *= 2
    return patterns, sizes


def _fill_bytes(bits: ndarray, lengths: ndarray, ends: ndarray) -> ndarray:
    """Give each interval's last code as many ones as fill its last byte; return where they end."""
    begins = numpy.concatenate([[0], ends[:-1]])
    bits_of_interval = numpy.add.reduceat(lengths, begins)
    missing = -bits_of_interval % 8
    lengths[ends - 1] = missing
    bits[ends - 1] = (1 << missing) - 1
    return numpy.cumsum(bits_of_interval + missing) // 8


def _joined(bits: ndarray, lengths: ndarray, stops: ndarray) -> bytes:
    """All codes one after the other.

    A code has at most 30 bits. So each begins in one 32-bit word and ends in that word or in the
    next one, and in each word at least one begins.
    """
    starts = stops - lengths
    words = starts >> 5
    shifts = 2 * _WORD - (starts & (_WORD - 1)) - lengths
    windows = bits.astype(numpy.uint64) << shifts.astype(numpy.uint64)
    begins_word = numpy.ones(len(words), bool)
    begins_word[1:] = words[1:] != words[:-1]
    firsts = numpy.flatnonzero(begins_word)
    pairs = numpy.add.reduceat(windows, firsts)  # codes have no bit in common
    result = numpy.zeros(len(pairs) + 1, numpy.uint64)
    result[:-1] = pairs >> numpy.uint64(_WORD)
    result[1:] |= pairs & numpy.uint64(2**_WORD - 1)
    return result.astype(">u4").tobytes()
