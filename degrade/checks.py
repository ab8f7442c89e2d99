"""Checks of numbers and of names: an error says the parameter, the value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from typing import cast

import torch
from torch import Tensor

from .tracked import Tracked
from .values import Range, show

Plain = float | tuple[float, ...] | Range


def at_bounds(given: object, low: float, high: float) -> object:
    """A bound as it is, where a tensor of less precision holds it rounded: float32 has no 0.01."""
    if isinstance(given, tuple):
        return tuple(at_bounds(item, low, high) for item in given)
    if isinstance(given, Tracked):
        for bound in (low, high):
            if given.tensor.new_tensor(bound).item() == given:
                return given.at(bound)
    if not isinstance(given, Tensor) or not given.is_floating_point():
        return given
    numbers = given.double()
    for bound in (low, high):
        rounded = given.new_tensor(bound).double()
        numbers = torch.where(numbers == rounded, bound, numbers)
    return numbers


def check_numbers(
    name: str,
    given: object,
    low: float,
    high: float = math.inf,
    *,
    integer: bool = False,
    above: bool = False,
    odd: bool = False,
) -> Plain:
    """`given` as a number, a tuple with one per image, or a Range, if all are in [low, high].

    `above` excludes `low` itself. Raises ValueError naming the parameter, value and interval.
    """
    items, several = numbers_of(given)
    for item in items:
        if not fits(item, low, high, integer, above, odd):
            message = f"{name}={show(given)} must be "
            message += interval_text(low, high, integer, above, odd)
            if isinstance(item, str):
                message += "; a|b is one for each image, low..high is drawn"
            raise ValueError(message)
    if not items:
        raise ValueError(f"{name}=() is empty; give a number, or one per image")
    if isinstance(given, Range):
        if given.low > given.high:
            raise ValueError(f"{name}={given} is empty; write the smaller end first")
        number_type = int if integer else float
        power = _checked_power(name, given, integer)
        return Range(number_type(given.low), number_type(given.high), power)
    if integer:
        items = tuple(item if isinstance(item, Tracked) else int(item) for item in items)
    return items if several and len(items) > 1 else items[0]


def _checked_power(name: str, given: Range, integer: bool) -> float:
    """The power of a range. Raises ValueError where the range has no such power."""
    power = given.power
    if power == 1:
        return 1
    if not fits(power, -9, 9, False, False, False):
        raise ValueError(f"{name}={given} has a power that is no number from -9 to 9")
    if integer:
        raise ValueError(
            f"{name}={given} has a power, and integers are drawn with equal chance; leave it out"
        )
    if given.low < 0:
        raise ValueError(f"{name}={given} has a power, so it must begin at 0 or above")
    if power <= 0 and given.low == 0:
        raise ValueError(f"{name}={given} has no finite power at 0; it must begin above 0")
    return float(power)


def numbers_of(given: object) -> tuple[tuple, bool]:
    """The items to check, and whether several were given."""
    if isinstance(given, Range):
        return (given.low, given.high), True
    value = given
    if not isinstance(given, (int, float)) and hasattr(given, "tolist"):
        value = given.tolist()  # a tensor, an array or a numpy number
    if isinstance(value, Iterable) and not isinstance(value, (str, Set, Mapping)):
        return tuple(value), True
    return (value,), False


def fits(item: object, low: float, high: float, integer: bool, above: bool, odd: bool) -> bool:
    """Whether an item is a number in [low, high], or in (low, high] for `above`."""
    if not isinstance(item, Real) or isinstance(item, bool):
        return False
    value = cast(float, item)
    if not -math.inf < value < math.inf:
        return False
    if value < low or value > high or (above and value == low):
        return False
    if integer and value != int(value):
        return False
    return not odd or value % 2 == 1


def interval_text(low: float, high: float, integer: bool, above: bool, odd: bool) -> str:
    """The interval in words, such as "an integer from 1 to 100"."""
    words = "an integer" if integer else "a number"
    if odd:
        words = "an odd integer"
    number_format = ".0f" if integer else "g"
    if low > -math.inf:
        words += f" above {low:{number_format}}" if above else f" from {low:{number_format}}"
    if high < math.inf:
        words += f" to {high:{number_format}}"
    return words


def check_choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of `options`."""
    options = tuple(options)
    if value not in options:
        raise ValueError(f"{name}={show(value)} must be one of {', '.join(options)}")
