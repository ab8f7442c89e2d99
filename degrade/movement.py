"""Where an image's positions go: points, boxes and masks of labels that follow an operator.

Every operator that moves pixels is a homography, so four points say all of it. Positions are (x, y)
in pixels, from the upper left corner of the image: the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .operator import Operator, Shape

# Of a box (left, top, right, bottom): which of its numbers are x and y of each corner
_CORNERS = {
    "upper left": [0, 1],
    "upper right": [2, 1],
    "lower left": [0, 3],
    "lower right": [2, 3],
}


def scaled(points: Tensor, before: Shape, after: Shape) -> Tensor:
    """Points [N, 2] of an image that is resized."""
    old_sides = _sides(before, points)
    new_sides = _sides(after, points)
    factors = new_sides / old_sides
    return points * factors


def move_boxes(f: Operator, boxes: Tensor, shape: Shape) -> Tensor:
    """Boxes [N, (left, top, right, bottom)] of x, as boxes of f(x), cut at its border.

    f: a sampled operator. shape: of x, [1, C, H, W].
    """
    exact_boxes = boxes.double()
    corners = []
    for x_and_y in _CORNERS.values():
        corner = exact_boxes[:, x_and_y]
        corners.append(f.moved(corner, shape))
    moved = torch.stack(corners)
    farthest = _sides(f.output_shape(shape), moved)
    inside = moved.clamp(min=0).minimum(farthest)
    lowest = inside.amin(0)
    highest = inside.amax(0)
    return torch.cat([lowest, highest], -1)


def matrix(f: Operator, shape: Shape) -> Tensor:
    """The 3 × 3 matrix that takes (x, y, 1) of x to that of f(x), up to a factor, in float64."""
    *_, height, width = shape
    corners = [[0, 0], [width, 0], [0, height], [width, height]]
    points = torch.tensor(corners, dtype=torch.float64)
    moved = f.moved(points, shape)
    origin, right, down, opposite = moved
    if not torch.allclose(origin + opposite, right + down):  # no parallelogram
        return homography(points, moved)
    along_x = (right - origin) / width
    along_y = (down - origin) / height
    affine = torch.stack([along_x, along_y, origin], 1)
    last_row = affine.new_tensor([[0, 0, 1]])
    return torch.cat([affine, last_row])


def homography(points: Tensor, moved: Tensor) -> Tensor:
    """The matrix [3, 3] that takes four points [4, (x, y)] to where they moved, in float64."""
    equations = []
    for (x, y), (new_x, new_y) in zip(points.unbind(), moved.unbind(), strict=True):
        zero = torch.zeros_like(x)
        one = torch.ones_like(x)
        of_x = [x, y, one, zero, zero, zero, -x * new_x, -y * new_x]
        of_y = [zero, zero, zero, x, y, one, -x * new_y, -y * new_y]
        equations += [torch.stack(of_x), torch.stack(of_y)]
    system = torch.stack(equations)
    solution = torch.linalg.solve(system, moved.flatten())
    last = torch.ones_like(solution[:1])
    return torch.cat([solution, last]).view(3, 3)


def is_still(f: Operator, shape: Shape) -> bool:
    """Whether f leaves every pixel at its place."""
    *_, height, width = shape
    *_, new_height, new_width = f.output_shape(shape)
    if (height, width) != (new_height, new_width):
        return False
    identity = torch.eye(3, dtype=torch.float64)
    return torch.allclose(matrix(f, shape), identity)


def coarsest_pixel(f: Operator, shape: Shape) -> float:
    """The longest side of a pixel after any stage of f, in pixels of x.

    4 after a reduction by 4, also if the image is enlarged again, and 1 after a crop. f: a sampled
    operator. shape: of x, [B, C, H, W].
    """
    *_, height, width = shape
    corners = [[0, 0], [width, 0], [0, height]]
    points = torch.tensor(corners, dtype=torch.float64, device="cpu")
    longest = 1.0
    for stage in f.stages:
        points = stage.moved(points, shape)
        shape = stage.output_shape(shape)
        origin, right, down = points
        new_pixels_across = float((right - origin).norm())
        new_pixels_down = float((down - origin).norm())
        longest = max(longest, width / new_pixels_across, height / new_pixels_down)
    return longest


def move_mask(f: Operator, mask: Tensor, shape: Shape) -> Tensor:
    """A mask of labels [..., H, W] of x as that of f(x): the nearest label, 0 outside of x.

    f: a sampled operator. shape: of x, [1, C, H, W].
    """
    if is_still(f, shape):
        return mask
    *leading, height, width = mask.shape
    *_, image_height, image_width = shape
    if (height, width) != (image_height, image_width):
        raise ValueError(
            f"the mask has {height}×{width} pixels, but the image {image_height}×{image_width}; "
            "give a mask of its size"
        )
    sources = _sources(f, shape)
    shares = sources / _sides(mask.shape, sources)
    grid = 2 * shares - 1  # grid_sample counts from -1 to 1
    planes = mask.reshape(1, -1, height, width)
    moved = F.grid_sample(
        planes.double(),
        grid[None].to(mask.device),
        mode="nearest",
        padding_mode="zeros",
        align_corners=False,
    )
    labels = moved.to(mask.dtype)
    new_size = moved.shape[2:]
    return labels.reshape(*leading, *new_size)


def _sources(f: Operator, shape: Shape) -> Tensor:
    """For the centre of each pixel of f(x) its position in x, [H', W', 2]."""
    *_, height, width = f.output_shape(shape)
    columns = torch.arange(width, dtype=torch.float64)
    rows = torch.arange(height, dtype=torch.float64)
    x_and_y = torch.meshgrid(columns, rows, indexing="xy")
    corners = torch.stack(x_and_y, -1)
    centres = corners + 0.5
    back = torch.linalg.inv(matrix(f, shape))
    sources = centres @ back[:, :2].mT + back[:, 2]
    positions: Tensor = sources[..., :2] / sources[..., 2:]
    return positions


def _sides(shape: Shape, like: Tensor) -> Tensor:
    """Width and height of an image, in the order of the coordinates of a point."""
    *_, height, width = shape
    return like.new_tensor([width, height])
