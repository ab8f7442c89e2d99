"""Find the image near another one that a JPEG saves as a given picture.

A decoded JPEG tells, for each DCT coefficient, the cell of the quantiser that it lay in. An 8-bit
image in all these cells is sought by alternating projections: into the cells, back into pixels,
into [0, 255]. Encoding treats each MCU alone (the 8×8 to 16×32 pixels that share their blocks), so
each MCU is solved alone. Source: Zakhor 1992, iterative procedures for the reduction of blocking
effects; Youla & Webb 1982.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .encoders import Libraries
from .layout import Layout
from .saving import Planes, Saving
from .tabu import pixels_in_cells

_ROUNDS = 48  # projections of a picture into the cells
_MORE_ROUNDS = 96  # the same, if the cells are certain
_DITHERED_ROUNDS = 224  # after them, if the cells are certain
_EDGE = 0.02  # in steps: the first distance from a cell's edge; it grows to the cell's centre
_DITHERED_EDGE = 0.1  # in steps: the largest distance from a cell's edge in dithered rounds
_MARGINS = (0.06, 0.06, 0.05, 0.04, 0.03, 0.03, 0.02, 0.02)  # of searches by integers, in levels
_TILE = 256  # pixels of a side that are solved at a time, at most
_AROUND = 16  # pixels around a tile that decoding mixes into it, at least
_SEARCH = 16  # rounds in which the coefficients of an observation are sought


def nearest_saved_as(
    x: Tensor,
    y: Tensor,
    steps: Tensor,
    layout: Layout,
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
    across, down = layout.mcu
    mcu_rows, mcu_columns = 8 * down, 8 * across
    tile_rows = _TILE // mcu_rows * mcu_rows
    tile_columns = _TILE // mcu_columns * mcu_columns
    tops = range(0, height, tile_rows)
    lefts = range(0, width, tile_columns)
    for top, left in itertools.product(tops, lefts):
        rows = slice(top, top + tile_rows)
        columns = slice(left, left + tile_columns)
        wide_rows = _with_surroundings(rows, mcu_rows)
        wide_columns = _with_surroundings(columns, mcu_columns)
        near_values = x[..., wide_rows, wide_columns]
        near = _levels(near_values)
        saved_values = y[..., wide_rows, wide_columns]
        saved = _levels(saved_values)
        saved.round_()
        target = None
        if components is not None:
            parts = part_of_components(components, wide_rows, wide_columns, layout)
            target = _as_planes(parts, layout)
        model = Saving(steps.double()[0], layout, libraries, saved)
        part = _saved_as(near, saved, model, target)
        rows_above = top - wide_rows.start
        columns_before = left - wide_columns.start
        part = part[..., rows_above:, columns_before:]
        tile = part[..., :tile_rows, :tile_columns]
        result[..., rows, columns] = tile
    return result.div_(255)


def _with_surroundings(span: slice, mcu: int) -> slice:
    """The rows or columns of a tile, and whole MCUs around it, which decoding mixes into it."""
    around = -(-_AROUND // mcu) * mcu
    start = max(0, span.start - around)
    return slice(start, span.stop + around)


def _levels(image: Tensor) -> Tensor:
    """Values in [0, 1] as float64 levels in [0, 255]."""
    levels = image.double() * 255
    return levels.clamp(0, 255)


def part_of_components(
    components: Sequence[Tensor], rows: slice, columns: slice, layout: Layout
) -> list[Tensor]:
    """The blocks of a part of the image, which begins at whole MCUs: [1, rows, columns, 8, 8]."""
    parts = []
    for component, (across, down) in zip(components, layout.samplings, strict=True):
        height, width = 8 * down, 8 * across  # pixels of a block
        rows_of_blocks = slice(rows.start // height, -(-rows.stop // height))
        columns_of_blocks = slice(columns.start // width, -(-columns.stop // width))
        parts.append(component[:, rows_of_blocks, columns_of_blocks])
    return parts


def _as_planes(components: Sequence[Tensor], layout: Layout) -> Planes:
    """Blocks of components as spectra [planes, rows of blocks, 8, width] of each group."""
    planes = []
    for group in layout.groups:
        stack = list(components[group.components])
        blocks = torch.cat(stack).double()
        planes.append(blocks.transpose(2, 3).flatten(3))
    return planes


def _saved_as(near: Tensor, saved: Tensor, model: Saving, target: Planes | None) -> Tensor:
    """`nearest_saved_as` for one tile, in levels."""
    rounds, dithered_rounds = _MORE_ROUNDS, _DITHERED_ROUNDS
    if target is None:
        rounds, dithered_rounds = _ROUNDS, 0
        rounded = near.round()
        target = _coefficients(model, rounded, saved)
    image, missed = _into_cells(model, near, target, rounds, dithered_rounds)
    if not missed.any():
        return image
    start = torch.where(missed, saved, image)
    image, missed = _into_cells(model, start, target, rounds, dithered_rounds)
    return torch.where(missed, saved, image)


def _coefficients(model: Saving, near: Tensor, saved: Tensor) -> Planes:
    """In each MCU, the coefficients whose decoded pixels are nearest to `saved`.

    Those of `near` are preferred where they are as good. Encoding `saved` again often gives
    other coefficients, because upsampling and the clamp lose something. What they lose is
    added to the spectra before the next try (Van Cittert's iteration).
    """
    spectra_near = model.spectra(near)
    best = model.rounded(spectra_near)
    least_error = model.error(best, saved)
    first = model.spectra(saved)
    spectra = first
    for _ in range(_SEARCH):
        if not least_error.any():
            break
        trial = model.rounded(spectra)
        error = model.error(trial, saved)
        better = error < least_error
        best = model.where(better, trial, best)
        least_error = torch.where(better, error, least_error)
        decoded = model.decoded(trial)
        again = model.spectra(decoded)
        spectra = _add_loss(spectra, first, again)
    return best


def _into_cells(
    model: Saving, image: Tensor, target: Planes, rounds: int, dithered_rounds: int
) -> tuple[Tensor, Tensor]:
    """(8-bit image near this one that encodes to `target`, mask of the pixels that do not)."""
    margins = torch.linspace(_EDGE, 0.5, rounds, dtype=torch.float32, device="cpu")
    for margin in margins.tolist():
        rounded = image.round()
        spectra = model.spectra(rounded)
        missed = _missed(model, spectra, target)
        if not missed.any():
            break
        changes = _steps_into_cells(spectra, target, margin)
        moved = image + model.residual(changes)
        in_range = moved.clamp(0, 255)
        image = torch.where(missed, in_range, image)
    image = image.round()
    image = _dithered_into_cells(model, image, target, dithered_rounds)
    if dithered_rounds > 0:
        image = _searched(model, image, target)
    spectra = model.spectra(image)
    return image, _missed(model, spectra, target)


def _searched(model: Saving, image: Tensor, target: Planes) -> Tensor:
    """Go on with a search by integers, which moves pixels into cells of steps from 1 to 2.

    Where every step is 1, a cell holds a single block of integers on average; none is sought.
    """
    largest_step = max(float(steps.max()) for steps in model.steps)
    if largest_step == 1 or not model.encoder.is_plain:
        return image
    generator = torch.Generator("cpu").manual_seed(0)
    for margin in _MARGINS:
        missed = _missed(model, model.spectra(image), target)
        if not missed.any():
            break
        moved = pixels_in_cells(model, image, target, margin, generator)
        image = torch.where(missed, moved, image)
    return image


def _dithered_into_cells(model: Saving, image: Tensor, target: Planes, rounds: int) -> Tensor:
    """Go on with random rounding, which leaves the cycles that rounding to nearest gets into.

    Only the blocks outside of their cells move. A value v becomes one of its two neighbouring
    integers, with the mean v. Random numbers are the same in every call.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    for _ in range(rounds):
        spectra = model.spectra(image)
        wrong = model.wrong_blocks(spectra, target)
        if not any(blocks.any() for blocks in wrong):
            break
        margin = _DITHERED_EDGE * float(torch.rand((), generator=generator))
        changes = _steps_into_cells(spectra, target, margin)
        changes_of_wrong = []
        for change, blocks in zip(changes, wrong, strict=True):
            columns = blocks.repeat_interleave(8, 2)
            changes_of_wrong.append(change * columns[:, :, None])
        dither = torch.rand(image.shape, generator=generator) - 0.5
        moved = image + model.residual(changes_of_wrong) + dither.to(image)
        rounded = moved.round().clamp(0, 255)
        image = torch.where(model.pixels_of_blocks(wrong), rounded, image)
    return image


def _missed(model: Saving, spectra: Planes, target: Planes) -> Tensor:
    """The pixels of the MCUs whose rounded spectra are not `target`."""
    coefficients = model.rounded(spectra)
    mcus = model.differing(coefficients, target)
    return model.pixels(mcus)


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
