"""Synthetic pictures with the edges, scales and occlusions of photos: dead leaves.

Discs of random sizes fall on top of each other until they hide the ground. Their radii have the
density r⁻³, so that the picture looks alike at every scale, as photos do; and the colours come from
a photo. Nobody owns these pictures, and there is no end of them.
Source: Achddou, Gousseau & Ladjal 2021, "Synthetic images as a regularity prior for image
restoration neural networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RADII = (6.0, 600.0)  # of the smallest and the largest disc, in pixels
_SHADED = 0.4  # share of the discs whose colour changes from one side to the other
_CHANGE = 0.4  # how far it changes, on the way to a second colour of the photo
_DISCS = 32  # how many discs fall at a time
_TRIES = 4096  # how many candidates are drawn at a time, of which few touch the picture


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
    if not 0 < radii[0] <= radii[1]:
        raise ValueError(f"radii={radii} must be positive, the smaller one first")
    rows = torch.arange(height, dtype=torch.float32, device="cpu") + 0.5
    columns = torch.arange(width, dtype=torch.float32, device="cpu") + 0.5
    row = rows.repeat_interleave(width)
    column = columns.repeat(height)
    pixels = torch.arange(height * width, device="cpu")
    top_disc = torch.empty_like(pixels)  # the disc that a pixel shows
    bare = pixels  # the pixels that no disc covers yet
    batches: list[Tensor] = []
    while len(bare):
        discs = falling_discs(height, width, radii, generator)
        x, y, radius = discs.T[:, :, None]
        across = column[bare] - x
        down = row[bare] - y
        inside = across.square() + down.square() < radius.square()
        covered = inside.any(0)
        topmost = inside.int().argmax(0)  # the first that covers the pixel
        number = len(batches) * _DISCS + topmost
        top_disc[bare[covered]] = number[covered]
        bare = bare[~covered]
        batches.append(discs)
    disc = torch.cat(batches)[top_disc]
    colours = _colours(disc, top_disc, row, column, palette, generator)
    return colours.reshape(-1, height, width)


def falling_discs(
    height: int, width: int, radii: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw discs that touch a picture: x, y and radius [N, 3], the topmost first.

    Discs fall uniformly on a plane, with radii of density r⁻³. A large disc touches the picture
    from farther away, so that among the discs that do there are more large ones than r⁻³ says.
    """
    largest = radii[1]
    kept: list[Tensor] = []
    count = 0
    while count < _DISCS:
        x = _uniform(generator) * (width + 2 * largest) - largest
        y = _uniform(generator) * (height + 2 * largest) - largest
        radius = power_law(_uniform(generator), radii)
        across = x - x.clamp(0, width)
        down = y - y.clamp(0, height)
        touches = across.square() + down.square() < radius.square()
        discs = torch.stack([x, y, radius], 1)
        kept.append(discs[touches])
        count += int(touches.sum())
    return torch.cat(kept)[:_DISCS]


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
    picks = torch.randint(palette_colours.shape[1], (2, count), generator=generator, device="cpu")
    angle = 2 * math.pi * _uniform(generator, count)
    shaded = _uniform(generator, count) < _SHADED
    first = palette_colours[:, picks[0]].float()
    second = palette_colours[:, picks[1]].float()
    change = _CHANGE * shaded.to(first) * (second - first)

    x, y, radius = disc.unbind(1)
    across = (column - x) * angle.cos()[number]
    down = (row - y) * angle.sin()[number]
    share = ((across + down) / radius + 1) / 2  # from 0 at one side of the disc to 1 at the other
    colours = first[:, number] + share * change[:, number]
    if not palette.is_floating_point():
        colours = colours.round()
    return colours.to(palette.dtype)


def _uniform(generator: torch.Generator, count: int = _TRIES) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")
