"""Sizes relative to the image at the beginning of a part of a chain."""

from __future__ import annotations

from torch import Tensor

from .operator import Operator, Shape, compose
from .params import nested
from .pillow_resize import Size
from .registry import register
from .resample import Resize
from .rng import Rng


@register("frame", exact="its operator's", gradient="its operator's")
class Frame(Operator):
    """Apply an operator in which `resize` may refer to the size of the image at its beginning.

    Frame(f), written `frame(blur:gaussian,2 >> resize:scale=0.3..1 >> resize:scale=1,of=frame)`:
    the last stage returns to the size that the image had before the blur. `sample` replaces
    `of=frame` by that size, and the frame by the operator within it. What is sampled is therefore
    for images of one size. It names this size before it changes it, so that a solver finds it: in
    its first `resize`, or in `resize:scale=1,of=…`, which changes no pixel.
    """

    operator: Operator = nested()

    @property
    def varies(self) -> bool:
        return any(stage.varies for stage in self.operator.stages)

    @property
    def decided(self) -> bool:
        return False

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        drawn = self._of(shape)._drawn(shape, rng.child("framed"))
        return _with_first_size(drawn, shape)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        raise AssertionError("a frame is replaced before it is applied")

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def output_shape(self, shape: Shape) -> Shape:
        return self._of(shape).output_shape(shape)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return self._of(shape).visible(shape, seen)

    def _of(self, shape: Shape) -> Operator:
        """The operator within, for images of a shape."""
        *_, height, width = shape
        return _with_size(self.operator, (height, width))


def _with_size(f: Operator, size: Size) -> Operator:
    """f with `of=frame` replaced by a size, except within frames of its own."""
    stages: list[Operator] = []
    for stage in f.stages:
        if isinstance(stage, Resize):
            stages.append(stage.of_frame(size))
        elif isinstance(stage, Frame):
            stages.append(stage)
        else:
            stages.append(stage.with_nested(lambda inner: _with_size(inner, size)))
    return compose(stages)


def _with_first_size(f: Operator, shape: Shape) -> Operator:
    """f, which names the size of `shape` before it changes it: its `input_shape` is then exact.

    Rounding the sides of a result loses the size of the image, and a size that a later stage refers
    to does not tell where its frame began.
    """
    *_, height, width = shape
    size = (height, width)
    stages: list[Operator] = list(f.stages)
    for i, stage in enumerate(stages):
        if isinstance(stage, Resize) and stage.scale is not None:
            if stage.of is None:
                stages[i] = stage.with_values({"of": size})
            break
        if stage.output_shape(shape) != tuple(shape):
            stages.insert(i, Resize(scale=1, of=size))  # changes no pixel
            break
    return compose(stages)
