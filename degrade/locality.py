"""Local operators: what an operator does to a part of an image, asked of its `reach` and `cut`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .operator import Operator, Shape, Window

    Part = tuple[Operator, Window]


@runtime_checkable
class Cuts(Protocol):
    """An operator that says itself what it does to a part, where `proportional_cut` does not hold."""

    def cut(self, shape: Shape, window: Window) -> Part | None:
        """(g, w): g does to the window of an image of `shape` what f does there; w is that part of f(x).

        None where the window cuts through a pixel or block of f(x). Asked only where `reach` is finite.
        """


def part(f: Operator, shape: Shape, window: Window) -> Part | None:
    """(g, w): g does to this window of an x of `shape` what f does there to x, and w is that part of f(x).

    window: rows and columns, slices with start and stop within the image. Exact except for
    `f.reach(shape)` pixels of x along the window's borders inside the image. None where there is no
    such g: f looks at the whole image, or the window cuts through a pixel or block of it. Raises
    ValueError where `sample` has not yet drawn what decides shapes or masks.
    """
    sides = list(zip(window, shape[2:], strict=True))
    for span, n in sides:
        if not _lies_within(span, n):
            raise ValueError(
                f"window={span} must be from a first to a last of {n} pixels, with both ends given"
            )
    if all(span.start == 0 and span.stop == n for span, n in sides):
        height, width = f.output_shape(shape)[2:]
        return f, (slice(0, height), slice(0, width))
    if math.isinf(f.reach(shape)):
        return None
    return cut(f, shape, window)


def _lies_within(span: slice, n: int) -> bool:
    if span.step is not None or span.start is None or span.stop is None:
        return False
    return bool(0 <= span.start < span.stop <= n)


def cut(f: Operator, shape: Shape, window: Window) -> Part | None:
    """`part` for a window smaller than the image: stage by stage, each by its own `cut` if it has one."""
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
    """The operator itself, where the window cuts through no pixel of f(x)."""
    spans = []
    for span, n, m in zip(window, shape[2:], f.output_shape(shape)[2:], strict=True):
        if span.start * m % n or span.stop * m % n:
            return None
        spans.append(slice(span.start * m // n, span.stop * m // n))
    return f, (spans[0], spans[1])


def reach_of_chain(f: Operator, shape: Shape) -> float:
    """The sum of the stages' reaches, each in pixels of the image that the chain gets."""
    total, scale = 0.0, 1.0
    for stage in f.stages:
        total += stage.reach(shape) * scale
        output = stage.output_shape(shape)
        turns = stage.local and sorted(shape[2:]) == sorted(output[2:])  # a turn swaps the sides
        if not turns:
            scale *= max(n / m for n, m in zip(shape[2:], output[2:], strict=True))
        shape = output
    return total
