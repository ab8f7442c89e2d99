"""Synthetic pictures with the edges, scales and occlusions of photos: dead leaves.

Discs of random sizes fall on top of each other until they hide the ground. Their radii have the
density r⁻³, so that the picture looks alike at every scale, as photos do. The colours come from a
photo. Nobody owns these pictures, and any number of them can be drawn.
Source: Achddou, Gousseau & Ladjal 2021, "Synthetic images as a regularity prior for image
restoration neural networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .draws import integers, uniform

RADII = (6.0, 600.0)  # of the smallest and the largest disc, in pixels
_SHADED = 0.4  # share of the discs whose colour changes from one side to the other
_CHANGE = 0.4  # how far it changes, on the way to a second colour of the photo
_DISCS = 32  # how many discs fall at a time
_PIXELS = 2**18  # that are compared with them at once, which bounds the memory
_TRIES = (4096,)  # how many candidates are drawn at a time, of which few touch the picture


def dead_leaves(
    height: int,
    width: int,
    palette: Tensor,
    generator: torch.Generator,
    radii: tuple[float, float] = RADII,
) -> Tensor:
    """Draw a picture [C, height, width].

    palette: [C, H, W], the picture whose colours the discs have; the result has its dtype.
    generator: a CPU generator, which decides everything. radii: of the smallest and the largest
    disc, in pixels. Raises ValueError unless 0 < smallest ≤ largest.
    """
    smallest, largest = radii
    if not 0 < smallest <= largest:
        raise ValueError(f"radii={radii} must be positive, the smaller one first")
    row = _centres(height).repeat_interleave(width)
    column = _centres(width).repeat(height)
    pixels = torch.arange(height * width, device="cpu")
    top_disc = torch.empty_like(pixels)  # the disc that a pixel shows
    bare = pixels  # the pixels that no disc covers yet
    batches: list[Tensor] = []
    while len(bare):
        discs = falling_discs(height, width, radii, generator)
        covered, topmost = _topmost(discs, row[bare], column[bare])
        number = len(batches) * _DISCS + topmost
        top_disc[bare[covered]] = number[covered]
        bare = bare[~covered]
        batches.append(discs)
    disc = torch.cat(batches)[top_disc]
    colours = _colours(disc, top_disc, row, column, palette, generator)
    return colours.reshape(-1, height, width)


def _topmost(discs: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """For each pixel, whether a disc covers it, and the first disc that does."""
    x, y, radius = discs.T[:, :, None]
    is_covered, first = [], []
    for rows, columns in zip(row.split(_PIXELS), column.split(_PIXELS), strict=True):
        inside = _within(radius, columns - x, rows - y)
        is_covered.append(inside.any(0))
        first.append(inside.int().argmax(0))
    return torch.cat(is_covered), torch.cat(first)


def falling_discs(
    height: int, width: int, radii: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw discs that touch a picture: x, y and radius [N, 3], the topmost first.

    Discs fall uniformly on a plane, with radii of density r⁻³. A large disc touches the picture
    from farther away, so the share of large discs among those that touch it is higher.
    """
    largest = radii[1]
    kept: list[Tensor] = []
    count = 0
    while count < _DISCS:
        x = uniform(_TRIES, generator) * (width + 2 * largest) - largest
        y = uniform(_TRIES, generator) * (height + 2 * largest) - largest
        quantile = uniform(_TRIES, generator)
        radius = power_law(quantile, radii)
        across = x - x.clamp(0, width)
        down = y - y.clamp(0, height)
        touches = _within(radius, across, down)
        discs = torch.stack([x, y, radius], 1)
        kept.append(discs[touches])
        count += int(touches.sum())
    return torch.cat(kept)[:_DISCS]


def _centres(count: int) -> Tensor:
    """The positions of the centres of a row of pixels."""
    numbers = torch.arange(count, dtype=torch.float32, device="cpu")
    return numbers + 0.5


def _within(radius: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Whether a vector is shorter than the radius."""
    square_distance = across.square() + down.square()
    return square_distance < radius.square()


def power_law(u: Tensor, radii: tuple[float, float]) -> Tensor:
    """The radii of density r⁻³ at the quantiles u in [0, 1].

    The share of radii below r is (a⁻² - r⁻²) / (a⁻² - b⁻²), with a and b the smallest and largest.
    """
    smallest, largest = radii
    highest = smallest**-2
    range_of_squares = highest - largest**-2
    return (highest - range_of_squares * u).rsqrt()


def _colours(
    disc: Tensor,
    number: Tensor,
    row: Tensor,
    column: Tensor,
    palette: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The colour [C, N] of each pixel.

    A disc has one colour of the palette, or is shaded from one colour towards another.
    disc: x, y and radius [N, 3] of the disc that each pixel shows; number: its number [N].
    """
    count = int(number.max()) + 1
    palette_colours = palette.flatten(1)
    colours = palette_colours.shape[1]
    first_pick, second_pick = integers(colours, (2, count), generator)
    angle = 2 * math.pi * uniform((count,), generator)
    shaded = uniform((count,), generator) < _SHADED
    first = palette_colours[:, first_pick].float()
    second = palette_colours[:, second_pick].float()
    change = _CHANGE * shaded.to(first) * (second - first)

    x, y, radius = disc.unbind(1)
    across = (column - x) * angle.cos()[number]
    down = (row - y) * angle.sin()[number]
    position = (across + down) / radius  # from -1 at one side of the disc to 1 at the other
    share = (position + 1) / 2
    result = first[:, number] + share * change[:, number]
    if not palette.is_floating_point():
        result = result.round()
    return result.to(palette.dtype)
