"""Operators that choose between operators: random pipelines in one line of text."""

from __future__ import annotations

from typing import NoReturn, cast

from torch import Tensor

from .operator import Operator, Shape
from .params import Numbers, nested, number
from .registry import register
from .rng import Rng


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


@register("oneof", exact="the one drawn", gradient="of the one drawn")
class OneOf(_Choice):
    """Apply one of several operators, each with the same probability.

    OneOf(a, b, …), written `oneof(a ; b)`.
    """

    operators: tuple[Operator, ...] = nested(several=True)

    def __init__(self, *operators: Operator):
        object.__setattr__(self, "operators", operators)
        self.__post_init__()

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        (index,) = rng.integers(len(self.operators))
        chosen = self.operators[index]
        return chosen._drawn(shape, rng.child("chosen"))


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
        (uniform,) = rng.integers(2**53)
        prob = cast(float, self.prob)  # `row` has selected the value of this image
        if uniform < prob * 2**53:
            return self.operator._drawn(shape, rng.child("chosen"))
        return Identity()
