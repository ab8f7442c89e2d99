"""Distances to a line segment, from which strokes and the kernel of a motion are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

_SHORTEST = 1e-12  # square of a length: a segment whose ends coincide is a point


def distance_to_segment(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance from each point [..., (x, y)] to the segment from `start` to `end`."""
    along = end - start
    offset = point - start
    squared_length = (along * along).sum(-1).clamp(min=_SHORTEST)
    share = (offset * along).sum(-1) / squared_length
    to_nearest = share.clamp(0, 1)[..., None] * along
    distance: Tensor = torch.linalg.vector_norm(offset - to_nearest, dim=-1)
    return distance
