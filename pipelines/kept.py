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

from .files import levels_of
from .png import png


def pixels_of(levels: Levels) -> Tensor:
    """Convert levels [h, w, C], uint8 or uint16, to a picture [1, C, h, w] in [0, 1]."""
    highest = numpy.iinfo(levels.dtype).max
    values = torch.from_numpy(levels.astype(numpy.float32))
    channels_first = values.permute(2, 0, 1)
    return channels_first[None] / highest


def read_pixels(path: Path) -> Tensor:
    """Read the colours of a file as it stores them, [1, C, H, W] in [0, 1]."""
    photo = read_photo(path)
    return pixels_of(photo.levels)


def in_grey(picture: Tensor) -> Tensor:
    """Compute the luma [1, 1, H, W] of a picture [1, 3, H, W]."""
    to_grey = Gray()
    grey = to_grey(picture.clamp(0, 1))
    return grey[:, :1]  # its three channels are equal


def encode_like(picture: Tensor, file: PhotoFile) -> bytes:
    """Encode a picture [1, C, H, W] as PNG, with all that the photo's file held beside its colours.

    The alpha channel is resized with the picture. A profile is kept if it is for as many channels.
    """
    levels = levels_of(picture, file.bits)
    channels = levels.shape[2]
    profile = file.profile if channels == file.channels else None
    if file.alpha is not None:
        alpha = alpha_of(file, picture)
        alpha_levels = levels_of(alpha, file.bits)
        levels = numpy.concatenate([levels, alpha_levels], 2)
    return png(levels, profile, file.exif)


def over_white(picture: Tensor, file: PhotoFile) -> Tensor:
    """Draw a picture [1, C, H, W] over white with the alpha of a photo's file, as a viewer does."""
    if file.alpha is None:
        return picture
    alpha = alpha_of(file, picture)
    return 1 - alpha * (1 - picture)


def alpha_of(file: PhotoFile, picture: Tensor) -> Tensor:
    """The alpha channel [1, 1, H, W] of a file that has one, resized to the size of a picture."""
    assert file.alpha is not None
    levels = file.alpha[..., None]
    alpha = pixels_of(levels)
    height, width = picture.shape[2:]
    if alpha.shape[2:] == picture.shape[2:]:
        return alpha
    resize = Resize((height, width))
    return resize(alpha).clamp(0, 1)
