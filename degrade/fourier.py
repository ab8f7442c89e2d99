"""The magnitude of an image's Fourier transform, from which phase retrieval finds the image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import Operator, Shape
from .params import Number, decided, number
from .registry import register
from .rng import Rng
from .sensing import share_of_each


@register("fouriermagnitude", exact="the DFT's magnitude", gradient="exact")
class FourierMagnitude(Operator):
    """Keep how strong each frequency of an image is, and lose its phase, which says where.

    y = |F x'| / √(h'·w') with x' the image in a black frame, of h' × w' pixels, and F its discrete
    Fourier transform, for each channel.

    oversampling: the frame is ⌊oversampling·n / 8⌋ pixels wide on both sides of n pixels, so 2
    makes each side 1.5 times as long; 0 to 8. From 4 on y is the whole autocorrelation of x.

    Output [B, C, 1, h'·w']: all frequencies, row by row, with frequency 0 at row ⌊h'/2⌋ and column
    ⌊w'/2⌋. It is no picture, so a loss compares its values only; `input_shape` takes it for that of
    a square image. Frequency 0 is about half of a side, and most others are far below 1. y does not
    change if a channel of the image moves within the frame without leaving it, or is turned by
    180°: a restoration may be any of these images.
    Gradient: exact; 0 where a magnitude is 0. Source: phase retrieval of DPS (Chung et al. 2023).
    """

    oversampling: Number = number(default=2, low=0, high=8, per_image=False)

    def frame(self, shape: Shape) -> tuple[int, int]:
        """The width of the black frame above and below, and at the left and right."""
        oversampling = decided(self.oversampling)
        height, width = shape[2:]
        return int(oversampling / 8 * height), int(oversampling / 8 * width)

    def output_shape(self, shape: Shape) -> Shape:
        batch, channels, height, width = shape
        rows, columns = self.frame(shape)
        frequencies = (height + 2 * rows) * (width + 2 * columns)
        return (batch, channels, 1, frequencies)

    def input_shape(self, shape: Shape) -> Shape:
        """The shape of a square image. Raises ValueError if no square gives so many values."""
        batch, channels, _, frequencies = shape
        for side in range(1, math.isqrt(frequencies) + 1):
            square = (batch, channels, side, side)
            if self.output_shape(square)[3] == frequencies:
                return square
        raise ValueError(
            f"{self}: {frequencies} magnitudes are not those of a square image; "
            "restore them with a prior that has a size"
        )

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        raise ValueError(f"{self}: a magnitude mixes all pixels, so it has no position of one")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        rows, columns = self.frame(x.shape)
        framed = F.pad(x.double(), (columns, columns, rows, rows))
        spectrum = torch.fft.fft2(framed, norm="ortho")
        centred = torch.fft.fftshift(spectrum, dim=(-2, -1))
        magnitudes: Tensor = centred.abs()
        rows_in_turn: Tensor = magnitudes.flatten(2).unsqueeze(2)
        return rows_in_turn.to(x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        """Every magnitude mixes all pixels, so each carries the visible share of the image."""
        return share_of_each(seen, self.output_shape(shape))
