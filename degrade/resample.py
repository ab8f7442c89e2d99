"""Resampling by a factor or to a size, as Pillow, torch, OpenCV and MATLAB do it, and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from . import interpolation
from .kinds import SizeKind
from .locality import proportional_cut
from .operator import Operator, Shape, Window
from .params import (
    Integer,
    Number,
    Range,
    checked,
    decided,
    image_size,
    integer,
    number,
    option,
    show,
    single,
)
from .pillow_resize import FILTERS, Size, back_project, resize
from .registry import register
from .rng import Rng
from .rows import row_by_row

NAMES = (*FILTERS, "nearest")
DRAWN = {  # names of a filter that is drawn, and what from: as published pipelines do
    "any": ("bilinear", "bicubic", "lanczos"),
    "any-torch": ("torch-area", "torch-bilinear", "torch-bicubic"),
    "any-cv2": ("torch-bilinear", "torch-bicubic", "cv2-area"),
}
ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}
FRAME = "frame"  # the size of the image at the beginning of the surrounding frame(…)
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
        return self.filter not in DRAWN

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if not isinstance(self.filter, str) or self.filter not in DRAWN:
            return self
        possible = DRAWN[self.filter]
        indices = rng.integers(len(possible))
        names = tuple(possible[index] for index in indices)
        return self.with_values({"filter": names})

    def step(self) -> float | None:
        """Pixels of the image per pixel of the result; None for the ratio of their sides."""
        return None

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = _output_size(self, x.shape)
        step = self.step()

        def resample(row: Tensor, name: str) -> Tensor:
            if name in interpolation.NAMES:
                return interpolation.interpolate(row, size, name, step)
            return resize(row, size, name)

        return row_by_row(resample, x, filter=self.filter)

    def reach(self, shape: Shape) -> float:
        out_height, out_width = _output_size(self, shape)
        *_, height, width = shape
        reduction = max(1.0, height / out_height, width / out_width)
        return _WIDEST * reduction

    @property
    def decided(self) -> bool:
        return self.filter not in DRAWN and super().decided

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        filter = single(self.filter)
        height, width = x.shape[2:]
        out_height, out_width = y.shape[2:]
        form = interpolation.axis_name(filter, (height, width), (out_height, out_width))
        return back_project(x, y, form, self.step())

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
    filter: str | Sequence[str] = option(
        *NAMES, undecided=["any"], default="bicubic", per_image=True
    )

    def approx(self) -> Operator:
        return Pool(self.factor)


def _check_reference(given: object) -> object:
    """The size that a scale refers to: frame, or the sides of an image as (h, w)."""
    if given == FRAME:
        return given
    try:
        side_or_sides = SizeKind(drawn=False).check("of", given)
    except ValueError as error:
        raise ValueError(f"of={show(given)} must be frame, or sides (h, w), as 40x60") from error
    if isinstance(side_or_sides, tuple):
        return side_or_sides
    return (side_or_sides, side_or_sides)


@register("resize", exact="Pillow, torch, OpenCV", gradient="adjoint")
class Resize(Filtered):
    """Resample an image to `size`, or by `scale`, as a named library does.

    y = R x Cᵀ with the filter's weights R and C along rows and columns; the adjoint is Rᵀ y C.

    size: one side of a square, or (h, w), written 40x60 or 40|60; at most 2^26 pixels.
    scale: above 0 to 64; the output sides are scale·n, rounded, at least 1.
    filter: those of `downsample` are Pillow's, antialiased. "torch-bilinear", "torch-bicubic" and
        "torch-area" are those of torch.nn.functional.interpolate, not antialiased; OpenCV's
        INTER_LINEAR and INTER_CUBIC equal the first two. "cv2-area" is OpenCV's INTER_AREA,
        "matlab-bicubic" MATLAB's imresize. "any" draws one of Pillow's bilinear, bicubic and
        lanczos for each image, "any-torch" one of torch's three, and "any-cv2" one of torch's
        first two and cv2-area.
    rounding: of scale·n: "round", halves to even, "floor" or "ceil".
    grid: where the output pixels lie. "size": the ratio of the sides says how far they are apart.
        "scale": the scale does, as in interpolate(scale_factor=…); for torch's and MATLAB's
        filters.
    of: the size that `scale` refers to, (h, w), instead of the image's own; "frame" is the size of
        the image at the beginning of the surrounding `frame(…)`. With grid=scale, the image must
        have this size.

    Gradient and `project` as in `downsample`. `approx()` is the operator itself if its filter is
    known. For "any" it is bicubic: over photos reduced by 1.6, 4 and 16 and enlarged by 1.5 and 4,
    its mean and worst distance to bilinear, bicubic and lanczos are smaller than those of pooling
    or of any other filter. For "any-torch" and "any-cv2" it is torch-bilinear.
    """

    size: Integer | tuple[int, int] | None = image_size(default=None)
    scale: Number | None = number(default=None, above=0, high=64, per_image=False)
    filter: str | Sequence[str] = option(
        *NAMES, *interpolation.NAMES, undecided=tuple(DRAWN), default="bicubic", per_image=True
    )
    rounding: str = option(*ROUNDINGS, default="round")
    grid: str = option("size", "scale", default="size")
    of: str | int | tuple[int, int] | None = checked(
        _check_reference, "frame, or the sides (h, w), written 40x60", default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.size is None) == (self.scale is None):
            raise ValueError("give either size or scale, as in resize:40 or resize:scale=0.5")
        for name, value, _ in self.arguments():
            if name in ("rounding", "grid", "of") and self.scale is None:
                raise ValueError(f"{name}={show(value)} belongs to a scale; leave it out")
        if self.grid == "scale":
            self._check_grid()
        is_drawn = isinstance(self.size, Range)
        if self.size is not None and not is_drawn:
            self.output_shape((1, 1, 1, 1))  # refuses too many pixels

    def _check_grid(self) -> None:
        """Raise ValueError if the filter has no positions that follow a scale."""
        if self.of == FRAME:
            raise ValueError("of=frame changes the scale; leave out grid=scale")
        filters = (self.filter,) if isinstance(self.filter, str) else self.filter
        for name in filters:
            if name not in (*interpolation.SCALED, "torch-area", "any-torch"):
                raise ValueError(
                    f"grid=scale does not fit filter={name}; it is for any-torch, "
                    f"{', '.join(interpolation.SCALED)}"
                )

    def step(self) -> float | None:
        return 1 / self._scale() if self.grid == "scale" else None

    def of_frame(self, size: Size) -> Resize:
        """The same, with `of=frame` replaced by a size."""
        return self.with_values({"of": size}) if self.of == FRAME else self

    def output_shape(self, shape: Shape) -> Shape:
        if self.grid == "scale" and isinstance(self.of, tuple) and self.of != tuple(shape[2:]):
            raise ValueError(
                f"of={show(self.of)} with grid=scale is for images of this size, and not of "
                f"{tuple(shape[2:])}; leave out grid=scale"
            )
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
        height, width = self._reference(shape)
        scale = self._scale()
        return self._rounded(height * scale), self._rounded(width * scale)

    def _reference(self, shape: Shape) -> Size:
        """The size that the scale refers to."""
        if isinstance(self.of, tuple):
            return self.of
        if self.of is not None:
            raise ValueError(
                "of=frame is the size of the image at the beginning of frame(…); "
                "write frame( … ) around all stages from there to this one"
            )
        *_, height, width = shape
        return height, width

    def input_shape(self, shape: Shape) -> Shape:
        *batch, height, width = shape
        if isinstance(self.of, tuple):
            return (*batch, *self.of)
        return (*batch, self._side_before(height), self._side_before(width))

    def _side_before(self, side: int) -> int:
        """The side nearest to side / scale that gives `side`, or the nearest one if none does."""
        scale = self._scale()
        nearest = max(1, round(side / scale))
        for candidate in (nearest, nearest + 1, nearest - 1):
            if candidate > 0 and self._rounded(candidate * scale) == side:
                return candidate
        return nearest

    def _scale(self) -> float:
        """The scale; 1 where the operator has a size."""
        scale = decided(self.scale)
        return 1 if scale is None else scale

    def _rounded(self, side: float) -> int:
        whole = ROUNDINGS[self.rounding](side)
        return max(1, whole)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        if self.grid == "scale":  # the positions in a part would follow another scale
            return None
        proportional = proportional_cut(self, shape, window)
        if proportional is None:
            return None
        _, place = proportional
        rows, columns = place
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        sides = tuple(span.stop - span.start for span in window)
        if self.scale is not None:  # kept where it gives the same, since it tells the image's size
            scaled = self.with_values({"rounding": "round", "of": sides})
            if scaled.output_shape((*shape[:2], *sides))[2:] == (height, width):
                return scaled, place
        plain = {"size": (height, width), "scale": None, "rounding": "round", "of": None}
        return self.with_values(plain), place

    def approx(self) -> Operator:
        if not isinstance(self.filter, str) or self.filter not in DRAWN:
            return self
        known = "bicubic" if self.filter == "any" else "torch-bilinear"
        return self.with_values({"filter": known})


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
