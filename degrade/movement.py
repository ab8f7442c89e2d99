"""Where an image's positions go: points, boxes and masks of labels that follow an operator.

Every operator that moves pixels is affine, so three points say all of it. Positions are (x, y) in
pixels, from the upper left corner of the image: the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .operator import Operator, Shape


def scaled(points: Tensor, before: Shape, after: Shape) -> Tensor:
    """Points [N, 2] of an image that is resized."""
    *_, height, width = before
    *_, new_height, new_width = after
    factors = points.new_tensor([new_width / width, new_height / height])
    return points * factors


def move_boxes(f: Operator, boxes: Tensor, shape: Shape) -> Tensor:
    """Boxes [N, (left, top, right, bottom)] of x, as boxes of f(x), cut at its border.

    f: a sampled operator. shape: of x, [1, C, H, W].
    """
    left, top, right, bottom = boxes.double().unbind(-1)
    first = torch.stack([left, top], -1)
    second = torch.stack([right, top], -1)
    third = torch.stack([left, bottom], -1)
    fourth = torch.stack([right, bottom], -1)
    corners = torch.stack([first, second, third, fourth])
    moved = f.moved(corners.flatten(0, 1), shape).view_as(corners)
    *_, height, width = f.output_shape(shape)
    sides = moved.new_tensor([width, height])
    lowest = moved.amin(0).clamp(min=0).minimum(sides)
    highest = moved.amax(0).clamp(min=0).minimum(sides)
    return torch.cat([lowest, highest], -1)


def matrix(f: Operator, shape: Shape) -> Tensor:
    """The 3 × 3 matrix that takes (x, y, 1) of x to that of f(x), in float64."""
    *_, height, width = shape
    corners = torch.tensor([[0, 0], [width, 0], [0, height]], dtype=torch.float64)
    origin, right, down = f.moved(corners, shape)
    columns = [(right - origin) / width, (down - origin) / height, origin]
    affine = torch.stack(columns, 1)
    last_row = affine.new_tensor([[0, 0, 1]])
    return torch.cat([affine, last_row])


def is_still(f: Operator, shape: Shape) -> bool:
    """Whether f leaves every pixel at its place."""
    same_size = tuple(f.output_shape(shape)[2:]) == tuple(shape[2:])
    identity = torch.eye(3, dtype=torch.float64)
    return same_size and torch.allclose(matrix(f, shape), identity)


def move_mask(f: Operator, mask: Tensor, shape: Shape) -> Tensor:
    """A mask of labels [..., H, W] of x as that of f(x): the nearest label, 0 outside of x.

    f: a sampled operator. shape: of x, [1, C, H, W].
    """
    if is_still(f, shape):
        return mask
    *_, height, width = shape
    *_, new_height, new_width = f.output_shape(shape)
    rows = torch.arange(new_height, dtype=torch.float64) + 0.5
    columns = torch.arange(new_width, dtype=torch.float64) + 0.5
    x, y = torch.meshgrid(columns, rows, indexing="xy")
    points = torch.stack([x, y, torch.ones_like(x)], -1)
    back = torch.linalg.inv(matrix(f, shape))
    sources = points @ back.T
    sides = sources.new_tensor([width, height])
    grid = sources[..., :2] / sides * 2 - 1  # grid_sample counts from -1 to 1
    planes = mask.reshape(1, -1, height, width).double()
    moved = F.grid_sample(planes, grid[None].to(planes), "nearest", "zeros", align_corners=False)
    return moved.reshape(*mask.shape[:-2], new_height, new_width).to(mask.dtype)
