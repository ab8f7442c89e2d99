"""Find the image near another one that a JPEG saves as a given picture.

A decoded JPEG tells, for each DCT coefficient, the cell of the quantiser that it lay in. An 8-bit
image in all these cells is sought by alternating projections: into the cells, back into pixels,
into [0, 255]. Encoding treats each MCU alone (the 8×8, 16×8, 8×16 or 16×16 pixels that share their
blocks), so each MCU is solved alone. Source: Zakhor 1992, iterative procedures for the reduction of
blocking effects; Youla & Webb 1982.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from .jpeg_stages import DCT, forward_dct, inverse_dct, to_image, to_planes, to_planes_t

_ROUNDS = 48  # projections of a picture into the cells
_EDGE = 0.02  # in steps: the first distance from a cell's edge; it grows to the cell's centre
_TILE = 256  # pixels of a side that are solved at a time
_AROUND = 16  # pixels around a tile that decoding mixes into it
_SEARCH = 16  # rounds in which the coefficients of an observation are sought

Planes = list[Tensor]  # luma [1, ...] and, of a colour image, chroma [2, ...]


def nearest_saved_as(x: Tensor, y: Tensor, steps: Tensor, sampling: tuple[int, int]) -> Tensor:
    """The 8-bit image near x [1, C, H, W] that saving turns into y; both are in [0, 1].

    steps: the quantiser's steps [1, C, 8, 8]. An MCU of x that already encodes to y's coefficients
    stays x, rounded. Where the search near x fails, it starts again from y. Where that fails too,
    the MCU takes the pixels of y.
    """
    result = torch.empty_like(x)
    height, width = x.shape[2:]
    corners = itertools.product(range(0, height, _TILE), range(0, width, _TILE))
    for top, left in corners:
        rows = slice(max(0, top - _AROUND), top + _TILE + _AROUND)
        columns = slice(max(0, left - _AROUND), left + _TILE + _AROUND)
        near = _levels(x[..., rows, columns])
        saved = _levels(y[..., rows, columns]).round_()
        part = _saved_as(near, saved, steps, sampling)
        part = part[..., top - rows.start :, left - columns.start :]
        result[..., top : top + _TILE, left : left + _TILE] = part[..., :_TILE, :_TILE]
    return result.div_(255)


def _levels(image: Tensor) -> Tensor:
    """Values in [0, 1] as float64 levels in [0, 255]."""
    return (image.double() * 255).clamp(0, 255)


def _saved_as(near: Tensor, saved: Tensor, steps: Tensor, sampling: tuple[int, int]) -> Tensor:
    """`nearest_saved_as` for one tile, in levels."""
    model = _Saving(steps.double()[0], sampling, saved)
    target = model.coefficients(near.round(), saved)
    image, missed = model.into_cells(near, target)
    if not missed.any():
        return image
    start = torch.where(missed, saved, image)
    image, missed = model.into_cells(start, target)
    return torch.where(missed, saved, image)


class _Saving:
    """Save images like `image` [1, C, H, W] with given quantiser steps, in levels and in float64.

    Spectra are in steps and not yet rounded: [planes, rows of blocks, 8, width]. A mask of MCUs is
    [1, 1, rows, columns].
    """

    def __init__(self, steps: Tensor, sampling: tuple[int, int], image: Tensor):
        self.sampling = sampling if image.shape[1] == 3 else (1, 1)
        self.shape = image.shape
        self.across, self.down = self.sampling
        self.dct = DCT.to(image)
        planes = to_planes(image, self.sampling)
        self.sizes = [plane.shape[1:] for plane in planes]
        self.steps: Planes = []
        tables = (steps[:1], steps[1:])
        for table, (_, width) in zip(tables, self.sizes, strict=False):  # grey has one plane
            self.steps.append(table[:, None].repeat(1, 1, 1, width // 8))

    def spectra(self, image: Tensor) -> Planes:
        """The DCT coefficients of an image, divided by the quantiser's steps."""
        result = []
        planes = to_planes(image, self.sampling)
        for plane, steps in zip(planes, self.steps, strict=True):
            scaled = forward_dct(plane, self.dct)  # 8 times the DCT
            result.append(scaled.unflatten(1, (-1, 8)) / (8 * steps))
        return result

    def rounded(self, spectra: Planes) -> Planes:
        """The nearest integers, half away from zero."""
        result = []
        for values in spectra:
            magnitude = (values.abs() + 0.5).floor()
            result.append(values.sign() * magnitude)
        return result

    def decoded(self, coefficients: Planes) -> Tensor:
        """The image that a decoder makes of quantised coefficients."""
        planes = []
        for integers, steps in zip(coefficients, self.steps, strict=True):
            dequantised = (integers * steps).flatten(1, 2)
            plane = inverse_dct(dequantised, self.dct)
            planes.append(plane.clamp_(-128, 127))
        image = planes[0].new_empty(self.shape)
        return to_image(planes, self.sampling, image).clamp_(0, 255)

    def coefficients(self, near: Tensor, saved: Tensor) -> Planes:
        """In each MCU, the coefficients whose decoded pixels are nearest to `saved`.

        Those of `near` are preferred where they are as good. Encoding `saved` again often gives
        other coefficients, because upsampling and the clamp lose something. What they lose is
        added to the spectra before the next try (Van Cittert's iteration).
        """
        best = self.rounded(self.spectra(near))
        least_error = self._error(best, saved)
        first = self.spectra(saved)
        spectra = first
        for _ in range(_SEARCH):
            if not least_error.any():
                break
            trial = self.rounded(spectra)
            error = self._error(trial, saved)
            better = error < least_error
            best = self._where(better, trial, best)
            least_error = torch.where(better, error, least_error)
            again = self.spectra(self.decoded(trial))
            spectra = _add_loss(spectra, first, again)
        return best

    def _error(self, coefficients: Planes, saved: Tensor) -> Tensor:
        """The mean absolute error of each MCU after decoding."""
        difference = (self.decoded(coefficients) - saved).abs()
        per_pixel = difference.sum(1, keepdim=True)
        return F.avg_pool2d(per_pixel, (8 * self.down, 8 * self.across), ceil_mode=True)

    def into_cells(self, image: Tensor, target: Planes) -> tuple[Tensor, Tensor]:
        """(8-bit image near this one that encodes to `target`, mask of the pixels that do not)."""
        margins = torch.linspace(_EDGE, 0.5, _ROUNDS, dtype=torch.float32, device="cpu")
        for margin in margins.tolist():
            spectra = self.spectra(image.round())
            missed = self._missed(spectra, target)
            if not missed.any():
                break
            changes = _steps_into_cells(spectra, target, margin)
            moved = (image + self.residual(changes)).clamp(0, 255)
            image = torch.where(missed, moved, image)
        image = image.round()
        return image, self._missed(self.spectra(image), target)

    def _missed(self, spectra: Planes, target: Planes) -> Tensor:
        """The pixels of the MCUs whose rounded spectra are not `target`."""
        return self.pixels(self.differing(self.rounded(spectra), target))

    def differing(self, a: Planes, b: Planes) -> Tensor:
        """The MCUs in which any coefficient differs."""
        counts = []
        for p, q in zip(a, b, strict=True):
            blocks = (p != q).unflatten(3, (-1, 8))
            per_block = blocks.sum((0, 2, 4)).double()
            counts.append(per_block[None, None])
        luma, *chroma = counts
        total = F.max_pool2d(luma, (self.down, self.across), ceil_mode=True)
        for count in chroma:
            total = total + count
        return total > 0

    def pixels(self, mcus: Tensor) -> Tensor:
        """A mask of MCUs as a mask of pixels."""
        return _repeated(mcus, 8 * self.down, 8 * self.across, *self.shape[2:])

    def _where(self, mcus: Tensor, chosen: Planes, other: Planes) -> Planes:
        """The coefficients of `chosen` in a mask of MCUs, and those of `other` elsewhere."""
        blocks_of_mcu = ((self.down, self.across), (1, 1))  # of luma, of chroma
        result = []
        for i, (height, width) in enumerate(self.sizes):
            down, across = blocks_of_mcu[i]
            mask = _repeated(mcus, down, 8 * across, height // 8, width)
            mask = mask[0, :, :, None]
            result.append(torch.where(mask, chosen[i], other[i]))
        return result

    def residual(self, spectra: Planes) -> Tensor:
        """The change of pixels that changes the spectra so, as far as padding and colours allow."""
        m = self.dct[0] / 2**14.5
        height, width = self.shape[2:]
        scales = ((1, 1), (self.down, self.across))  # of luma, of chroma
        planes = []
        for i, values in enumerate(spectra):
            down, across = scales[i]
            count, _, _, columns = values.shape
            dequantised = (values * self.steps[i]).view(-1, 8, columns)
            vertical = m[:8, :8].mT @ dequantised
            plane = (vertical.view(-1, 16) @ m).view(count, -1, columns)
            plane = _folded(plane, -(-height // down), -(-width // across))
            planes.append(_repeated(plane, down, across, height, width))
        image = planes[0].new_empty(self.shape)
        return to_image(planes, (1, 1), image, exact=False)


def _add_loss(spectra: Planes, first: Planes, again: Planes) -> Planes:
    """spectra + (first - again), in that order of sums."""
    result = []
    for i, values in enumerate(spectra):
        result.append(values + first[i] - again[i])
    return result


def _steps_into_cells(spectra: Planes, target: Planes, margin: float) -> Planes:
    """What moves each coefficient into its cell, at least `margin` from the cell's edge."""
    result = []
    for values, centre in zip(spectra, target, strict=True):
        low = centre - 0.5 + margin
        high = centre + 0.5 - margin
        result.append(values.clamp(low, high) - values)
    return result


def _repeated(x: Tensor, down: int, across: int, height: int, width: int) -> Tensor:
    """Repeat every element down × across times, and crop to a size."""
    tall = x.repeat_interleave(down, -2)
    large = tall.repeat_interleave(across, -1)
    return large[..., :height, :width]


def _folded(plane: Tensor, height: int, width: int) -> Tensor:
    """The mean of each pixel and of the copies of it that pad the blocks."""
    shape = torch.Size((len(plane), 1, height, width))
    total = to_planes_t([plane], shape, (1, 1))
    count = to_planes_t([torch.ones_like(plane)], shape, (1, 1))
    return total[:, 0] / count[:, 0]
