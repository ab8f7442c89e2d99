"""Pillow in place of the model, where both give the same bytes and pixels and Pillow is faster.

The model of libjpeg-turbo passes over an image in memory some forty times. Pillow's library keeps a
block in registers. It is used on the CPU for what it can do alone. Before the first use with a
sampling it must save and open a small picture as the model does; another library would not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..constants import cached_constant
from ..pillow_pictures import has_few_threads, nearest_levels, picture, write_values
from ..transforms import values_are_readable
from .layout import LARGEST_SIDE, YCBCR

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
_LARGEST_STEP = 255  # of a baseline file
_MODES: tuple[dict[str, Any], ...] = ({}, {"optimize": True}, {"progressive": True})
# Pillow's buffer for an optimised or progressive file, in bytes: the larger one of these two
_BUFFER, _BYTES_OF_PIXEL = 2**16, 2
_RESTARTS_OF_PIXEL = 0.5  # bytes; 8 more scans with 3 bytes after each block


def files(
    x: Tensor, tables: Tensor, colour: str, subsampling: str, **options: Any
) -> list[bytes] | None:
    """The JPEG file of each image [B, C, H, W]; None where the model must write them.

    tables: the quantiser's steps [B, n, 8, 8]. options: of Pillow's `save`.
    """
    if not _covers(x, tables, colour, subsampling):
        return None
    if not _equals_model(x.shape[1], subsampling):
        return None
    try:
        return _saved(x, tables, subsampling, **options)
    except OSError:  # its buffer is too small
        return None


def round_trip(x: Tensor, tables: Tensor, colour: str, subsampling: str) -> Tensor | None:
    """Images [B, C, H, W] saved and opened; None where the model must do it. See `files`."""
    is_covered = _covers(x, tables, colour, subsampling)
    if not (is_covered and has_few_threads() and _may_be_opened(x)):
        return None
    written = files(x, tables, colour, subsampling)
    return None if written is None else _opened(written, x)


def _may_be_opened(x: Tensor) -> bool:
    """Whether Pillow opens images of this size; it suspects larger ones of an attack."""
    from PIL import Image

    height, width = x.shape[2:]
    most = Image.MAX_IMAGE_PIXELS
    return most is None or height * width <= most


def _covers(x: Tensor, tables: Tensor, colour: str, subsampling: str) -> bool:
    """Whether Pillow has such images, and such files.

    Of tables that need 16 bits and of longer sides its library complains on the standard error
    stream. In 8 bits NaN would be an ordinary level.
    """
    has_colours = colour == YCBCR and x.shape[1] in (1, 3)
    fits = max(x.shape[2:]) <= LARGEST_SIDE
    if x.device.type != "cpu" or not (has_colours and fits) or subsampling not in _SAMPLINGS:
        return False
    if not (values_are_readable(x) and values_are_readable(tables)):
        return False
    return bool(tables.max() <= _LARGEST_STEP) and bool(x.sum().isfinite())


@cached_constant(maxsize=6)
def _equals_model(channels: int, subsampling: str) -> bool:
    """Whether Pillow saves a small picture to the same bytes as the model, and opens it equally."""
    from .coefficients import jpeg_coefficients

    values = torch.arange(channels * 24 * 40, dtype=torch.float32, device="cpu")
    levels = values.square() % 256
    x = (levels / 255).view(1, channels, 24, 40)
    coefficients = jpeg_coefficients(x, 40, subsampling)
    for mode in _MODES:
        written = _saved(x, coefficients.tables, subsampling, **mode)
        if written != coefficients.encode(**mode):
            return False
        if not torch.equal(_opened(written, x), coefficients.decode()):
            return False
    return True


def _saved(x: Tensor, tables: Tensor, subsampling: str, **options: Any) -> list[bytes]:
    result = []
    for image, tables_of_image in zip(_images(x), tables, strict=True):
        used = tables_of_image[: x.shape[1]]
        steps = used.flatten(1).int().tolist()
        result.append(_file(image, qtables=steps, subsampling=subsampling, **options))
    return result


def _file(image: Image, optimize: bool = False, progressive: bool = False, **options: Any) -> bytes:
    """The file that Pillow writes; OSError where its buffer may be too small.

    A baseline file is written in parts. Of the others, Pillow's library wants to write all at once,
    and complains on the standard error stream if the buffer ends before. They are smaller than the
    baseline file, but for the restart markers of their scans.
    """
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    if not (optimize or progressive):
        return file.getvalue()
    pixels = image.width * image.height
    largest = max(_BUFFER, _BYTES_OF_PIXEL * pixels)
    if len(file.getvalue()) + _RESTARTS_OF_PIXEL * pixels > largest:
        raise OSError("the file may not fit into Pillow's buffer")
    file = io.BytesIO()
    image.save(file, "JPEG", optimize=optimize, progressive=progressive, **options)
    return file.getvalue()


def _opened(written: list[bytes], x: Tensor) -> Tensor:
    """The pixels of files of images x, in their type."""
    from PIL import Image

    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    for out, file in zip(result, written, strict=True):
        with Image.open(io.BytesIO(file), formats=("JPEG",)) as image:
            write_values(image, out.numpy())
    return result


def _images(x: Tensor) -> Iterator[Image]:
    """Images [B, C, H, W] in 8 bits, as Pillow's."""
    for values in x.detach().resolve_neg().numpy():
        yield picture(nearest_levels(values))
