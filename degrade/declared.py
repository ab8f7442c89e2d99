"""Immutable values made of declared parameters: checked, compared and printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from .kinds import Kind
from .params import check_count
from .tracked import is_tracked
from .transforms import not_recorded
from .values import Range, format_value

if TYPE_CHECKING:
    from .operator import Operator

Self = TypeVar("Self", bound="Declared")


class Declared:
    """Base of operators: what follows from the declarations of their fields alone."""

    name: ClassVar[str]

    # `register` sets these from the declarations of the fields
    kinds: ClassVar[Mapping[str, Kind]] = {}  # what each parameter may hold
    positional: ClassVar[tuple[str, ...]] = ()  # the required parameters
    files: ClassVar[tuple[str, ...]] = ()  # parameters that may name a file
    holds: ClassVar[str | None] = None  # the field with the operators it is made of, if any

    def __post_init__(self) -> None:
        """Check every declared parameter and store its plain value.

        A subclass whose parameters depend on each other extends this, and calls it first.
        """
        with not_recorded():
            for name, kind in self.kinds.items():
                given = getattr(self, name)
                value = kind.stored(name, given)
                object.__setattr__(self, name, value)

    def arguments(self) -> list[tuple[str, object, bool]]:
        """(name, value, positional) of the parameters worth writing: no defaults, in order."""
        written = []
        for field in self._fields():
            value = getattr(self, field.name)
            positional = field.name in self.positional
            is_default = value == field.default and not is_tracked(value)
            if field.name != self.holds and (positional or not is_default):
                written.append((field.name, value, positional))
        return written

    def _fields(self) -> tuple[Field, ...]:
        """The declared fields. Raises TypeError for a class that was not registered."""
        if not is_dataclass(self):
            raise TypeError(
                f"{type(self).__name__} has no name yet; decorate it with @degrade.register('name')"
            )
        return fields(self)

    def __str__(self) -> str:
        """The text form that `parse` reads."""
        texts = []
        for name, value, positional in self.arguments():
            text = format_value(value)
            texts.append(text if positional else f"{name}={text}")
        text = self.name
        if texts:
            text += ":" + ",".join(texts)
        if self.nested:
            inner = " ; ".join(map(str, self.nested))
            text += f"({inner})"
        return text

    def __repr__(self) -> str:
        """The call that makes it."""
        plain = []
        by_name = []
        for name, value, positional in self.arguments():
            if positional:
                plain.append(repr(value))
            else:
                by_name.append(f"{name}={value!r}")
        nested = map(repr, self.nested)
        arguments = ", ".join([*plain, *nested, *by_name])
        return f"{type(self).__name__}({arguments})"

    @property
    def nested(self) -> tuple[Operator, ...]:
        """The operators it is made of; they come last in its class's arguments."""
        if self.holds is None:
            return ()
        value = getattr(self, self.holds)
        return value if isinstance(value, tuple) else (value,)

    def with_nested(self: Self, change: Callable[[Operator], Operator]) -> Self:
        """A copy with `change` applied to the operators it is made of."""
        if self.holds is None:
            return self
        values = {name: value for name, value, _ in self.arguments()}
        nested = [change(operator) for operator in self.nested]
        return self.assembled(values, nested)

    @classmethod
    def assembled(
        cls: type[Self], values: Mapping[str, object], nested: Sequence[Operator]
    ) -> Self:
        """One with these values of parameters and these operators in its parentheses."""
        if cls.holds is None:
            return cls(**values)
        if cls.kinds[cls.holds].several:
            return cls(*nested, **values)
        if len(nested) > 1:
            raise ValueError(f"{len(nested)} operators in parentheses are too many; give one")
        return cls(**values, **{cls.holds: nested[0]})

    @property
    def ranges(self) -> dict[str, Range]:
        """The parameters that `sample` draws from a range."""
        ranges = {}
        for field in self._fields():
            value = getattr(self, field.name)
            if isinstance(value, Range):
                ranges[field.name] = value
        return ranges

    @property
    def varies(self) -> bool:
        """Whether `sample` may give each image of a batch another operator."""
        return bool(self.ranges)

    @property
    def decided(self) -> bool:
        """Whether `sample` has nothing left to draw in the operator itself."""
        return not self.varies

    def row_values(self, index: int, batch: int) -> dict[str, object]:
        """The values of image `index`, for the parameters that hold one per image."""
        values = {}
        for name, kind in self.kinds.items():
            value = getattr(self, name)
            if kind.per_image and isinstance(value, tuple):
                check_count(name, value, batch)
                values[name] = value[index]
        return values

    def with_values(self: Self, values: Mapping[str, object]) -> Self:
        """A copy with other values of some parameters, which are checked."""
        if not values or not is_dataclass(self):
            return self
        return replace(self, **values)
