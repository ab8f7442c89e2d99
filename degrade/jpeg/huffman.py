"""Huffman codes of JPEG, and the bits of a scan.

A scan is a sequence of codes. A code is a symbol of one of four Huffman tables and, after it, up to
14 extra bits as they are. Source: ITU-T T.81, Annexes C, F.1.2 and K; where the standard leaves a
choice, libjpeg's.
"""

from __future__ import annotations

import functools
import heapq
from typing import NamedTuple

import numpy
import torch
from numpy import ndarray

PLAIN = 1024  # instead of a symbol: extra bits without a Huffman code
_LONGEST = 16  # bits of a Huffman code
_WORD = 32
_SYMBOL, _SIZE = 18, 14  # how many bits of a code lie below its symbol, and below its size


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


def code(symbol: ndarray | int, size: ndarray | int, value: ndarray | int) -> ndarray:
    """Codes as integers, symbol · 2^18 + size · 2^14 + value, of which one array holds a scan.

    symbol: 256 · table + symbol, table 0 to 3 in the order of `STANDARD_CODES`; or PLAIN.
    value, size: the extra bits as a number, and how many they are.
    """
    symbols = numpy.asarray(symbol, numpy.int32)
    return (symbols << _SYMBOL) | (size << _SIZE) | value


END = code(PLAIN, 0, 0)  # of a restart interval; it is filled up with ones to a whole byte
_LARGEST = 2047  # difference of two DC coefficients
_VALUES = numpy.arange(-_LARGEST, _LARGEST + 1, dtype=numpy.int32)
_SIZES = numpy.frexp(abs(_VALUES))[1]  # in bits
_EXTRA_BITS = numpy.where(_VALUES < 0, _VALUES + (1 << _SIZES) - 1, _VALUES)
_CODES_OF_VALUES = code(_SIZES, _SIZES, _EXTRA_BITS)


def codes_of(values: ndarray, zeros: ndarray, tables: ndarray) -> ndarray:
    """The codes of coefficients, or differences of DC, that come after `zeros` zeros: F.1.2.

    Of 16 zeros or more, only those after the last whole 16 count.
    """
    codes = _CODES_OF_VALUES.take(values + _LARGEST)
    codes += (zeros & 15) << (_SYMBOL + 4)
    codes += in_table(tables)
    return codes


def in_table(tables: ndarray) -> ndarray:
    """What turns codes of table 0 into those of other tables, by addition."""
    return tables << (_SYMBOL + 8)


def optimal(codes: ndarray) -> list[Huffman | None]:
    """The shortest Huffman table of at most 16 bits for each of the four tables that is used."""
    counts = numpy.bincount(codes >> _SYMBOL, minlength=PLAIN + 1)
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


def packed(codes: ndarray, tables: list[Huffman | None]) -> list[bytes]:
    """The bytes of each restart interval, with a zero byte after every 0xFF.

    codes: as `code` makes them; every interval ends with END.
    """
    patterns, pattern_sizes = _patterns(tuple(tables))
    symbols = codes >> _SYMBOL
    sizes = (codes >> _SIZE) & 15
    values = codes & (2**_SIZE - 1)
    lengths = pattern_sizes.take(symbols) + sizes
    bits = (patterns.take(symbols) << sizes) | values
    ends = numpy.flatnonzero(codes == END) + 1
    filled = _fill_bytes(bits, lengths, ends)
    data = _joined(bits, lengths)
    intervals = []
    begin = 0
    for end in filled.tolist():
        interval = data[begin:end]
        intervals.append(interval.replace(b"\xff", b"\xff\x00"))
        begin = end
    return intervals


@functools.lru_cache(maxsize=1)
def _patterns(tables: tuple[Huffman | None, ...]) -> tuple[ndarray, ndarray]:
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


def _joined(bits: ndarray, lengths: ndarray) -> bytes:
    """All codes one after the other.

    A code has at most 30 bits. So each begins in one 32-bit word and ends in that word or in the
    next one, and in each word at least one begins.
    """
    stops = _running_sum(lengths)
    starts = stops - lengths
    words = starts >> 5
    starts &= _WORD - 1  # within their words
    starts += lengths
    bits_after = 2 * _WORD - starts
    windows = bits << bits_after  # each word and the next one
    begins_next = words[1:] != words[:-1]
    lasts = numpy.append(numpy.flatnonzero(begins_next), len(words) - 1)
    sums = _running_sum(windows).take(lasts)  # modulo 2^64
    pairs = numpy.diff(sums, prepend=0).view(numpy.uint64)  # codes have no bit in common
    result = numpy.zeros(len(pairs) + 1, numpy.uint64)
    result[:-1] = pairs >> numpy.uint64(_WORD)
    result[1:] |= pairs & numpy.uint64(2**_WORD - 1)
    return result.astype(">u4").tobytes()


def _running_sum(values: ndarray) -> ndarray:
    """The sums of the first 1, 2, … values in 64 bits. Numpy takes four times as long as torch."""
    tensor = torch.from_numpy(values)
    sums: ndarray = tensor.cumsum(0, dtype=torch.int64).numpy()
    return sums
