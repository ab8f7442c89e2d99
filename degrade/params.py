"""Parameters of operators: declared with the field, checked by the base class, described in words.

    peak: Numbers = number(low=1e-6, high=1e9)
    model: str = option("exact", "gaussian", default="exact")

A parameter that makes sense per image is a number, or a tuple with one number per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral
from typing import Any, TypeVar, cast, overload

from torch import Tensor

from .checks import Plain, check_choice, check_numbers
from .kinds import (
    CheckedKind,
    FlagKind,
    Kind,
    NumberKind,
    OperatorKind,
    OptionKind,
    SizeKind,
    TensorKind,
)
from .tracked import tensor_of
from .values import Range, format_value, parse_value, show

__all__ = [
    "Integer",
    "Integers",
    "Number",
    "Numbers",
    "Parameter",
    "Plain",
    "Range",
    "check_choice",
    "check_count",
    "check_numbers",
    "checked",
    "decided",
    "described",
    "flag",
    "format_value",
    "image_size",
    "integer",
    "nested",
    "number",
    "of_kind",
    "option",
    "parse_value",
    "per_image",
    "random_seed",
    "show",
    "single",
    "tensor",
    "tensor_of",
    "whole_number",
]

Value = TypeVar("Value")

# What a caller may give. The operator stores a plain value: a number, a tuple, or the Range
Number = float | Range
Integer = int | Range
Numbers = float | Sequence[float] | Tensor | Range  # one, or one per image
Integers = int | Sequence[int] | Tensor | Range


# Each of these declares a field. They return Any, as dataclasses.field does, so that a type checker
# takes the field's own annotation. A default of None also allows None.


def number(
    *,
    default: object = MISSING,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    levels: bool = False,
    per_image: bool = True,
    drawn: bool = True,
    learnable: bool = False,
) -> Any:
    """A number in [low, high], or in (above, high]: one, one per image, or a Range.

    levels: the number is in units of [0, 1], and an error explains one that was given in 1/255.
    drawn: allows a Range.
    learnable: allows a tensor that requires grad. `forward` takes the number by `per_image` or
        `tensor_of`, which keep the gradient.
    """
    kind = NumberKind(
        low=low if above is None else above,
        high=high,
        above=above is not None,
        levels=levels,
        per_image=per_image,
        drawn=drawn,
        learnable=learnable,
        optional=default is None,
    )
    return _declare(kind, default)


def integer(
    *,
    default: object = MISSING,
    low: float = -math.inf,
    high: float = math.inf,
    odd: bool = False,
    per_image: bool = True,
    learnable: bool = False,
) -> Any:
    """An integer in [low, high]: one, one per image, or a Range. `odd` allows odd ones only.

    learnable: as in `number`; the tensor's value is rounded, straight through.
    """
    kind = NumberKind(
        low=low,
        high=high,
        integer=True,
        odd=odd,
        per_image=per_image,
        learnable=learnable,
        optional=default is None,
    )
    return _declare(kind, default)


def random_seed(*, default: object = MISSING) -> Any:
    """A seed from 0 to 2³² - 1, or one per image; None until `sample` draws it."""
    kind = NumberKind(low=0, high=2**32 - 1, integer=True, drawn=False, optional=default is None)
    return _declare(kind, default)


def image_size(*, default: object = MISSING, drawn: bool = True) -> Any:
    """The sides of an image: one for a square, or (h, w). `drawn` allows a Range of squares."""
    return _declare(SizeKind(drawn=drawn, optional=default is None), default)


def option(
    *names: str, default: object = MISSING, per_image: bool = False, undecided: Sequence[str] = ()
) -> Any:
    """One of `names`. `undecided` are more names, which `sample` replaces by one of them."""
    kind = OptionKind(
        names=names, per_image=per_image, undecided=tuple(undecided), optional=default is None
    )
    return _declare(kind, default)


def flag(*, default: object = MISSING) -> Any:
    """True or False, written yes or no."""
    return _declare(FlagKind(optional=default is None), default)


def tensor(*, channels: int, default: object = MISSING, learnable: bool = False) -> Any:
    """A tensor [B, C, H, W] in [0, 1], or the path of a file that is read at the first use.

    learnable: allows a tensor that requires grad.
    """
    kind = TensorKind(channels=channels, learnable=learnable, optional=default is None)
    return _declare(kind, default)


def nested(*, several: bool = False) -> Any:
    """The operator that this one is made of, or several. It is the last field of its class."""
    return _declare(OperatorKind(several=several), MISSING)


def checked(
    function: Callable[[object], object],
    words: str,
    *,
    default: object = MISSING,
    learnable: bool = False,
) -> Any:
    """Anything that `function` accepts: it returns the value to store, or raises ValueError.

    words: what is allowed, for `degrade ops`. A tuple it returns is one value, not one per image.
    learnable: allows a tensor that requires grad; `function` keeps its gradient by `tracked`.
    """
    kind = CheckedKind(
        function=function, words=words, learnable=learnable, optional=default is None
    )
    return _declare(kind, default)


def of_kind(kind: Kind, *, default: object = MISSING) -> Any:
    """A value of a kind of its own, where none of the functions above describes it."""
    return _declare(kind, default)


def _declare(kind: Kind, default: object) -> Any:
    metadata = {"kind": kind}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def declared_kinds(cls: type) -> dict[str, Kind]:
    """The kind of each field of a dataclass. Raises TypeError for a field that declares none."""
    kinds = {}
    for declared in fields(cls):
        kind = declared.metadata.get("kind")
        if kind is None:
            raise TypeError(
                f"{cls.__name__}.{declared.name} does not say what it may hold; declare it, as in "
                f"{declared.name}: Numbers = degrade.params.number(low=0, high=1)"
            )
        kinds[declared.name] = kind
    return kinds


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator class, for tables, completion and documentation."""

    name: str
    kind: Kind
    required: bool
    default: object = None

    @property
    def description(self) -> str:
        """What is allowed, in words: "a number from 0 to 1, or one per image"."""
        return self.kind.description

    @property
    def default_text(self) -> str:
        """The default as `degrade ops` and the documentation show it; empty if there is none."""
        if self.required or self.default is None:
            return ""
        if isinstance(self.default, float):
            return f"{self.default:.3g}"
        return format_value(self.default)


