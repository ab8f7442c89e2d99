"""Resampling: Pillow's resize by a factor or to a size, and average pooling for solvers."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .locality import proportional_cut
from .operator import Operator, Shape, Window
from .params import Integer, Number, Range, decided, image_size, integer, number, option, single
from .pillow_resize import FILTERS, Size, back_project, resize
from .registry import register
from .rng import Rng
from .rows import row_by_row

NAMES = (*FILTERS, "nearest")
ANY = ("bilinear", "bicubic", "lanczos")  # what the published benchmark draws from
LONGEST = 2**16  # the largest factor
_WIDEST = max(support for support, _ in FILTERS.values())
_MOST_PIXELS = 2**26  # of a result: 1.6 GB in float64 with three channels


class Reduction(Operator):
    """Base of operators that shrink an image by an integer factor, to sides max(1, n // factor)."""

    factor: Integer

    def output_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        out_height = max(1, height // factor)
        out_width = max(1, width // factor)
        return (*batch, out_height, out_width)

    def input_shape(self, shape: Shape) -> Shape:
        factor = decided(self.factor)
        *batch, height, width = shape
        return (*batch, height * factor, width * factor)


class Filtered(Operator):
    """Base of operators that resample to `output_shape` with a named filter, or one per image."""

    filter: str | Sequence[str]

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.filter != "any"

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.filter != "any":
            return self
        indices = rng.integers(len(ANY))
        names = tuple(ANY[index] for index in indices)
        return self.with_values({"filter": names})

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = _output_size(self, x.shape)
        if isinstance(self.filter, str):
            return resize(x, size, self.filter)

        def resize_row(row: Tensor, name: str) -> Tensor:
            return resize(row, size, name)

        return row_by_row(resize_row, x, filter=self.filter)

    def reach(self, shape: Shape) -> float:
        out_height, out_width = _output_size(self, shape)
        *_, height, width = shape
        reduction = max(1.0, height / out_height, width / out_width)
        return _WIDEST * reduction

    @property
    def decided(self) -> bool:
        return self.filter != "any" and super().decided

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        filter = single(self.filter)
        return back_project(x, y, filter)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        size = _output_size(self, shape)
        if self.filter == "nearest":
            return resize(seen, size, "nearest")
        return F.adaptive_avg_pool2d(seen, size)


def _output_size(f: Operator, shape: Shape) -> Size:
    *_, height, width = f.output_shape(shape)
    return height, width


@register("downsample", exact="Pillow's resize", gradient="adjoint")
class Downsample(Filtered, Reduction):
    """Shrink an image by `factor` as PIL.Image.resize does, antialiased.

    y = R x Cᵀ with the filter's weights R and C along rows and columns; the adjoint is Rᵀ y C.
    Images that hold only values k/255 get Pillow's 8-bit arithmetic bit for bit, all others
    Pillow's float arithmetic (mode "F").

    factor: an integer ≥ 1.
    filter: bicubic, bilinear, box, hamming, lanczos or nearest; or "any", which draws bilinear,
        bicubic or lanczos for each image.

    Output sides max(1, n // factor). Gradient: the adjoint. `approx()` is average pooling, since a
    solver does not know the filter. `project`: the smallest change within [0, 1] that gives y in
    float arithmetic; after saving with 8 bits, it gives y up to a level or two.
    """

    factor: Integer = integer(low=1, high=LONGEST, per_image=False)
    filter: str | Sequence[str] = option(*NAMES, undecided="any", default="bicubic", per_image=True)

    def approx(self) -> Operator:
        return Pool(self.factor)


@register("resize", exact="Pillow's resize", gradient="adjoint")
class Resize(Filtered):
    """Resample an image to `size`, or by `scale`, as PIL.Image.resize does, antialiased.

    Formula, gradient, filters and `project` are those of `downsample`.

    size: one side of a square, or (h, w), written 40x60 or 40|60; at most 2^26 pixels.
    scale: above 0 to 64; the output sides are max(1, round(scale·n)), halves rounded to even.
    filter: as in `downsample`.

    `approx()` is the operator itself if its filter is known. For "any" it is bicubic: over photos
    reduced by 1.6, 4 and 16 and enlarged by 1.5 and 4, its mean and worst distance to bilinear,
    bicubic and lanczos are smaller than those of pooling or of any other filter.
    """

    size: Integer | tuple[int, int] | None = image_size(default=None)
    scale: Number | None = number(default=None, above=0, high=64, per_image=False)
    filter: str | Sequence[str] = option(*NAMES, undecided="any", default="bicubic", per_image=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.size is None) == (self.scale is None):
            raise ValueError("give either size or scale, as in resize:40 or resize:scale=0.5")
        is_drawn = isinstance(self.size, Range)
        if self.size is not None and not is_drawn:
            self.output_shape((1, 1, 1, 1))  # refuses too many pixels

    def output_shape(self, shape: Shape) -> Shape:
        height, width = self._size_of(shape)
        if height * width > _MOST_PIXELS:
            raise ValueError(
                f"{height} x {width} is more than {_MOST_PIXELS} pixels; give a smaller size"
            )
        return (*shape[:2], height, width)

    def _size_of(self, shape: Shape) -> Size:
        size = decided(self.size)
        if isinstance(size, tuple):
            return size
        if size is not None:
            return size, size
        scale = self._scale()
        *_, height, width = shape
        out_height = _rounded(height * scale)
        out_width = _rounded(width * scale)
        return out_height, out_width

    def input_shape(self, shape: Shape) -> Shape:
        scale = self._scale()
        *batch, height, width = shape
        in_height = _rounded(height / scale)
        in_width = _rounded(width / scale)
        return (*batch, in_height, in_width)

    def _scale(self) -> float:
        """The scale; 1 where the operator has a size."""
        scale = decided(self.scale)
        return 1 if scale is None else scale

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        proportional = proportional_cut(self, shape, window)
        if proportional is None:
            return None
        _, place = proportional
        rows, columns = place
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        resize_part = self.with_values({"size": (height, width), "scale": None})
        return resize_part, place

    def approx(self) -> Operator:
        if self.filter != "any":
            return self
        return self.with_values({"filter": "bicubic"})


def _rounded(side: float) -> int:
    return max(1, round(side))


@register("pool", exact="mean of each cell", gradient="adjoint")
class Pool(Reduction):
    """Average pooling by `factor`, which a solver assumes for a reduction with an unknown filter.

    y = mean of each cell of factor × factor pixels; the adjoint spreads y evenly over its cell.

    factor: an integer ≥ 1.

    Output sides max(1, n // factor); sides that do not divide are cut into cells that differ by at
    most a pixel. Gradient: its own, the adjoint. `project` as in `downsample`.
    """

    factor: Integer = integer(low=1, high=LONGEST, per_image=False)
    linear = True
    local = True  # of whole cells

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = _output_size(self, x.shape)
        return F.adaptive_avg_pool2d(x, size)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return back_project(x, y, "pool")

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if seen is None:
            return None
        size = _output_size(self, shape)
        return F.adaptive_avg_pool2d(seen, size)
