"""Find the image near another one that a JPEG saves as a given picture.

A decoded JPEG tells, for each DCT coefficient, the cell of the quantiser that it lay in. An 8-bit
image in all these cells is sought by alternating projections: into the cells, back into pixels,
into [0, 255]. Encoding treats each MCU alone (the 8×8, 16×8, 8×16 or 16×16 pixels that share their
blocks), so each MCU is solved alone. Source: Zakhor 1992, iterative procedures for the reduction of
blocking effects; Youla & Webb 1982.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders import Libraries, sampling_of_plane
from .sampling import Sampling
from .stages import DCT, synthesise, to_image, to_planes_t

_ROUNDS = 48  # projections of a picture into the cells
_MORE_ROUNDS = 96  # the same, if the cells are certain
_DITHERED_ROUNDS = 112  # after them, if the cells are certain
_EDGE = 0.02  # in steps: the first distance from a cell's edge; it grows to the cell's centre
_DITHERED_EDGE = 0.1  # in steps: the largest distance from a cell's edge in dithered rounds
_TILE = 256  # pixels of a side that are solved at a time
_AROUND = 16  # pixels around a tile that decoding mixes into it, at least
_SEARCH = 16  # rounds in which the coefficients of an observation are sought

Planes = list[Tensor]  # luma [1, ...] and, of a colour image, chroma [2, ...]


def nearest_saved_as(
    x: Tensor,
    y: Tensor,
    steps: Tensor,
    sampling: Sampling,
    libraries: Libraries,
    components: Sequence[Tensor] | None = None,
) -> Tensor:
    """The 8-bit image near x [1, C, H, W] that saving turns into y; both are in [0, 1].

    steps: the quantiser's steps [1, C, 8, 8].
    components: the coefficients of y's file as in `JPEGCoefficients`; sought if they are not known.

    An MCU of x that already encodes to y's coefficients stays x, rounded. Where the search near x
    fails, it starts again from y. Where that fails too, the MCU takes the pixels of y.
    """
    result = torch.empty_like(x)
    height, width = x.shape[2:]
    tops = range(0, height, _TILE)
    lefts = range(0, width, _TILE)
    for top, left in itertools.product(tops, lefts):
        rows = slice(top, top + _TILE)
        columns = slice(left, left + _TILE)
        wide_rows = _with_surroundings(rows, sampling)
        wide_columns = _with_surroundings(columns, sampling)
        near_values = x[..., wide_rows, wide_columns]
        near = _levels(near_values)
        saved_values = y[..., wide_rows, wide_columns]
        saved = _levels(saved_values)
        saved.round_()
        target = None
        if components is not None:
            parts = part_of_components(components, wide_rows, wide_columns, sampling)
            target = _as_planes(parts)
        model = _Saving(steps.double()[0], sampling, libraries, saved)
        part = _saved_as(near, saved, model, target)
        rows_above = top - wide_rows.start
        columns_before = left - wide_columns.start
        part = part[..., rows_above:, columns_before:]
        tile = part[..., :_TILE, :_TILE]
        result[..., rows, columns] = tile
    return result.div_(255)


def _with_surroundings(span: slice, sampling: Sampling) -> slice:
    """The rows or columns of a tile, and whole MCUs around it, which decoding mixes into it."""
    around = max(_AROUND, 8 * max(sampling))
    start = max(0, span.start - around)
    return slice(start, span.stop + around)


def _levels(image: Tensor) -> Tensor:
    """Values in [0, 1] as float64 levels in [0, 255]."""
    levels = image.double() * 255
    return levels.clamp(0, 255)


def part_of_components(
    components: Sequence[Tensor], rows: slice, columns: slice, sampling: Sampling
) -> list[Tensor]:
    """The blocks of a part of the image, which begins at whole MCUs: [1, rows, columns, 8, 8]."""
    across, down = sampling
    parts = []
    for i, component in enumerate(components):
        height, width = (8 * down, 8 * across) if i > 0 else (8, 8)  # pixels of a block
        rows_of_blocks = slice(rows.start // height, -(-rows.stop // height))
        columns_of_blocks = slice(columns.start // width, -(-columns.stop // width))
        parts.append(component[:, rows_of_blocks, columns_of_blocks])
    return parts


def _as_planes(components: Sequence[Tensor]) -> Planes:
    """Blocks of components as spectra [planes, rows of blocks, 8, width]."""
    planes = []
    for component in components:
        blocks = component.double()
        plane = blocks.transpose(2, 3).flatten(3)
        planes.append(plane)
    if len(planes) == 1:
        return planes
    return [planes[0], torch.cat(planes[1:])]


def _saved_as(near: Tensor, saved: Tensor, model: _Saving, target: Planes | None) -> Tensor:
    """`nearest_saved_as` for one tile, in levels."""
    rounds, dithered_rounds = _MORE_ROUNDS, _DITHERED_ROUNDS
    if target is None:
        rounds, dithered_rounds = _ROUNDS, 0
        rounded = near.round()
        target = model.coefficients(rounded, saved)
    image, missed = model.into_cells(near, target, rounds, dithered_rounds)
    if not missed.any():
        return image
    start = torch.where(missed, saved, image)
    image, missed = model.into_cells(start, target, rounds, dithered_rounds)
    return torch.where(missed, saved, image)


class _Saving:
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

    def coefficients(self, near: Tensor, saved: Tensor) -> Planes:
        """In each MCU, the coefficients whose decoded pixels are nearest to `saved`.

        Those of `near` are preferred where they are as good. Encoding `saved` again often gives
        other coefficients, because upsampling and the clamp lose something. What they lose is
        added to the spectra before the next try (Van Cittert's iteration).
        """
        spectra_near = self.spectra(near)
        best = self.rounded(spectra_near)
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
            decoded = self.decoded(trial)
            again = self.spectra(decoded)
            spectra = _add_loss(spectra, first, again)
        return best

    def _error(self, coefficients: Planes, saved: Tensor) -> Tensor:
        """The mean absolute error of each MCU after decoding."""
        decoded = self.decoded(coefficients)
        difference = (decoded - saved).abs()
        per_pixel = difference.sum(1, keepdim=True)
        return F.avg_pool2d(per_pixel, self._mcu, ceil_mode=True)

    @property
    def _mcu(self) -> tuple[int, int]:
        """Height and width of an MCU, in pixels."""
        return 8 * self.down, 8 * self.across

    def into_cells(
        self, image: Tensor, target: Planes, rounds: int, dithered_rounds: int
    ) -> tuple[Tensor, Tensor]:
        """(8-bit image near this one that encodes to `target`, mask of the pixels that do not)."""
        margins = torch.linspace(_EDGE, 0.5, rounds, dtype=torch.float32, device="cpu")
        for margin in margins.tolist():
            rounded = image.round()
            spectra = self.spectra(rounded)
            missed = self._missed(spectra, target)
            if not missed.any():
                break
            changes = _steps_into_cells(spectra, target, margin)
            moved = image + self.residual(changes)
            in_range = moved.clamp(0, 255)
            image = torch.where(missed, in_range, image)
        image = image.round()
        image = self._dithered_into_cells(image, target, dithered_rounds)
        spectra = self.spectra(image)
        return image, self._missed(spectra, target)

    def _dithered_into_cells(self, image: Tensor, target: Planes, rounds: int) -> Tensor:
        """Go on with random rounding, which leaves the cycles that rounding to nearest gets into.

        Only the blocks outside of their cells move. A value v becomes one of its two neighbouring
        integers, with the mean v. Random numbers are the same in every call.
        """
        generator = torch.Generator("cpu").manual_seed(0)
        for _ in range(rounds):
            spectra = self.spectra(image)
            wrong = self._wrong_blocks(spectra, target)
            if not any(blocks.any() for blocks in wrong):
                break
            margin = _DITHERED_EDGE * float(torch.rand((), generator=generator))
            changes = _steps_into_cells(spectra, target, margin)
            changes_of_wrong = []
            for change, blocks in zip(changes, wrong, strict=True):
                columns = blocks.repeat_interleave(8, 2)
                changes_of_wrong.append(change * columns[:, :, None])
            dither = torch.rand(image.shape, generator=generator) - 0.5
            moved = image + self.residual(changes_of_wrong) + dither.to(image)
            rounded = moved.round().clamp(0, 255)
            image = torch.where(self._pixels_of_blocks(wrong), rounded, image)
        return image

    def _wrong_blocks(self, spectra: Planes, target: Planes) -> Planes:
        """Which blocks [planes, rows, columns] do not round to `target`."""
        result = []
        for coefficients, wanted in zip(self.rounded(spectra), target, strict=True):
            differs = coefficients != wanted
            blocks = differs.unflatten(3, (-1, 8))
            result.append(blocks.any(4).any(2))
        return result

    def _pixels_of_blocks(self, blocks: Planes) -> Tensor:
        """The mask [1, 1, H, W] of the pixels of blocks [planes, rows, columns]."""
        height, width = self.shape[2:]
        sizes = ((8, 8), self._mcu)  # of a block of luma, of chroma
        mask = torch.zeros((), dtype=torch.bool, device=blocks[0].device)
        for blocks_of_plane, size in zip(blocks, sizes, strict=False):  # grey has one plane
            any_plane = blocks_of_plane.any(0)[None, None]
            mask = mask | _repeated(any_plane, size, (height, width))
        return mask

    def _missed(self, spectra: Planes, target: Planes) -> Tensor:
        """The pixels of the MCUs whose rounded spectra are not `target`."""
        coefficients = self.rounded(spectra)
        mcus = self.differing(coefficients, target)
        return self.pixels(mcus)

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
        return _repeated(mcus, self._mcu, (height, width))

    def _where(self, mcus: Tensor, chosen: Planes, other: Planes) -> Planes:
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


def _add_loss(spectra: Planes, first: Planes, again: Planes) -> Planes:
    """spectra + (first - again), in that order of sums."""
    result = []
    for i, values in enumerate(spectra):
        corrected = values + first[i] - again[i]
        result.append(corrected)
    return result


def _steps_into_cells(spectra: Planes, target: Planes, margin: float) -> Planes:
    """What moves each coefficient into its cell, at least `margin` from the cell's edge."""
    result = []
    for values, centre in zip(spectra, target, strict=True):
        low = centre - 0.5 + margin
        high = centre + 0.5 - margin
        inside = values.clamp(low, high)
        result.append(inside - values)
    return result


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
