"""Images to levels of 8 bits and back, part by part in the cache, for Pillow's own library.

The models of Pillow's codec and resize pass over an image in memory many times. The library keeps
what it works on in registers; on few threads it is faster even with these conversions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy
import torch
from numpy import ndarray

if TYPE_CHECKING:
    from PIL.Image import Image

_VALUES = 2**16  # of an image that are converted at a time, in the cache
_MOST_THREADS = 4  # with more, a model's passes take less time than the library's single thread
_NEAR = 1e-4  # of a level


def has_few_threads() -> bool:
    """Whether torch uses so few threads that the library's single one is faster than a model."""
    return torch.get_num_threads() <= _MOST_THREADS


def nearest_levels(values: ndarray) -> ndarray:
    """Channels [C, H, W] in [0, 1], clamped and rounded to levels from 0 to 255."""
    levels = numpy.empty(values.shape, numpy.uint8)
    for rows in _parts(values.shape):
        part = values[:, rows] * values.dtype.type(255)
        numpy.rint(part, out=part)
        part.clip(0, 255, out=part)
        levels[:, rows] = part
    return levels


def exact_levels(values: ndarray) -> ndarray | None:
    """The levels of an image of any shape with only values k/255; None if others occur."""
    flat = values.reshape(-1)
    levels = numpy.empty(flat.shape, numpy.uint8)
    memory = numpy.empty_like(flat[:_VALUES])
    with numpy.errstate(invalid="ignore", over="ignore"):  # NaN is far from any level
        for first in range(0, len(flat), _VALUES):
            part = flat[first : first + _VALUES]
            if not _to_levels(part, levels[first : first + _VALUES], memory[: len(part)]):
                return None
    return levels.reshape(values.shape)


def _to_levels(values: ndarray, levels: ndarray, memory: ndarray) -> bool:
    """Write the levels of values, and return whether all are k/255."""
    exact = numpy.multiply(values, values.dtype.type(255), out=memory)
    levels[:] = exact
    if (levels == exact).all():
        return True
    levels[:] = numpy.rint(exact)  # k/255 was computed less exactly
    exact -= levels
    distance = numpy.abs(exact, out=exact).max()
    return bool(distance < _NEAR)


def picture(levels: ndarray) -> Image:
    """One channel of levels [C, H, W] as a grey picture, or three as a coloured one."""
    from PIL import Image

    bands = [Image.fromarray(channel) for channel in levels]
    return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)


def write_values(picture: Image, out: ndarray) -> None:
    """Write the levels of a picture of 8 bits, / 255, into channels [C, H, W]."""
    white = out.dtype.type(255)
    for channel, band in zip(out, picture.split(), strict=True):
        levels = numpy.asarray(band)
        for rows in _parts((1, *levels.shape)):
            numpy.divide(levels[rows], white, out=channel[rows], dtype=out.dtype)


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of channels [C, H, W] that fit into the cache together."""
    channels, height, width = shape
    count = max(_VALUES // (channels * width), 1)
    for top in range(0, height, count):
        yield slice(top, top + count)
