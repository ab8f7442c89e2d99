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
    """Nothing happened. Gradient: identity."""

    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x.clone()  # so that changing the result leaves the input alone

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return y


class _Choice(Operator):
    """Decided by `sample`, for each image on its own; then the chosen operator stands in its place."""

    varies = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        raise AssertionError("a choice is decided before it is applied")

    @property
    def possible(self) -> tuple[Operator, ...]:
        """What it may become."""
        return self.nested

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def output_shape(self, shape: Shape) -> Shape:
        shapes = {f.output_shape(shape) for f in self.possible}
        return shapes.pop() if len(shapes) == 1 else self._undecided()

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return (
            seen
            if all(f.visible(shape, seen) is seen for f in self.possible)
            else self._undecided()
        )

    def _undecided(self) -> NoReturn:
        raise ValueError(
            "it is not decided yet; name one operator, or use .sample(shape, generator)"
        )


@register("oneof", exact="the one drawn", gradient="of the one drawn")
class OneOf(_Choice):
    """One of the operators, each as likely: OneOf(a, b, …), written `oneof(a ; b)`."""

    operators: tuple[Operator, ...] = nested(several=True)

    def __init__(self, *operators: Operator):
        object.__setattr__(self, "operators", operators)
        self.__post_init__()

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        (chosen,) = rng.integers(len(self.operators))
        return self.operators[chosen]._drawn(shape, rng.child("chosen"))


@register("maybe", exact="the one drawn", gradient="of the one drawn")
class Maybe(_Choice):
    """The operator with probability prob, else nothing: Maybe(0.5, a), written `maybe:0.5(a)`."""

    prob: Numbers = number(low=0, high=1)
    operator: Operator = nested()

    @property
    def possible(self) -> tuple[Operator, ...]:
        return (self.operator, Identity())

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        (u,) = rng.integers(2**53)
        prob = cast(float, self.prob)  # `row` has chosen one for this image
        happens = u < prob * 2**53
        return self.operator._drawn(shape, rng.child("chosen")) if happens else Identity()
