"""Operators that choose between operators: random pipelines in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NoReturn, cast

from torch import Tensor

from .operator import Operator, Shape, compose
from .params import Numbers, check_numbers, checked, nested, number
from .registry import register
from .rng import Rng
from .values import Range, show


@register("identity", exact="the input", gradient="identity")
class Identity(Operator):
    """Return the image unchanged. Gradient: identity."""

    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x.clone()  # the caller may change the result in place

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return y


class _Choice(Operator):
    """Base of operators that `sample` replaces by one of several, for each image separately."""

    varies = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        raise AssertionError("a choice is decided before it is applied")

    @property
    def possible(self) -> tuple[Operator, ...]:
        """The operators that may replace it."""
        return self.nested

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def output_shape(self, shape: Shape) -> Shape:
        shapes = {f.output_shape(shape) for f in self.possible}
        if len(shapes) > 1:
            self._refuse_undecided()
        return shapes.pop()

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        for f in self.possible:
            if f.visible(shape, seen) is not seen:
                self._refuse_undecided()
        return seen

    def _refuse_undecided(self) -> NoReturn:
        raise ValueError(
            "it is not decided yet; name one operator, or use .sample(shape, generator)"
        )


_LEAST_WEIGHT = 1e-9  # of all together, because they are divided by their sum
_LARGEST_WEIGHT = 1e9


def _check_weights(given: object) -> tuple[float, ...]:
    """The weights as a tuple of numbers, whose sum is above 0."""
    mend = "numbers from 0 to 10⁹, as in weights=3|1"
    weights = _list_of_numbers("weights", given, 0, _LARGEST_WEIGHT, False, mend)
    if sum(weights) < _LEAST_WEIGHT:
        raise ValueError(f"weights={show(given)} are all 0; give one of them at least 10⁻⁹")
    return tuple(map(float, weights))


def _list_of_numbers(
    name: str, given: object, low: float, high: float, integer: bool, mend: str
) -> tuple[float, ...]:
    """Numbers from low to high as a tuple, also a single one. `mend` says what to give."""
    try:
        numbers = check_numbers(name, given, low, high, integer=integer)
    except ValueError as error:
        raise ValueError(f"{name}={show(given)} must be {mend}") from error
    if isinstance(numbers, Range):
        raise ValueError(f"{name}={given} is a range, which is not drawn here; give {mend}")
    return numbers if isinstance(numbers, tuple) else (numbers,)


@register("oneof", exact="the one drawn", gradient="of the one drawn")
class OneOf(_Choice):
    """Apply one of several operators, each with the same probability, or by weights.

    OneOf(a, b, …), written `oneof(a ; b)`; OneOf(a, b, weights=(3, 1)), written
    `oneof:weights=3|1(a ; b)`.

    weights: one number from 0 to 10⁹ per operator; the probabilities are in proportion to them.
    """

    operators: tuple[Operator, ...] = nested(several=True)
    weights: Sequence[float] | None = checked(
        _check_weights, "one number from 0 per operator", default=None
    )

    def __init__(self, *operators: Operator, weights: Sequence[float] | None = None):
        object.__setattr__(self, "operators", operators)
        object.__setattr__(self, "weights", weights)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and len(self.weights) != len(self.operators):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.operators)} operators; "
                "give one for each"
            )

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        chosen = self.operators[self._index(rng)]
        return chosen._drawn(shape, rng.child("chosen"))

    def _index(self, rng: Rng) -> int:
        """The number of the operator that is drawn."""
        if self.weights is None:
            (index,) = rng.integers(len(self.operators))
            return index
        share = rng.share()
        sums = list(accumulate(self.weights))
        position = share * sums[-1]
        return sum(end <= position for end in sums)


@register("maybe", exact="the one drawn", gradient="of the one drawn")
class Maybe(_Choice):
    """Apply an operator with probability `prob`, else leave the image unchanged.

    Maybe(0.5, a), written `maybe:0.5(a)`.
    """

    prob: Numbers = number(low=0, high=1)
    operator: Operator = nested()

    @property
    def possible(self) -> tuple[Operator, ...]:
        return (self.operator, Identity())

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        share = rng.share()
        prob = cast(float, self.prob)  # `row` has selected the value of this image
        if share < prob:
            return self.operator._drawn(shape, rng.child("chosen"))
        return Identity()


def _check_keep(given: object) -> tuple[int, ...]:
    """The numbers of operators as a tuple of different integers from 1."""
    mend = "two or more different numbers from 1, as in keep=1|2"
    numbers = _list_of_numbers("keep", given, 1, math.inf, True, mend)
    if len(numbers) < 2 or len(set(numbers)) < len(numbers):
        raise ValueError(f"keep={show(given)} must be {mend}")
    return tuple(map(int, numbers))


@register("shuffle", exact="all, in the order drawn", gradient="of the chain drawn")
class Shuffle(_Choice):
    """Apply all of several operators, one after another, in an order that is drawn.

    Shuffle(a, b, …), written `shuffle(a ; b)`. Every allowed order has the same probability. What
    is drawn in an operator does not depend on its place in the order.

    keep: the numbers, from 1, of operators that stay in this order among themselves, such as
        `shuffle:keep=2|3(a ; b ; c)`, where b always comes before c.

    Source: Zhang et al. 2021 (BSRGAN), "degradation shuffle".
    """

    operators: tuple[Operator, ...] = nested(several=True)
    keep: Sequence[int] | None = checked(_check_keep, "two or more numbers from 1", default=None)

    def __init__(self, *operators: Operator, keep: Sequence[int] | None = None):
        object.__setattr__(self, "operators", operators)
        object.__setattr__(self, "keep", keep)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep is not None and max(self.keep) > len(self.operators):
            raise ValueError(
                f"keep={show(self.keep)} names more than the {len(self.operators)} operators; "
                "give their numbers from 1"
            )

    def output_shape(self, shape: Shape) -> Shape:
        for f in self.operators:  # the order matters if one of them changes the size
            if f.output_shape(shape) != tuple(shape):
                self._refuse_undecided()
        return tuple(shape)

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        stages: list[Operator] = []
        for index in self._order(rng):
            operator = self.operators[index]
            drawn = operator._drawn(shape, rng.child(f"{index}"))
            stages.extend(drawn)
            shape = drawn.output_shape(shape)
        return compose(stages)

    def _order(self, rng: Rng) -> list[int]:
        """A permutation of the operators; the kept ones share their places in their own order."""
        remaining = list(range(len(self.operators)))
        order = []
        while remaining:
            (position,) = rng.integers(len(remaining))
            order.append(remaining.pop(position))
        kept = [number - 1 for number in self.keep or ()]
        places = [place for place, index in enumerate(order) if index in kept]
        for place, index in zip(places, kept, strict=True):
            order[place] = index
        return order
