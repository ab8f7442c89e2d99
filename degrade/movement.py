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
    exact_boxes = boxes.double()
    corners = []
    for x_and_y in ([0, 1], [2, 1], [0, 3], [2, 3]):
        corner = exact_boxes[:, x_and_y]
        corners.append(f.moved(corner, shape))
    moved = torch.stack(corners)
    *_, height, width = f.output_shape(shape)
    farthest = moved.new_tensor([width, height])
    inside = moved.clamp(min=0).minimum(farthest)
    lowest = inside.amin(0)
    highest = inside.amax(0)
    return torch.cat([lowest, highest], -1)


def matrix(f: Operator, shape: Shape) -> Tensor:
    """The 3 × 3 matrix that takes (x, y, 1) of x to that of f(x), in float64."""
    *_, height, width = shape
    corners = torch.tensor([[0, 0], [width, 0], [0, height]], dtype=torch.float64)
    moved = f.moved(corners, shape)
    origin, right, down = moved
    along_x = (right - origin) / width
    along_y = (down - origin) / height
    affine = torch.stack([along_x, along_y, origin], 1)
    last_row = affine.new_tensor([[0, 0, 1]])
    return torch.cat([affine, last_row])


def is_still(f: Operator, shape: Shape) -> bool:
    """Whether f leaves every pixel at its place."""
    *_, height, width = shape
    *_, new_height, new_width = f.output_shape(shape)
    if (height, width) != (new_height, new_width):
        return False
    identity = torch.eye(3, dtype=torch.float64)
    return torch.allclose(matrix(f, shape), identity)


def move_mask(f: Operator, mask: Tensor, shape: Shape) -> Tensor:
    """A mask of labels [..., H, W] of x as that of f(x): the nearest label, 0 outside of x.

    f: a sampled operator. shape: of x, [1, C, H, W].
    """
    if is_still(f, shape):
        return mask
    *planes_shape, height, width = mask.shape
    if (height, width) != tuple(shape[2:]):
        raise ValueError(
            f"the mask has {height}×{width} pixels, but the image {shape[2]}×{shape[3]}; "
            "give a mask of its size"
        )
    *_, new_height, new_width = f.output_shape(shape)
    back = torch.linalg.inv(matrix(f, shape))
    sources = _pixel_centres(new_height, new_width) @ back.T
    positions = sources[..., :2]
    sides = sources.new_tensor([width, height])
    grid = positions / sides * 2 - 1  # grid_sample counts from -1 to 1
    planes = mask.reshape(1, -1, height, width).double()
    batch_of_grids = grid[None].to(planes)
    moved = F.grid_sample(planes, batch_of_grids, "nearest", "zeros", align_corners=False)
    reshaped = moved.reshape(*planes_shape, new_height, new_width)
    return reshaped.to(mask.dtype)


def _pixel_centres(height: int, width: int) -> Tensor:
    """The centre of each pixel as (x, y, 1), [height, width, 3]."""
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    x, y = torch.meshgrid(columns + 0.5, rows + 0.5, indexing="xy")
    ones = torch.ones_like(x)
    return torch.stack([x, y, ones], -1)