def described(cls: type) -> list[Parameter]:
    """The parameters of a registered operator class, in the order in which text gives them."""
    parameters = []
    for declared in fields(cls):
        required = declared.default is MISSING
        default = None if required else declared.default
        kind = declared.metadata["kind"]
        parameters.append(Parameter(declared.name, kind, required, default))
    return parameters


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """An argument of a function that must be one integer. Raises ValueError for anything else."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if low <= number <= high:
            return number
    raise ValueError(f"{name}={show(value)} must be an integer from {low} to {high}")


def per_image(value: Numbers, x: Tensor, name: str) -> float | Tensor:
    """`value` ready to broadcast against x [B, C, H, W]: the number, or a tensor [B, 1, 1, 1]."""
    if isinstance(value, tuple):  # an operator stores lists and tensors as tuples
        check_count(name, value, x.shape[0])
        numbers = cast(Tensor, tensor_of(value, x))
        return numbers.view(-1, 1, 1, 1)
    return tensor_of(cast(float, value), x)


def check_count(name: str, value: object, batch: int) -> None:
    """Raise ValueError if value is a tuple that does not hold one value per image."""
    if isinstance(value, tuple) and len(value) != batch:
        raise ValueError(
            f"{name} has {len(value)} values for {batch} images; give one, or one per image"
        )


def decided(value: Value | Range) -> Value:
    """A number that decides a shape; refuses a Range that `sample` has not resolved."""
    if isinstance(value, Range):
        raise ValueError(
            f"{value} is not decided yet; give one number, or use .sample(shape, generator)"
        )
    return value


@overload
def single(value: str | Sequence[str]) -> str: ...
@overload
def single(value: Numbers) -> float: ...
def single(value: object) -> object:
    """The one value of a parameter that may hold one per image, after `row` has selected it."""
    if isinstance(value, (tuple, Range)):
        raise ValueError(f"{value} is not one value; take the images one by one, with .row(i, B)")
    return value
