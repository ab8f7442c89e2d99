"""What saving as JPEG does to an image, for a search: its unrounded spectra, and masks of MCUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders import Libraries
from .layout import GREY, Layout
from .stages import DCT, synthesise, to_image, to_planes_t

Planes = list[Tensor]  # of each group of components [n, ...]: luma and, in colour, chroma


class Saving:
    """Save images like `image` [1, C, H, W] with given quantiser steps, in levels and in float64.

    Spectra are in steps and not yet rounded: [planes, rows of blocks, 8, width]. A mask of MCUs is
    [1, 1, rows, columns].
    """

    def __init__(self, steps: Tensor, layout: Layout, libraries: Libraries, image: Tensor):
        self.layout = layout
        self.groups = layout.groups
        self.encoder, self.decoder = libraries
        self.shape = image.shape
        self.dct = DCT.to(image)
        self.sizes: list[tuple[int, int]] = []  # rows of blocks, and their width in samples
        self.steps: Planes = []
        self.divisors: Planes = []
        planes = self.encoder.planes(image, layout)
        for plane, group in zip(planes, self.groups, strict=True):
            rows, columns = self.encoder.blocks_of(plane, group.sampling)
            by_plane = steps[group.components, None]
            repeated = by_plane.repeat(1, 1, 1, columns)
            self.sizes.append((rows, 8 * columns))
            self.steps.append(repeated)
            self.divisors.append(self.encoder.divisors(repeated))

    def spectra(self, image: Tensor) -> Planes:
        """The DCT coefficients of an image, divided by the quantiser's steps."""
        result = []
        for i, plane in enumerate(self.encoder.planes(image, self.layout)):
            scaled = self.encoder.spectrum(plane, self.steps[i], self.groups[i].sampling)
            blocks = scaled.unflatten(1, (-1, 8))
            result.append(blocks / self.divisors[i])
        return result

    def rounded(self, spectra: Planes) -> Planes:
        """The nearest integers, half away from zero."""
        result = []
        for values in spectra:
            distance = values.abs() + 0.5
            magnitude = distance.floor()
            result.append(values.sign() * magnitude)
        return result

    def decoded(self, coefficients: Planes) -> Tensor:
        """The image that a decoder makes of quantised coefficients."""
        planes = []
        for i, integers in enumerate(coefficients):
            dequantised = integers * self.steps[i]
            spectra = dequantised.flatten(1, 2)
            planes.append(self.decoder.samples(spectra, self.groups[i].sampling))
        image = planes[0].new_empty(self.shape)
        self.decoder.fill(image, planes, self.layout)
        return image.clamp_(0, 255)

    def error(self, coefficients: Planes, saved: Tensor) -> Tensor:
        """The mean absolute error of each MCU after decoding."""
        decoded = self.decoded(coefficients)
        difference = (decoded - saved).abs()
        per_pixel = difference.sum(1, keepdim=True)
        return F.avg_pool2d(per_pixel, self.mcu, ceil_mode=True)

    @property
    def mcu(self) -> tuple[int, int]:
        """Height and width of an MCU, in pixels."""
        across, down = self.layout.mcu
        return 8 * down, 8 * across

    def wrong_blocks(self, spectra: Planes, target: Planes) -> Planes:
        """Which blocks [planes, rows, columns] do not round to `target`."""
        result = []
        for coefficients, wanted in zip(self.rounded(spectra), target, strict=True):
            differs = coefficients != wanted
            blocks = differs.unflatten(3, (-1, 8))
            result.append(blocks.any(4).any(2))
        return result

    def pixels_of_blocks(self, blocks: Planes) -> Tensor:
        """The mask [1, 1, H, W] of the pixels of blocks [planes, rows, columns]."""
        height, width = self.shape[2:]
        mask = torch.zeros((), dtype=torch.bool, device=blocks[0].device)
        for blocks_of_group, group in zip(blocks, self.groups, strict=True):
            across, down = group.sampling
            any_plane = blocks_of_group.any(0)[None, None]
            mask = mask | _repeated(any_plane, (8 * down, 8 * across), (height, width))
        return mask

    def differing(self, a: Planes, b: Planes) -> Tensor:
        """The MCUs in which any coefficient differs."""
        height, width = self.shape[2:]
        rows, columns = self.mcu
        mcus = torch.zeros(1, 1, -(-height // rows), -(-width // columns), device=a[0].device)
        for i, group in enumerate(self.groups):
            differs = a[i] != b[i]
            blocks = differs.unflatten(3, (-1, 8))
            per_block = blocks.sum((0, 2, 4))
            across, down = group.factors
            mcus += F.max_pool2d(per_block[None, None].float(), (down, across), ceil_mode=True)
        return mcus > 0

    def pixels(self, mcus: Tensor) -> Tensor:
        """A mask of MCUs as a mask of pixels."""
        height, width = self.shape[2:]
        return _repeated(mcus, self.mcu, (height, width))

    def where(self, mcus: Tensor, chosen: Planes, other: Planes) -> Planes:
        """The coefficients of `chosen` in a mask of MCUs, and those of `other` elsewhere."""
        result = []
        for i, size in enumerate(self.sizes):
            across, down = self.groups[i].factors
            times = (down, 8 * across)
            mask = _repeated(mcus, times, size)
            mask = mask[0, :, :, None]
            plane = torch.where(mask, chosen[i], other[i])
            result.append(plane)
        return result

    def residual(self, spectra: Planes) -> Tensor:
        """The change of pixels that changes the spectra so, as far as padding and colours allow."""
        m = self.dct[0] / 2**14.5
        height, width = self.shape[2:]
        planes = []
        for i, values in enumerate(spectra):
            across, down = self.groups[i].sampling
            dequantised = values * self.steps[i]
            plane = synthesise(dequantised, m)
            rows = -(-height // down)
            columns = -(-width // across)
            folded = _folded(plane, (rows, columns))
            full_size = _repeated(folded, (down, across), (height, width))
            planes.append(full_size)
        image = planes[0].new_empty(self.shape)
        return to_image(planes, self.layout, image, exact=False, enlarge_plane=_unchanged)


def _unchanged(plane: Tensor, *_: object) -> Tensor:
    return plane


def _repeated(x: Tensor, times: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Repeat every element (down, across) times, and crop to a size (height, width)."""
    down, across = times
    height, width = size
    tall = x.repeat_interleave(down, -2)
    large = tall.repeat_interleave(across, -1)
    return large[..., :height, :width]


def _folded(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of each pixel and of the copies of it that pad the blocks."""
    shape = torch.Size((len(plane), 1, *size))
    total = to_planes_t([plane], shape, GREY)
    ones = torch.ones_like(plane)
    count = to_planes_t([ones], shape, GREY)
    mean = total / count
    return mean[:, 0]
