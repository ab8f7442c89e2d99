"""Parameters of operators: checked once, stored as plain values, written as text.

A parameter that makes sense per image is a number or a tuple of B numbers; tensors and lists are
turned into tuples, so that operators compare and hash.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from urllib.parse import quote, unquote

import torch
from torch import Tensor

from .rng import Rng

_PLAIN = "0123456789/:._-+~@[]"  # what the text of a string may hold as it is; the rest is percent-encoded


@dataclass(frozen=True)
class Range:
    """A parameter that `sample` draws for each image, uniformly from [low, high].

    Integers (both ends included) where the parameter is one. Written low..high.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{format_value(self.low)}..{format_value(self.high)}"

    def draw(self, rng: Rng) -> float:
        """One value, for one image."""
        if isinstance(self.low, int):
            return self.low + rng.integers(self.high - self.low + 1)[0]
        return self.low + (self.high - self.low) * rng.integers(2**53)[0] / 2**53


# What may be given. `numbers` keeps a plain value of it: a number, a tuple, or the Range
Number = float | Range
Integer = int | Range
Numbers = float | Sequence[float] | Tensor | Range  # one, or one per image
Integers = int | Sequence[int] | Tensor | Range
Plain = float | tuple[float, ...] | Range


def numbers(
    op: object,
    name: str,
    low: float,
    high: float = math.inf,
    *,
    integer: bool = False,
    above: bool = False,
) -> None:
    """Check the parameter `name` of `op` with `check_numbers`, and keep the plain value."""
    object.__setattr__(
        op, name, check_numbers(name, getattr(op, name), low, high, integer=integer, above=above)
    )


def check_numbers(
    name: str,
    given: object,
    low: float,
    high: float = math.inf,
    *,
    integer: bool = False,
    above: bool = False,
) -> Plain:
    """`given` as a number, a tuple of one per image, or a Range, if it is one in [low, high].

    `above` excludes `low` itself. Raises ValueError naming the parameter, its value and the range.
    """
    array = not isinstance(given, (int, float)) and hasattr(
        given, "tolist"
    )  # tensors, arrays, numpy scalars
    value = given.tolist() if array else given
    value = (given.low, given.high) if isinstance(given, Range) else value
    many = isinstance(value, Iterable) and not isinstance(value, str)
    items = tuple(value) if many else (value,)
    kind = "an integer" if integer else "a number"
    interval = f"{'above' if above else 'from'} {low:g}" + (
        f" to {high:g}" if high < math.inf else ""
    )
    for item in items:
        ok = isinstance(item, Real) and not isinstance(item, bool) and -math.inf < item < math.inf
        ok = ok and (item > low if above else item >= low) and item <= high
        if not ok or (integer and item != int(item)):
            many = (
                "; a|b is one for each image, low..high is drawn" if isinstance(item, str) else ""
            )
            raise ValueError(f"{name}={show(given)} must be {kind} {interval}{many}")
    if not items:
        raise ValueError(f"{name}=() is empty; give a number, or one per image")
    if isinstance(given, Range):
        if given.low > given.high:
            raise ValueError(f"{name}={given} is empty; write the smaller end first")
        kind = int if integer else float
        return Range(kind(given.low), kind(given.high))
    items = tuple(int(item) if integer else item for item in items)
    return items if many and len(items) > 1 else items[0]


def choice(op: object, name: str, options: Iterable[str]) -> None:
    """Check that the parameter `name` of `op` is one of `options`."""
    check_choice(name, getattr(op, name), options)


def check_choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of `options`."""
    options = tuple(options)
    if value not in options:
        raise ValueError(f"{name}={show(value)} must be one of {', '.join(options)}")


def per_image(value: Numbers, x: Tensor, name: str) -> float | Tensor:
    """`value` ready to broadcast against x [B, C, H, W]: the number, or a tensor [B, 1, 1, 1]."""
    if not isinstance(value, tuple):
        return value
    check_count(name, value, len(x))
    return torch.tensor(value, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)


def check_count(name: str, value: object, batch: int) -> None:
    """Refuse a tuple of other than one value per image."""
    if isinstance(value, tuple) and len(value) != batch:
        raise ValueError(
            f"{name} has {len(value)} values for {batch} images; give one, or one per image"
        )


def one_for_all(op: object, *names: str) -> None:
    """Refuse a value per image where one decides the shape of the whole batch."""
    for name in names:
        value = getattr(op, name)
        if isinstance(value, tuple):
            raise ValueError(
                f"{name}={value} must be one number for all images; perimage(… ; …) takes them apart"
            )


def decided(value):
    """A number that decides a shape; refuses a Range that `sample` has not resolved."""
    if isinstance(value, Range):
        raise ValueError(
            f"{value} is not decided yet; give one number, or use .sample(shape, generator)"
        )
    return value


def format_value(value: object) -> str:
    """The text of a parameter; parse_value(format_value(v)) == v."""
    if isinstance(value, tuple):
        return "|".join(map(format_value, value))
    if (
        isinstance(value, float)
        and math.isfinite(value)
        and value == int(value)
        and abs(value) < 1e15
    ):
        return str(int(value))
    if not isinstance(value, str):
        return str(value)
    text = "".join(
        c if c.isalpha() or c in _PLAIN else quote(c, "", errors="surrogateescape") for c in value
    )
    return (
        text if parse_value(text) == value else f"%{ord(text[0]):02X}{text[1:]}"
    )  # such as a file named 12


def parse_value(text: str) -> int | float | str | tuple | Range:
    """The parameter that a text stands for: a number where it reads as one."""
    if "|" in text:
        return tuple(parse_value(item.strip()) for item in text.split("|"))
    if ".." in text:
        low, _, high = text.partition("..")
        ends = parse_value(low), parse_value(high)
        if all(isinstance(end, (int, float)) for end in ends):
            return Range(*ends)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return unquote(text, errors="surrogateescape")


def show(value: object) -> str:
    """A value in an error message: one line, not too long."""
    text = " ".join((str(value) if isinstance(value, Range) else repr(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."
