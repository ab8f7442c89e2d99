"""What saving as JPEG does to an image, for a search: its unrounded spectra, and masks of MCUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders import Libraries, sampling_of_plane
from .sampling import Sampling
from .stages import DCT, synthesise, to_image, to_planes_t

Planes = list[Tensor]  # luma [1, ...] and, of a colour image, chroma [2, ...]


class Saving:
    """Save images like `image` [1, C, H, W] with given quantiser steps, in levels and in float64.

    Spectra are in steps and not yet rounded: [planes, rows of blocks, 8, width]. A mask of MCUs is
    [1, 1, rows, columns].
    """

    def __init__(self, steps: Tensor, sampling: Sampling, libraries: Libraries, image: Tensor):
        is_colour = image.shape[1] == 3
        self.sampling = sampling if is_colour else (1, 1)
        self.encoder, self.decoder = libraries
        self.shape = image.shape
        self.across, self.down = self.sampling
        self.dct = DCT.to(image)
        self.sizes: list[tuple[int, int]] = []  # rows of blocks, and their width in samples
        self.steps: Planes = []
        self.divisors: Planes = []
        tables = (steps[:1], steps[1:])  # of luma, of chroma
        for i, plane in enumerate(self.encoder.planes(image, self.sampling)):
            sampling_of_samples = sampling_of_plane(i, self.sampling)
            rows, columns = self.encoder.blocks_of(plane, sampling_of_samples)
            by_plane = tables[i][:, None]
            repeated = by_plane.repeat(1, 1, 1, columns)
            self.sizes.append((rows, 8 * columns))
            self.steps.append(repeated)
            self.divisors.append(self.encoder.divisors(repeated))

    def spectra(self, image: Tensor) -> Planes:
        """The DCT coefficients of an image, divided by the quantiser's steps."""
        result = []
        for i, plane in enumerate(self.encoder.planes(image, self.sampling)):
            sampling_of_samples = sampling_of_plane(i, self.sampling)
            scaled = self.encoder.spectrum(plane, self.steps[i], sampling_of_samples)
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
            sampling_of_samples = sampling_of_plane(i, self.sampling)
            planes.append(self.decoder.samples(spectra, sampling_of_samples))
        image = planes[0].new_empty(self.shape)
        self.decoder.fill(image, planes, self.sampling)
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
        return 8 * self.down, 8 * self.across

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
        sizes = ((8, 8), self.mcu)  # of a block of luma, of chroma
        mask = torch.zeros((), dtype=torch.bool, device=blocks[0].device)
        for blocks_of_plane, size in zip(blocks, sizes, strict=False):  # grey has one plane
            any_plane = blocks_of_plane.any(0)[None, None]
            mask = mask | _repeated(any_plane, size, (height, width))
        return mask

    def differing(self, a: Planes, b: Planes) -> Tensor:
        """The MCUs in which any coefficient differs."""
        counts = []
        for p, q in zip(a, b, strict=True):
            differs = p != q
            blocks = differs.unflatten(3, (-1, 8))
            per_block = blocks.sum((0, 2, 4))
            count = per_block.double()
            counts.append(count[None, None])
        luma, *chroma = counts
        blocks_of_mcu = (self.down, self.across)
        total = F.max_pool2d(luma, blocks_of_mcu, ceil_mode=True)
        for count in chroma:
            total = total + count
        return total > 0

    def pixels(self, mcus: Tensor) -> Tensor:
        """A mask of MCUs as a mask of pixels."""
        height, width = self.shape[2:]
        return _repeated(mcus, self.mcu, (height, width))

    def where(self, mcus: Tensor, chosen: Planes, other: Planes) -> Planes:
        """The coefficients of `chosen` in a mask of MCUs, and those of `other` elsewhere."""
        blocks_of_mcu = ((self.down, self.across), (1, 1))  # of luma, of chroma
        result = []
        for i, size in enumerate(self.sizes):
            down, across = blocks_of_mcu[i]
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
        scales = ((1, 1), (self.down, self.across))  # of luma, of chroma
        planes = []
        for i, values in enumerate(spectra):
            down, across = scales[i]
            dequantised = values * self.steps[i]
            plane = synthesise(dequantised, m)
            rows = -(-height // down)
            columns = -(-width // across)
            folded = _folded(plane, (rows, columns))
            full_size = _repeated(folded, scales[i], (height, width))
            planes.append(full_size)
        image = planes[0].new_empty(self.shape)
        return to_image(planes, (1, 1), image, exact=False)


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
    total = to_planes_t([plane], shape, (1, 1))
    ones = torch.ones_like(plane)
    count = to_planes_t([ones], shape, (1, 1))
    mean = total / count
    return mean[:, 0]
