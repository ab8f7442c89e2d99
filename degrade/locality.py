"""Local operators: the operator for a window of an image, found from `reach` and `cut`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .images import check_shape

if TYPE_CHECKING:
    from .operator import Operator, Shape, Window

    Part = tuple[Operator, Window]


@runtime_checkable
class Cuts(Protocol):
    """An operator with its own method `cut`, because `proportional_cut` is wrong for it."""

    def cut(self, shape: Shape, window: Window) -> Part | None:
        """(g, w): g applied to the window of x gives the part w of f(x).

        None if the window cuts through a pixel or block of f(x). Called only if `reach` is finite.
        """


def part(f: Operator, shape: Shape, window: Window) -> Part | None:
    """(g, w): g applied to the window of an image x gives the part w of f(x).

    window: rows and columns, slices with start and stop within the image.

    The values are equal except within `f.reach(shape)` pixels of x from those borders of the window
    that lie inside the image. Returns None if there is no such g: f uses the whole image, or the
    window cuts through a pixel or block of f(x). Raises ValueError if `sample` has not yet drawn
    what decides shapes or masks.
    """
    check_shape(shape)
    if len(window) != 2:
        raise ValueError(f"window={window} must be the slices of the rows and of the columns")
    sides = list(zip(window, shape[2:], strict=True))
    for span, n in sides:
        if not _lies_within(span, n):
            raise ValueError(
                f"window={span} must be from a first to a last of {n} pixels, with both ends given"
            )
    is_whole_image = all(span == slice(0, n) for span, n in sides)
    if is_whole_image:
        height, width = f.output_shape(shape)[2:]
        return f, (slice(0, height), slice(0, width))
    if math.isinf(f.reach(shape)):
        return None
    return cut(f, shape, window)


def can_cut(f: Operator, shape: Shape, position: int, axis: int) -> bool:
    """Whether the part of an image before a row (axis 0) or column (axis 1) can be taken alone.

    It cannot where the cut goes through a block or a pixel of f(x), nor where f uses the whole
    image, or holds a mask that is still to be drawn.
    """
    window = [slice(0, n) for n in shape[2:]]
    window[axis] = slice(0, position)
    rows, columns = window
    try:
        taken = part(f, shape, (rows, columns))
    except ValueError:  # a mask that is still to be drawn
        return False
    return taken is not None


def _lies_within(span: slice, n: int) -> bool:
    if span.step is not None:
        return False
    if span.start is None or span.stop is None:
        return False
    return bool(0 <= span.start < span.stop <= n)


def cut(f: Operator, shape: Shape, window: Window) -> Part | None:
    """Compute `part` stage by stage, for a window smaller than the image."""
    from .operator import compose

    stages: list[Operator] = []
    for stage in f.stages:
        if isinstance(stage, Cuts):
            result = stage.cut(shape, window)
        else:
            result = proportional_cut(stage, shape, window)
        if result is None:
            return None
        stage_of_part, window = result
        stages.extend(stage_of_part)
        shape = stage.output_shape(shape)
    return compose(stages), window


def proportional_cut(f: Operator, shape: Shape, window: Window) -> Part | None:
    """(f, w), with w in proportion to the window; None if it cuts through a pixel of f(x)."""
    output = f.output_shape(shape)
    spans = []
    for span, n, m in zip(window, shape[2:], output[2:], strict=True):
        start, start_rest = divmod(span.start * m, n)
        stop, stop_rest = divmod(span.stop * m, n)
        if start_rest or stop_rest:
            return None
        spans.append(slice(start, stop))
    rows, columns = spans
    return f, (rows, columns)


def reach_of_chain(f: Operator, shape: Shape) -> float:
    """The sum of the reaches of all stages, each converted to pixels of the chain's input."""
    total = 0.0
    scale = 1.0  # pixels of the chain's input per pixel of the stage's input
    for stage in f.stages:
        total += stage.reach(shape) * scale
        output = stage.output_shape(shape)
        if not _turns(stage, shape, output):
            scale *= _reduction(shape, output)
        shape = output
    return total


def _turns(stage: Operator, shape: Shape, output: Shape) -> bool:
    """Whether a stage may swap the sides of an image and keep its pixels."""
    same_sides = sorted(shape[2:]) == sorted(output[2:])
    return stage.local and same_sides


def _reduction(shape: Shape, output: Shape) -> float:
    """Pixels of the input per pixel of the output, along the side that shrinks more."""
    height, width = shape[2:]
    out_height, out_width = output[2:]
    return max(height / out_height, width / out_width)
