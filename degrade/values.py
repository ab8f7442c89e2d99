"""Values of parameters and their text: numbers, names, one value per image, ranges to draw from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import quote, unquote

# Characters that stay as they are in the text of a string. All others are percent-encoded.
_PLAIN = "0123456789/:._-+~@[]"


@dataclass(frozen=True)
class Range:
    """A parameter that `sample` draws for each image, uniformly from [low, high].

    An integer parameter is drawn from the integers low, …, high, both included. Written low..high.

    power: draws a value whose power is uniform. 2 makes a variance uniform where the parameter is a
        standard deviation, -1 makes the divisor uniform where it is a scale, and 0 makes the
        logarithm uniform. Written low..high^power.
    """

    low: float
    high: float
    power: float = 1

    def __str__(self) -> str:
        text = f"{format_value(self.low)}..{format_value(self.high)}"
        return text if self.power == 1 else f"{text}^{format_value(self.power)}"


def format_value(value: object) -> str:
    """The text of a parameter; parse_value(format_value(v)) == v."""
    if isinstance(value, tuple):
        return "|".join(map(format_value, value))
    if isinstance(value, float) and _is_short_integer(value):
        return str(int(value))
    if not isinstance(value, str):
        return str(value)
    text = "".join(map(_encode, value))
    if parse_value(text) == value:
        return text
    return f"%{ord(text[0]):02X}{text[1:]}"  # a string that reads as a number, such as a file "12"


def _is_short_integer(value: float) -> bool:
    if not math.isfinite(value) or abs(value) >= 1e15:
        return False
    return value == int(value)


def _encode(character: str) -> str:
    if character.isalpha() or character in _PLAIN:
        return character
    return quote(character, "", errors="surrogateescape")


def parse_value(text: str) -> int | float | str | tuple | Range:
    """The parameter that a text stands for: a number where it reads as one."""
    if "|" in text:
        items = text.split("|")
        return tuple(parse_value(item.strip()) for item in items)
    if ".." in text:
        low_text, _, rest = text.partition("..")
        high_text, caret, power_text = rest.partition("^")
        low = parse_value(low_text)
        high = parse_value(high_text)
        power = parse_value(power_text) if caret else 1
        numbers = (int, float)
        if isinstance(low, numbers) and isinstance(high, numbers) and isinstance(power, numbers):
            return Range(low, high, power)
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            pass
    return unquote(text, errors="surrogateescape")


def _has_range(value: object) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, Range) for item in items)


def show(value: object) -> str:
    """A value as an error message quotes it: one line, at most 60 characters."""
    text = format_value(value) if _has_range(value) else repr(value)
    line = " ".join(text.split())
    if len(line) <= 60:
        return line
    return line[:57] + "..."
