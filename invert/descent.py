"""The search for the best of a positive number: in strides of one factor, then by a parabola."""

from __future__ import annotations

from collections.abc import Callable

STRIDE = 2**0.5  # the factor between neighbouring values
MOST_STRIDES = 7


def geometric(first: float, last: float, count: int) -> tuple[float, ...]:
    """`count` levels from `first` to `last`, each the same factor lower."""
    if count == 1:
        return (last,)
    levels = []
    for i in range(count):
        progress = i / (count - 1)
        ratio: float = (last / first) ** progress
        levels.append(first * ratio)
    return tuple(levels)


def descend(loss: Callable[[float], float], start: float, lowest: float, highest: float) -> float:
    """Walk from `start` in strides to the level of least loss; refine by a parabola."""
    start = within(start, lowest, highest)
    losses: dict[int, float] = {}

    def level(strides: float) -> float:
        factor: float = STRIDE**strides
        return within(start * factor, lowest, highest)

    def loss_at(strides: int) -> float:
        if strides not in losses:
            losses[strides] = loss(level(strides))
        return losses[strides]

    best = 0
    for _ in range(MOST_STRIDES):
        neighbours = (best - 1, best, best + 1)
        better = min(neighbours, key=loss_at)
        if better == best:
            break
        best = better
    left = loss_at(best - 1)
    middle = loss_at(best)
    right = loss_at(best + 1)
    shift = vertex(left, middle, right)
    return level(best + shift)


def within(value: float, lowest: float, highest: float) -> float:
    """The nearest value of the range."""
    return min(max(value, lowest), highest)


def vertex(left: float, middle: float, right: float) -> float:
    """The position of the minimum of the parabola through (-1, left), (0, middle), (1, right)."""
    curvature = left - 2 * middle + right
    if curvature <= 0:
        return 0.0
    position = (left - right) / (2 * curvature)
    return within(position, -1.0, 1.0)
