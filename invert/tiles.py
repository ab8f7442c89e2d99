"""A large image in overlapping parts, each with its own operator, and their blending."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from degrade.locality import can_cut
from degrade.operator import Operator, Shape, Window

SEARCHED = 64  # how many pixels before the wanted position a cut is searched for


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    window: the part of x, with its margin. operator: turns it into the part `observed` of y.
    kept: the part of x whose pixels come from this tile. In the margin the result fades into that
    of the neighbouring tile.
    """

    window: Window
    operator: Operator
    observed: Window
    kept: Window


def tiles(operator: Operator, shape: Shape, side: int, margin: int) -> list[Tile]:
    """Split images of `shape` into parts of about `side` pixels. A small image is one part.

    margin: how many pixels of x are added around the pixels that are kept. An operator that uses
    the whole image, or that cannot be cut, gives one part, too.
    """
    row_edges = edges(operator, shape, side, axis=0)
    column_edges = edges(operator, shape, side, axis=1)
    parts = []
    for rows in spans(row_edges):
        for columns in spans(column_edges):
            kept = (rows, columns)
            wide_rows = grown(operator, shape, kept, margin, 0)
            wide_columns = grown(operator, shape, kept, margin, 1)
            wider = (wide_rows, wide_columns)
            part = operator.part(shape, wider)
            assert part is not None, "its edges are where the operator can be cut"
            part_operator, observed = part
            parts.append(Tile(wider, part_operator, observed, kept))
    return parts


def edges(operator: Operator, shape: Shape, side: int, axis: int) -> list[int]:
    """The positions where an axis is cut, with 0 and its length."""
    length = shape[2 + axis]
    count = max(1, round(length / side))
    positions = [0]
    for number in range(1, count):
        wanted = number * length // count
        edge = nearest_cut(operator, shape, wanted, axis)
        if edge > positions[-1]:
            positions.append(edge)
    positions.append(length)
    return positions


def nearest_cut(operator: Operator, shape: Shape, wanted: int, axis: int) -> int:
    """The last position up to `wanted` where the operator can be cut; 0 if there is none near."""
    lowest = max(0, wanted - SEARCHED)
    for position in range(wanted, lowest, -1):
        if can_cut(operator, shape, position, axis):
            return position
    return 0


def spans(positions: list[int]) -> list[slice]:
    """The slices between neighbouring edges."""
    return [slice(start, stop) for start, stop in pairwise(positions)]


def grown(operator: Operator, shape: Shape, kept: Window, margin: int, axis: int) -> slice:
    """The rows (axis 0) or columns of a part with its margin, cut where the operator can be."""
    length = shape[2 + axis]
    span = kept[axis]
    first = max(0, span.start - margin)
    start = nearest_cut(operator, shape, first, axis)
    last = span.stop + margin + SEARCHED  # a cut is at most so many pixels before it
    if last >= length:
        return slice(start, length)
    stop = nearest_cut(operator, shape, last, axis)
    return slice(start, stop or length)


def blend(image: Tensor, tile: Tile, part: Tensor) -> None:
    """Write a part into the image, fading into the parts above and to the left of it.

    Parts must come row by row, from the top left.
    """
    rows, columns = tile.window
    weight_down = ramp(tile, 0)
    weight_across = ramp(tile, 1)
    weight = weight_down[:, None] * weight_across
    region = image[..., rows, columns]
    difference = part - region
    region += weight.to(image) * difference


def ramp(tile: Tile, axis: int) -> Tensor:
    """The weight of a part along an axis. It rises from 0 to 1 before the pixels that are kept.

    Only the start of a part fades. The next part is blended over the end of this one.
    """
    window = tile.window[axis]
    kept = tile.kept[axis]
    positions = torch.arange(window.start, window.stop, dtype=torch.float32, device="cpu")
    margin = kept.start - window.start
    if margin == 0:
        return torch.ones_like(positions)
    half = margin / 2
    distance = positions - kept.start + half + 0.5
    weight: Tensor = distance / half
    return weight.clamp(0, 1)
