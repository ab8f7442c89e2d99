"""Pixels that leave their place: seen through glass, through rubber, or while zooming in.

Source: `glass_blur`, `elastic_transform` and `zoom_blur` of ImageNet-C (Hendrycks & Dietterich
2019), by their published code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constants import cached_constant
from .convolution import repeated
from .interpolation import between_neighbours
from .operator import Operator, Shape
from .params import Integer, Integers, Number, decided, integer, number, random_seed, tensor_of
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .seeded import Draws, Unknown

_CUT = 3  # standard deviations after which the Gaussian of a displacement ends


@register("glass", exact="ImageNet-C's code", gradient="adjoint")
class Glass(Unknown):
    """Copy to each pixel the one at a drawn place nearby, as frosted glass does.

    Row by row from the lower right to the upper left, a pixel becomes what the pixel at an offset
    drawn from {-delta, …, delta - 1}² is by then; the margins keep their values. So y selects
    pixels of x, and the adjoint adds each y to the pixel that it came from.

    delta: 1 to 100, in pixels.
    passes: how often all of this is done, 0 to 20.
    seed: fixes the offsets; `sample` draws it, and `approx` removes it.
    """

    delta: Integer = integer(low=1, high=100, per_image=False)
    passes: Integer = integer(default=1, low=0, high=20, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return self._scattered(x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        batch = shape[0]
        return self._scattered(seen.expand(batch, -1, -1, -1))

    def _scattered(self, x: Tensor) -> Tensor:
        delta = decided(self.delta)
        passes = decided(self.passes)

        def scatter(row: Tensor, seed: int) -> Tensor:
            height, width = row.shape[2:]
            sources = _sources(seed, delta, passes, height, width)
            pixels = row.flatten(2)
            moved = pixels.index_select(2, sources.to(row.device))
            return moved.view_as(row)

        return row_by_row(scatter, x, seed=self.drawn_seed)


@cached_constant(maxsize=16)
def _sources(seed: int, delta: int, passes: int, height: int, width: int) -> Tensor:
    """Where each of height·width pixels comes from, counted in rows."""
    draws = Draws(seed)
    pixels = torch.arange(height * width)
    row = pixels // width
    column = pixels % width
    inside_rows = (row > delta) & (row <= height - delta)
    inside_columns = (column > delta) & (column <= width - delta)
    moves = inside_rows & inside_columns
    sources = pixels
    for _ in range(passes):
        right, down = draws.integers(2 * delta, 2, height * width) - delta
        target = torch.where(moves, pixels + down * width + right, pixels)
        is_done = (target > pixels) & moves[target]  # the target has been replaced before
        following = torch.where(is_done, target, pixels)
        not_done = target[_ends(following)]  # the copied pixel still has its old value
        sources = sources[not_done]
    return sources


def _ends(following: Tensor) -> Tensor:
    """The last of the pixels that each one leads to, by doubling the steps."""
    while True:
        further = following[following]
        if torch.equal(further, following):
            return following
        following = further


@register("elastic", exact="ImageNet-C's code", gradient="adjoint")
class Elastic(Unknown):
    """Warp an image as if it were drawn on rubber.

    First three points are moved, each coordinate by U[-jitter, jitter), and the image follows by an
    affine map. Then y at p is x at p + strength·u(p), where u is a field of U[-1, 1) smoothed by a
    Gaussian with the standard deviation `size`, cut at three of them. Between pixels both are
    bilinear; the image and the field are mirrored at their edges. The adjoint adds each y to the
    four pixels that it was mixed of.

    strength: 0 to 1000, in pixels before the smoothing. It has an exact gradient.
    size: of the Gaussian, above 0 to 300, in pixels.
    jitter: 0 to 1000, in pixels. An image with a side below 3 pixels gets none.
    seed: fixes the points and the field; `sample` draws it, and `approx` removes it.
    """

    strength: Number = number(low=0, high=1000, per_image=False, learnable=True)
    size: Number = number(above=0, high=300, per_image=False)
    jitter: Number = number(default=0, low=0, high=1000, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return self._warped(x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        batch = shape[0]
        return self._warped(seen.expand(batch, -1, -1, -1))

    def _warped(self, x: Tensor) -> Tensor:
        strength = decided(self.strength)
        size = decided(self.size)
        jitter = decided(self.jitter)

        def warp(row: Tensor, seed: int) -> Tensor:
            height, width = row.shape[2:]
            affine, field = _positions(seed, size, jitter, height, width)
            jittered = _bilinear(row, affine, "mirror")
            moves = tensor_of(strength, field) * field
            return _bilinear(jittered, _pixel_grid(height, width) + moves, "reflect")

        return row_by_row(warp, x, seed=self.drawn_seed)


@cached_constant(maxsize=8)
def _positions(
    seed: int, size: float, jitter: float, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Where the pixels of the jittered image come from, and how far they then move by strength 1.

    Both as (row, column) [2, H, W]. The points are drawn first, then how far the pixels move to the
    right, then downwards.
    """
    draws = Draws(seed)
    grid = _pixel_grid(height, width)
    moves = draws.uniform(3, 2, low=-jitter, high=jitter)
    affine = _jittered(grid, moves, height, width)
    smooth_rows = _smoothing(height, size)
    smooth_columns = _smoothing(width, size)
    fields = []
    for _ in range(2):
        field = draws.uniform(height, width, low=-1, high=1)
        fields.append(smooth_rows @ field @ smooth_columns.mT)
    right, down = fields
    return affine, torch.stack([down, right])


