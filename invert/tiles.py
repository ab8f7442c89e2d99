"""A large image in overlapping parts, each with its own operator, and their blending."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.locality import can_cut
from degrade.operator import Operator, Shape, Window

SEARCHED = 64  # pixels in which an edge that the operator can be cut at is looked for


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    window: the part of x, with its margin. operator: turns it into the part `observed` of y.
    kept: the part of x that is taken from it; beside it the result fades into the next tile's.
    """

    window: Window
    operator: Operator
    observed: Window
    kept: Window


def tiles(operator: Operator, shape: Shape, side: int, margin: int) -> list[Tile]:
    """Split images of `shape` into parts of about `side` pixels; a small image is one part.

    margin: pixels of x around what is kept of a part. An operator that uses the whole image, or
    that cannot be cut, gives one part, too.
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
            assert part is not None  # its edges are where the operator can be cut
            parts.append(Tile(wider, part[0], part[1], kept))
    return parts


def edges(operator: Operator, shape: Shape, side: int, axis: int) -> list[int]:
    """Where an axis is cut, from 0 to its length; without cuts where none is possible."""
    length = shape[2 + axis]
    count = max(1, round(length / side))
    result = [0]
    for number in range(1, count):
        edge = nearest_cut(operator, shape, number * length // count, axis)
        if edge > result[-1]:
            result.append(edge)
    return [*result, length]


def nearest_cut(operator: Operator, shape: Shape, wanted: int, axis: int) -> int:
    """The last position up to `wanted` where the operator can be cut; 0 if there is none near."""
    for position in range(wanted, max(0, wanted - SEARCHED), -1):
        if can_cut(operator, shape, position, axis):
            return position
    return 0


def spans(positions: list[int]) -> list[slice]:
    """The slices between neighbouring edges."""
    return [slice(a, b) for a, b in zip(positions[:-1], positions[1:], strict=True)]


def grown(operator: Operator, shape: Shape, kept: Window, margin: int, axis: int) -> slice:
    """The rows (axis 0) or columns of a part with its margin, cut where the operator can be."""
    length = shape[2 + axis]
    span = kept[axis]
    start = nearest_cut(operator, shape, max(0, span.start - margin), axis)
    stop = length
    if span.stop + margin + SEARCHED < length:
        stop = nearest_cut(operator, shape, span.stop + margin + SEARCHED, axis) or length
    return slice(start, stop)


def blend(image: Tensor, tile: Tile, part: Tensor) -> None:
    """Write a part into the image, fading into the parts above and to the left of it.

    Parts must come row by row, from the top left.
    """
    rows, columns = tile.window
    weight_down = ramp(tile, 0)
    weight_across = ramp(tile, 1)
    weight = weight_down[:, None] * weight_across
    region = image[..., rows, columns]
    region += weight.to(image) * (part - region)


def ramp(tile: Tile, axis: int) -> Tensor:
    """The weight of a part along an axis: 0 outside, 1 in what is kept of it, between them a slope.

    Only the start of a part fades; what comes after it fades over the part's own end.
    """
    window, kept = tile.window[axis], tile.kept[axis]
    positions = torch.arange(window.start, window.stop, dtype=torch.float32, device="cpu")
    before = kept.start - window.start
    if before == 0:
        return torch.ones_like(positions)
    half = before / 2
    weight: Tensor = ((positions - kept.start + half + 0.5) / half).clamp(0, 1)
    return weight
