"""Photos as tensors, and results that keep what the photo's file held: depth, alpha, profile, EXIF.

Source of the mixing of transparent pixels: Porter & Duff 1984.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from degrade import Resize
from degrade.filter import Gray
from degrade.photofile import Levels, PhotoFile, read_photo

from .png import png


def pixels_of(levels: Levels) -> Tensor:
    """[1, C, H, W] in [0, 1] of levels [h, w, C], uint8 or uint16."""
    values = torch.from_numpy(levels.astype(numpy.float32))
    return values.permute(2, 0, 1)[None] / numpy.iinfo(levels.dtype).max


def levels_of(picture: Tensor, bits: int) -> Levels:
    """[h, w, C] of a picture [1, C, H, W], clamped to [0, 1] and rounded half to even.

    Raises ValueError if it holds NaN.
    """
    values = picture.detach().cpu()[0].clamp(0, 1)
    if values.isnan().any():
        raise ValueError("the picture holds NaN and cannot be written")
    if bits > 8:
        values = values.double()  # float32 has too few digits for a product of 16 bits
    rounded = (values * (2**bits - 1)).round().permute(1, 2, 0).contiguous()
    levels: Levels = rounded.numpy().astype(numpy.uint8 if bits == 8 else numpy.uint16)
    return levels


def read_pixels(path: Path) -> Tensor:
    """The colours in a file as it stores them, [1, C, H, W] in [0, 1]."""
    return pixels_of(read_photo(path).levels)


def in_grey(picture: Tensor) -> Tensor:
    """The luma of a picture [1, 3, H, W], [1, 1, H, W]."""
    return Gray()(picture.clamp(0, 1))[:, :1]


def encode_like(picture: Tensor, file: PhotoFile) -> bytes:
    """A PNG file of a picture [1, C, H, W], with all that the photo's file held beside its colours.

    The alpha channel is resized with the picture. A profile is kept if it is of as many channels.
    """
    levels = levels_of(picture, file.bits)
    profile = file.profile if levels.shape[2] == file.channels else None
    if file.alpha is not None:
        alpha = levels_of(alpha_of(file, picture), file.bits)
        levels = numpy.concatenate([levels, alpha], 2)
    return png(levels, profile, file.exif)


def over_white(picture: Tensor, file: PhotoFile) -> Tensor:
    """A picture [1, C, H, W] with the alpha of a photo's file, as a viewer shows it."""
    if file.alpha is None:
        return picture
    return 1 - alpha_of(file, picture) * (1 - picture)


def alpha_of(file: PhotoFile, picture: Tensor) -> Tensor:
    """The alpha channel of a file that has one, [1, 1, H, W], at the size of a picture."""
    assert file.alpha is not None
    alpha = pixels_of(file.alpha[..., None])
    height, width = picture.shape[2:]
    if alpha.shape[2:] == picture.shape[2:]:
        return alpha
    return Resize((height, width))(alpha).clamp(0, 1)
