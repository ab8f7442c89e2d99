"""The registry of operators by name, and the decorator that adds to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Protocol, TypeVar, overload

from torch import Tensor
from typing_extensions import dataclass_transform

from .operator import Operator, PerImage
from .params import (
    checked,
    declared_kinds,
    flag,
    image_size,
    integer,
    nested,
    number,
    option,
    random_seed,
    tensor,
)

REGISTRY: dict[str, type[Operator]] = {}
ALIASES: dict[str, str] = {}  # names that stand for a whole chain in a text, see `published`
REFUSED: dict[str, str] = {}  # names of pipelines that need more than an image, and what to write
Kind = TypeVar("Kind", bound=Operator)


class Registered(Protocol):
    """The decorator that `register` returns: classes stay classes, functions become operators."""

    @overload
    def __call__(self, cls: type[Kind]) -> type[Kind]: ...
    @overload
    def __call__(self, cls: Callable[[Tensor], Tensor]) -> Operator: ...


# Type checkers read this tuple only where it is written out
@dataclass_transform(
    frozen_default=True,
    field_specifiers=(
        number,
        integer,
        random_seed,
        image_size,
        option,
        flag,
        tensor,
        nested,
        checked,
    ),
)
def register(name: str, exact: str = "", gradient: str = "its own") -> Registered:
    """Decorator that adds an operator to the registry, so that `parse` knows it as `name`.

    exact: what the values equal, in a few words, for `degrade ops`.
    gradient: which gradient it has, in a few words, for `degrade ops`.

    An Operator subclass becomes a frozen dataclass. Each field declares what it may hold (see
    `degrade.params`); a field without a declaration raises TypeError. A function or torch module
    x → y becomes an operator without parameters, with its own gradient.

    >>> from degrade.params import Numbers, number, per_image
    >>> @register("fade")
    ... class Fade(Operator):
    ...     amount: Numbers = number(default=0.5, low=0, high=1)
    ...     def forward(self, x, rng):
    ...         return x * per_image(self.amount, x, "amount")
    >>> Fade(2)
    Traceback (most recent call last):
    ValueError: amount=2 must be a number from 0 to 1

    >>> sepia = register("sepia")(lambda x: x * 0.9)
    """

    def decorate(cls):
        if not isinstance(cls, type):  # a function or a torch module, x → y
            body = {
                "forward": lambda self, x, rng: cls(x),
                "__doc__": cls.__doc__,
                "__module__": cls.__module__,
            }
            return decorate(type(name, (Operator,), body))()
        registered = REGISTRY.get(name)
        if registered is not None and _full_name(registered) != _full_name(cls):
            raise ValueError(f"the operator name {name!r} is taken by {_full_name(registered)}")
        if name in ALIASES:
            raise ValueError(f"the operator name {name!r} is taken by a published pipeline")
        if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
            raise ValueError(
                f"the operator name {name!r} could not be parsed; use letters, digits, - and _"
            )
        cls = dataclass(frozen=True, repr=False)(cls)
        cls.name, cls.exact, cls.gradient = name, exact, gradient
        kinds = declared_kinds(cls)
        cls.kinds = kinds
        cls.files = tuple(n for n, kind in kinds.items() if kind.file)
        cls.holds = None
        positional = []
        for field in fields(cls):
            if kinds[field.name].nested:
                cls.holds = field.name
            elif field.default is MISSING:
                positional.append(field.name)
        cls.positional = tuple(positional)
        REGISTRY[name] = cls
        return cls

    return decorate


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# `Operator.sample` makes these, so the class is defined beside Operator and registered here
register("perimage", exact="each row's own", gradient="each row's own")(PerImage)