def _pixel_grid(height: int, width: int) -> Tensor:
    """(row, column) of every pixel, [2, H, W]."""
    rows = torch.arange(height, dtype=torch.float64, device="cpu")
    columns = torch.arange(width, dtype=torch.float64, device="cpu")
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _jittered(grid: Tensor, moves: Tensor, height: int, width: int) -> Tensor:
    """The positions that the affine map of three moved points leads to `grid`."""
    arm = min(height, width) // 3
    if arm == 0:
        return grid
    corners = torch.tensor([[arm, arm], [arm, -arm], [-arm, -arm]], dtype=torch.float64)
    centre = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    points = corners + centre
    ones = torch.ones(3, 1, dtype=torch.float64)
    # from (x, y, 1) of the moved points to (x, y) of the points
    back = torch.linalg.lstsq(torch.cat([points + moves, ones], 1), points).solution
    y, x = grid
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    sources: Tensor = pixels @ back
    return sources.flip(-1).movedim(-1, 0)


def _smoothing(n: int, sigma: float) -> Tensor:
    """The matrix of a Gaussian along n pixels, mirrored with the pixels at the edge repeated."""
    reach = int(_CUT * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    bell = torch.exp(-(offsets / sigma).square() / 2)
    weights = bell / bell.sum()
    sources = repeated(n, reach)
    windows = sources.unfold(0, 2 * reach + 1, 1)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    return matrix.scatter_add(1, windows, weights.expand(n, -1))


def _bilinear(x: Tensor, positions: Tensor, edge: str) -> Tensor:
    """x [1, C, H, W] between its pixels, at positions (row, column) [2, H, W]."""
    height, width = x.shape[2:]
    whole = positions.floor()
    shares = (positions - whole).to(x)
    upper, left = whole
    down, right = shares
    pixels = x.flatten(2)
    mixed = torch.zeros_like(x)
    for row, share_of_row in ((upper, 1 - down), (upper + 1, down)):
        for column, share in ((left, 1 - right), (left + 1, right)):
            first_of_row = _folded(row, height, edge) * width
            index = first_of_row + _folded(column, width, edge)
            values = pixels.index_select(2, index.flatten().to(x.device))
            mixed = mixed + share_of_row * share * values.view_as(x)
    return mixed


def _folded(position: Tensor, n: int, edge: str) -> Tensor:
    """Whole positions within n pixels: mirrored at the first and last pixel, or beyond them."""
    whole = position.long()
    if edge == "mirror":
        period = max(2 * (n - 1), 1)
        forward = whole.remainder(period)
        return torch.minimum(forward, period - forward).clamp(max=n - 1)
    forward = whole.remainder(2 * n)
    return torch.minimum(forward, 2 * n - 1 - forward)


@register("zoomblur", exact="ImageNet-C's code", gradient="adjoint")
class ZoomBlur(Operator):
    """Average an image over a zoom into its centre.

    y is the mean of x and of x enlarged by 1, 1 + step, 1 + 2·step, … up to `largest`. Each is the
    central part of x, enlarged bilinearly so that its outer pixels stay at the border, and cut to
    the size of x. The adjoint is its transpose.

    largest: 1 to 10.
    step: 0.001 to 9, at most 1000 steps.
    """

    largest: Number = number(low=1, high=10, per_image=False)
    step: Number = number(default=0.01, low=1e-3, high=9, per_image=False)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        height, width = x.shape[2:]
        factors = self._factors()
        # one copy to the device for each axis, and not one for each factor
        of_rows = _zooms(height, factors).to(x.device)
        of_columns = _zooms(width, factors).to(x.device)
        wide = x.double()
        total = wide
        for row_positions, column_positions in zip(of_rows, of_columns, strict=True):
            rows = between_neighbours(height, row_positions)
            columns = between_neighbours(width, column_positions)
            total = total + rows @ wide @ columns.mT
        mean = total / (len(factors) + 1)
        return mean.to(x)

    def _factors(self) -> tuple[float, ...]:
        """As numpy's arange counts them."""
        step = (1 + decided(self.step)) - 1
        count = round((decided(self.largest) - 1) / step) + 1
        return tuple(1 + i * step for i in range(count))


@cached_constant(maxsize=8)
def _zooms(n: int, factors: tuple[float, ...]) -> Tensor:
    """Where the n pixels of an enlarged side come from, one row for each factor."""
    return torch.stack([_zoomed(n, factor) for factor in factors])


def zoom(n: int, factor: float) -> Tensor:
    """The matrix [n, n] that enlarges the middle of n pixels by a factor, as `clipped_zoom`."""
    return between_neighbours(n, _zoomed(n, factor))


def _zoomed(n: int, factor: float) -> Tensor:
    """Where n pixels come from after the enlargement of their middle by a factor."""
    kept = math.ceil(n / factor)
    first = (n - kept) // 2
    enlarged = max(n, round(kept * factor))
    step = (kept - 1) / max(enlarged - 1, 1)
    start = (enlarged - n) // 2
    outputs = torch.arange(start, start + n, dtype=torch.float64)
    inside = (outputs * step).clamp(max=kept - 1)
    return inside + first
