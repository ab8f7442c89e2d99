"""Distances to a line segment, from which strokes and the kernel of a motion are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

_SHORTEST = 1e-12  # square of a length: a segment whose ends coincide is a point


def distance_to_segment(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance from each point [..., (x, y)] to the segment from `start` to `end`."""
    along = end - start
    offset = point - start
    squared_length = (along * along).sum(-1)
    projection = (offset * along).sum(-1)
    share = projection / squared_length.clamp(min=_SHORTEST)
    share_within = share.clamp(0, 1)
    to_nearest = share_within[..., None] * along
    difference = offset - to_nearest
    distance: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return distance
