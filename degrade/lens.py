"""What a lens does to an image: darker corners, and colours that do not meet."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import cached_constant
from .images import check_channels
from .operator import Operator
from .params import Numbers, number, per_image
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .warp import affine_grid, sample


@register("vignette", exact="its formula", gradient="adjoint")
class Vignette(Operator):
    """Darken an image towards its corners, as a lens does by the cosine law.

    y = x / (1 + (strength·r)²)², where r is the distance of a pixel from the centre of the image,
    1 at the corners. The adjoint is the same.

    strength: the tangent of the angle at which the light of a corner falls in, which is half the
        diagonal over the focal length; 0 to 5; a number, or one per image.

    Output: the same shape. Gradient: its own, the adjoint; that of the strength is exact.
    Source: the law of the fourth power of the cosine, for a pinhole.
    """

    strength: Numbers = number(low=0, high=5, learnable=True)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        height, width = x.shape[2:]
        squares = _squared_distance(height, width).to(x)
        strength = per_image(self.strength, x, "strength")
        secant_squared = 1 + strength**2 * squares
        return x / secant_squared**2


@cached_constant(maxsize=8)
def _squared_distance(height: int, width: int) -> Tensor:
    """r² of each pixel's centre from the image's, 1 at the corners, [height, width]."""
    rows = _squared_offsets(height)
    columns = _squared_offsets(width)
    squares = rows[:, None] + columns
    squared_diagonal = height**2 + width**2
    return squares * 4 / squared_diagonal


def _squared_offsets(n: int) -> Tensor:
    """The squared distance of each of n pixels from their middle."""
    centres = torch.arange(n, dtype=torch.float64) + 0.5
    offsets = centres - n / 2
    return offsets.square()


@register("aberration", exact="three of affine", gradient="adjoint")
class Aberration(Operator):
    """Lateral chromatic aberration: red and blue are drawn a little larger or smaller than green.

    Each of both channels is enlarged about the centre of the image by its number, bilinearly; the
    pixels at the edge are repeated. A grey image stays as it is.

    red, blue: 0.8 to 1.2; 1 changes nothing; a number, or one per image.

    Output: the same shape. Gradient: its own, the adjoint; that of both numbers is exact, as in
    `affine`.
    """

    red: Numbers = number(low=0.8, high=1.2, learnable=True)
    blue: Numbers = number(low=0.8, high=1.2, learnable=True)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if x.shape[1] == 1:
            return x.clone()
        red, green, blue = x.split(1, 1)
        scaled_red = row_by_row(_scaled, red, scale=self.red)
        scaled_blue = row_by_row(_scaled, blue, scale=self.blue)
        return torch.cat([scaled_red, green, scaled_blue], 1)


def _scaled(x: Tensor, scale: float) -> Tensor:
    """Images enlarged about their centre."""
    height, width = x.shape[2:]
    only_scale = (0, 0, 0, scale, 0)
    grid = affine_grid(only_scale, (height, width))
    return sample(x, grid, "bilinear", "nearest")
