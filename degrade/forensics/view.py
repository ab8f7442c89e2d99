"""The planes of a picture that are examined, and which of its pixels are clipped."""

from __future__ import annotations

import numpy
import torch
from torch.nn import functional

from .blocks import LUMA

SIDE = 1536  # pixels: only the middle of a larger picture is examined


class View:
    """The planes of a picture [h, w, 3], in levels; a grey picture has one plane.

    hidden: which pixels are fully transparent, [h, w]. They count as clipped.
    """

    def __init__(self, pixels: numpy.ndarray, hidden: numpy.ndarray | None = None):
        x = torch.tensor(pixels, dtype=torch.float64)
        red = x[..., :1]
        self.mix = LUMA
        if torch.equal(x, red.expand_as(x)):
            x = red
            self.mix = torch.ones(1, dtype=torch.float64)
        self.colours = x.movedim(2, 0)
        # Rounded luma is what a JPEG decoder had before it made colours.
        luma = x @ self.mix
        self.luma = luma.round() - 128
        is_at_end = (x <= 0) | (x >= 255)
        self.clipped = is_at_end.any(2)
        if hidden is not None:
            self.clipped |= torch.tensor(hidden)


def middle(pixels: numpy.ndarray) -> numpy.ndarray:
    """Crop to the middle. The crop starts at a multiple of 16, so that blocks keep their grid."""
    height, width = pixels.shape[:2]
    top = max(0, height - SIDE) // 32 * 16
    left = max(0, width - SIDE) // 32 * 16
    return pixels[top : top + SIDE, left : left + SIDE]


def clipped_share(displayed: numpy.ndarray) -> float:
    """The share of clipped pixels in areas of at least 3×3; noise also clips single pixels."""
    if min(displayed.shape[:2]) < 3:
        return 0.0
    is_at_end = (displayed == 0) | (displayed == 255)
    is_clipped = is_at_end.any(2)
    mask = torch.from_numpy(is_clipped)[None].float()
    eroded = -functional.max_pool2d(-mask, 3, 1)
    padded = functional.pad(eroded, (2, 2, 2, 2))
    opened = functional.max_pool2d(padded, 3, 1)
    return round(float(opened.mean()), 4)
