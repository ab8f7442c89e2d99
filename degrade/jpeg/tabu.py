"""Find 8-bit pixels in cells of the quantiser that are hardly larger than the rounding of a pixel.

From quality 97 on, the rounding of pixels leaves such cells again after each projection. So luma
and chroma are sought apart, as integers, by a tabu search in each block (Glover 1989): one sample
moves by 1 where that brings the spectrum nearest to its cell, and may not move again for some
steps. Colours with these samples are then looked up near the pixel.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .dct import in_blocks, in_plane
from .layout import Layout
from .sampling import repeat
from .saving import Planes, Saving
from .stages import M, components_of

_STEPS = 100  # of the search
_DITHER = 0.5  # levels, so that a search that is repeated finds other samples
_SHORTEST_REST, _LONGEST_REST = 3, 10  # steps in which a sample that moved stays
_HALF_UNIT = 1 / 16  # half of the 1/8 to which libjpeg rounds coefficients
_REACH = 2  # levels: how far colours are looked up in each channel
_FORBIDDEN = 1e9
_ERROR_WEIGHT = 1e6  # of a wrong sample, against the distance of colours


def pixels_in_cells(
    model: Saving, image: Tensor, target: Planes, margin: float, generator: torch.Generator
) -> Tensor:
    """An 8-bit image near this one [1, C, H, W], with more blocks that encode to `target`.

    margin: to the edges of the cells, since libjpeg's DCT has rounding errors.
    """
    planes = model.encoder.planes(image, model.layout)
    wrong = model.wrong_blocks(model.spectra(image), target)
    changes = []
    for i, plane in enumerate(planes):
        blocks = in_blocks(plane, (1, 1))
        steps = _blocks_of_spectra(model.steps[i]).expand_as(blocks)
        numbers = _blocks_of_spectra(target[i])
        cells = _cells(_chosen(numbers, wrong[i]), _chosen(steps, wrong[i]), margin)
        samples = _chosen(blocks, wrong[i])
        found = _samples_in_cells(samples, cells, generator)
        change = torch.zeros_like(blocks)
        change[wrong[i]] = (found - samples).unflatten(1, (8, 8))
        changes.append(in_plane(change))
    return _with_changed_samples(image, changes, model.layout)


def _blocks_of_spectra(spectra: Tensor) -> Tensor:
    """[planes, rows of blocks, 8, width] as [planes, rows, columns, 8, 8]."""
    return in_blocks(spectra.flatten(1, 2), (1, 1))


def _chosen(blocks: Tensor, mask: Tensor) -> Tensor:
    """The blocks [planes, rows, columns, 8, 8] in a mask, as [blocks, 64]."""
    return blocks[mask].flatten(1)


class _Cells(NamedTuple):
    """The smallest and the largest coefficients of each cell [blocks, 64], or [blocks, 1, 64]."""

    low: Tensor
    high: Tensor

    def outside(self, spectra: Tensor) -> Tensor:
        """How far each coefficient lies above its cell, or below it as a negative number."""
        return spectra - spectra.clamp(self.low, self.high)

    def of(self, blocks: Tensor) -> _Cells:
        """The cells of some blocks, for several spectra of each."""
        return _Cells(self.low[blocks, None], self.high[blocks, None])


def _cells(numbers: Tensor, steps: Tensor, margin: float) -> _Cells:
    """The cells of coefficients that are quantised to these numbers.

    libjpeg rounds coefficients to eighths before, halves upward.
    """
    shift = numbers.sign() * _HALF_UNIT
    shrinking = (numbers == 0) * _HALF_UNIT + margin
    low = steps * (numbers - 0.5) - shift + shrinking
    high = steps * (numbers + 0.5) - shift - shrinking
    return _Cells(low, high)


def _samples_in_cells(samples: Tensor, cells: _Cells, generator: torch.Generator) -> Tensor:
    """Integers near the samples [blocks, 64] whose DCT is in the cells, where they are found."""
    dct_of_line = M.to(samples) / (2**13 * math.sqrt(8))
    dct = torch.kron(dct_of_line, dct_of_line)  # [frequency, sample]
    spectra = (samples @ dct.T).clamp(*cells)
    dither = torch.rand(samples.shape, generator=generator) - 0.5
    dithered = spectra @ dct + _DITHER * dither.to(samples)
    samples = dithered.round().clamp(-128, 127)
    may_move_at = torch.zeros_like(samples)
    for step in range(_STEPS):
        spectra = samples @ dct.T
        outside = cells.outside(spectra)
        wrong = outside.any(1).nonzero()[:, 0]
        if len(wrong) == 0:
            break
        moves = -(outside[wrong] @ dct).sign()  # of each sample, toward the cell
        moved = spectra[wrong, None] + moves[:, :, None] * dct.T
        distance = cells.of(wrong).outside(moved).square().sum(2)
        leaves_range = (samples[wrong] + moves + 0.5).abs() > 128
        is_forbidden = leaves_range | (may_move_at[wrong] > step)
        best = (distance + _FORBIDDEN * is_forbidden).argmin(1)
        samples[wrong, best] += moves.gather(1, best[:, None])[:, 0]
        rest = torch.randint(_SHORTEST_REST, _LONGEST_REST + 1, best.shape, generator=generator)
        may_move_at[wrong, best] = step + rest.to(samples)
    return samples


def _with_changed_samples(image: Tensor, changes: Planes, layout: Layout) -> Tensor:
    """The image whose components differ by `changes`, where there are such 8-bit colours.

    Changing the chroma of all pixels that share a sample changes the sample alike.
    """
    height, width = image.shape[2:]
    full_size = []
    for change, group in zip(changes, layout.groups, strict=True):
        full_size.append(repeat(change, group.sampling)[:, :height, :width])
    change_of_pixels = torch.cat(full_size)[:, None]
    if not layout.mixes:
        sign = -1 if layout.inverted else 1
        changed = image + sign * change_of_pixels.transpose(0, 1)
        return changed.clamp(0, 255)
    components = components_of(image, layout)
    is_changed = (change_of_pixels != 0).any(0)
    wanted = (components + change_of_pixels)[:, is_changed]
    result = image.clone()
    channels_last = result.transpose(0, 1)
    channels_last[:, is_changed] = _colours(wanted, channels_last[:, is_changed], layout)
    return result


def _colours(wanted: Tensor, near: Tensor, layout: Layout) -> Tensor:
    """8-bit colours [3, n] whose luma and chroma are `wanted`, or nearest to them.

    Of several, the one nearest to `near` [3, n].
    """
    unit = torch.eye(3, dtype=near.dtype, device=near.device)
    to_components = components_of(unit[None, :, None], layout, False)
    to_colours = torch.linalg.inv(to_components[:, 0, 0])
    white = wanted.new_tensor([128, 0, 0])
    middle = (to_colours @ (wanted + white[:, None])).round()
    best = near
    least = near.new_full(near.shape[1:], math.inf)
    offsets = range(-_REACH, _REACH + 1)
    for offset in itertools.product(offsets, repeat=3):
        colour = (middle + middle.new_tensor(offset)[:, None]).clamp(0, 255)
        components = components_of(colour[None, :, None], layout)[:, 0, 0]
        error = (components - wanted).square().sum(0)
        distance = _ERROR_WEIGHT * error + (colour - near).square().sum(0)
        is_better = distance < least
        best = torch.where(is_better, colour, best)
        least = torch.where(is_better, distance, least)
    return best
