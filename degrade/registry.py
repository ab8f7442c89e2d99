"""The operators that have a name, and how one gets it."""

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
Kind = TypeVar("Kind", bound=Operator)


class Registered(Protocol):
    """What `register` returns: a class stays that class, and a function becomes an operator."""

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
    """Decorator that makes an operator known to `parse` as `name`.

    exact: what the values equal; gradient: the declared one; both for `degrade ops`.
    An Operator subclass becomes a frozen dataclass. Each field declares what it may hold (see
    `degrade.params`); a field that does not is a TypeError. A function or torch module x → y becomes
    an operator without parameters, whose gradient is its own.

    >>> from degrade.params import Numbers, number, per_image
    >>> @register("fade")
    ... class Fade(Operator):
    ...     amount: Numbers = number(default=0.5, low=0, high=1)
    ...     def forward(self, x, rng):
    ...         return x * per_image(self.amount, x, "amount")
    >>> Fade("oops")
    Traceback (most recent call last):
    ValueError: amount='oops' must be a number from 0 to 1; a|b is one for each image, low..high is drawn

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
        taken = REGISTRY.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"the operator name {name!r} is taken by {taken.__module__}.{taken.__qualname__}"
            )
        if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
            raise ValueError(
                f"the operator name {name!r} could not be parsed; use letters, digits, - and _"
            )
        cls = dataclass(frozen=True, repr=False)(cls)
        cls.name, cls.exact, cls.gradient = name, exact, gradient
        kinds = declared_kinds(cls)
        holders = [n for n, kind in kinds.items() if kind.nested]
        cls.kinds, cls.holds = kinds, holders[0] if holders else None
        cls.files = tuple(n for n, kind in kinds.items() if kind.file)
        cls.positional = tuple(
            f.name for f in fields(cls) if f.default is MISSING and f.name != cls.holds
        )
        REGISTRY[name] = cls
        return cls

    return decorate


# `sample` makes these, so that its class stands beside Operator
register("perimage", exact="each row's own", gradient="each row's own")(PerImage)
