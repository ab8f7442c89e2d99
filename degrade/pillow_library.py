"""Pillow's own resize of 8-bit images, where it gives the bits of the model and is faster.

Before the first use a small image must come out as by the model; another library is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from numpy import ndarray
from torch import Tensor

from .constants import cached_constant
from .pillow_pictures import exact_levels, has_few_threads, picture, write_values
from .transforms import values_are_readable

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]  # height, width
_TYPES = (torch.float32, torch.float64)
_TOGETHER = 3  # channels: Pillow resizes a coloured picture faster than three grey ones


def begins_with_rows(before: Size, after: Size) -> bool:
    """Whether Pillow ≥ 13 changes the height first, which the rounding of that pass makes visible.

    Older versions always begin with the width.
    """
    fewer_rows = before[0] - after[0]
    fewer_columns = before[1] - after[1]
    return fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def levels_of(x: Tensor) -> list[ndarray | None] | None:
    """The levels [C, H, W] of each image of 8 bits, and None for the others of a batch.

    None for the whole batch where Pillow has no such images, or Python may not look at them.
    """
    is_readable = values_are_readable(x) and x.device.type == "cpu"
    if not (is_readable and x.dtype in _TYPES and has_few_threads() and _equals_model()):
        return None
    return [exact_levels(values) for values in x.detach().resolve_neg().numpy()]


@cached_constant(maxsize=1)
def _equals_model() -> bool:
    """Whether Pillow resizes a small image, by every filter, as the model does."""
    from .pillow_resize import FILTERS, fixed_point

    numbers = torch.arange(37 * 23, dtype=torch.float32, device="cpu")
    levels = (numbers.square() % 256).view(1, 1, 37, 23)
    image = levels / 255
    for filter in FILTERS:
        for size in ((11, 9), (50, 41)):
            expected = fixed_point(image, size, filter)
            by_pillow = torch.empty_like(expected)
            resize_into(by_pillow[0].numpy(), levels[0].byte().numpy(), filter)
            if not torch.equal(by_pillow, expected):
                return False
    return True


def resize_into(out: ndarray, levels: ndarray, filter: str) -> None:
    """Write the resized channels of levels [C, H, W], / 255, into `out`."""
    height, width = out.shape[1:]
    for channels in _groups(len(levels)):
        before = picture(levels[channels])
        after = _resize(before, (height, width), filter)
        write_values(after, out[channels])


def _groups(channels: int) -> Iterator[slice]:
    """Three channels at a time, and the rest one by one."""
    alone = channels - channels % _TOGETHER
    for first in range(0, alone, _TOGETHER):
        yield slice(first, first + _TOGETHER)
    for channel in range(alone, channels):
        yield slice(channel, channel + 1)


def _resize(image: Image, size: Size, filter: str) -> Image:
    """Resize a picture one axis at a time, since versions of Pillow differ in their order."""
    from PIL.Image import Resampling

    resample = Resampling[filter.upper()]
    height, width = size
    before = (image.height, image.width)
    narrowed = (width, image.height)
    lowered = (image.width, height)
    first = lowered if begins_with_rows(before, size) else narrowed
    return image.resize(first, resample).resize((width, height), resample)
