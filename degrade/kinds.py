"""Kinds of parameters: each checks values, draws from a range, and describes itself in words.

An operator stores plain values, which can be compared and hashed: a kind turns lists and tensors of
numbers into tuples with one number per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from .checks import at_bounds, check_choice, check_numbers, fits, interval_text, numbers_of
from .constants import ordinary_tensors
from .images import IMAGE_TYPES
from .rng import Rng
from .tracked import Tracked, tracked
from .transforms import differs_within_vmap, is_differentiated
from .values import Range, show

_WHOLE_TYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NO_FILE = ("none", "null")  # words that people write where they mean no file


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a parameter may hold. A subclass defines `check` and `text`."""

    optional: bool = False  # None is allowed
    per_image: bool = False  # a tuple holds one value for each image of a batch
    drawn: bool = False  # a Range is allowed
    learnable: bool = False  # a tensor that requires grad keeps its gradient, see `tracked`
    several: bool = False  # one or more operators
    file: ClassVar[bool] = False  # the value may be the path of a file
    nested: ClassVar[bool] = False  # the value is an operator, or several

    def stored(self, name: str, given: object) -> object:
        """The plain value to store. Raises ValueError that names the parameter and the value."""
        if given is None and self.optional:
            return None
        if isinstance(given, Iterator):
            given = tuple(given)  # it can be read once only
        for tensor in _tensors_in(given):
            _check_tensor(name, tensor, self.learnable and not isinstance(given, Range))
        return self.check(name, given)

    def check(self, name: str, given: object) -> object:
        """`given` as a plain value. Raises ValueError if it does not fit."""
        raise NotImplementedError

    def draw(self, values: Range, rng: Rng) -> object:
        """One value of the range, for one image."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """What is allowed, in words."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """`text`, and whether a value per image or none is allowed."""
        words = self.text
        if self.per_image:
            words += ", or one per image"
        if self.optional:
            words += ", or None"
        return words


def _tensors_in(given: object) -> Iterator[Tensor]:
    """The tensors among given values, also in sequences, in arrays of objects and in a Range."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Tracked):
        yield given.tensor
    elif isinstance(given, Range):
        yield from _tensors_in((given.low, given.high, given.power))
    elif getattr(getattr(given, "dtype", None), "hasobject", False):  # an array of objects
        yield from _tensors_in(given.tolist())  # type: ignore[attr-defined]
    elif isinstance(given, (list, tuple)):
        for item in given:
            yield from _tensors_in(item)


def _check_tensor(name: str, tensor: Tensor, learnable: bool) -> None:
    """Raise ValueError for a tensor without numbers that can be read.

    learnable: whether the tensor may be differentiated.
    """
    if tensor.is_nested or tensor.layout != torch.strided:
        raise ValueError(f"{name} is no dense tensor; give {name}.to_dense()")
    if tensor.is_meta:
        raise ValueError(f"{name} is a tensor on the meta device, which holds no values")
    if tensor.requires_grad and not learnable:
        raise ValueError(
            f"{name} requires grad, and the operator has no gradient for it; give {name}.detach()"
        )
    if is_differentiated(tensor) and not learnable:
        raise ValueError(
            f"{name} is differentiated, and the operator has no derivative for it; take it out of "
            "the inputs of torch.func.jvp or jacfwd"
        )
    if differs_within_vmap(tensor):
        raise ValueError(
            f"{name} has another value in each slice of torch.func.vmap, and an operator holds "
            "plain numbers; give one for each image of a batch, or loop over the values"
        )


@dataclass(frozen=True, kw_only=True)
class NumberKind(Kind):
    """A number in an interval: of [0, 1], of pixels, of a count."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # `low` itself is excluded
    integer: bool = False
    odd: bool = False
    levels: bool = False  # in units of [0, 1], and often given by mistake in levels of 255
    per_image: bool = True
    drawn: bool = True

    def check(self, name: str, given: object) -> object:
        if isinstance(given, Range) and not self.drawn:
            raise ValueError(f"{name}={given} must be one number; a range is not drawn here")
        if self.learnable:
            given = tracked(given, self.integer)
        given = at_bounds(given, self.low, self.high)
        if self.levels:
            self._refuse_levels(name, given)
        interval = {"integer": self.integer, "above": self.above, "odd": self.odd}
        plain = check_numbers(name, given, self.low, self.high, **interval)
        if isinstance(plain, tuple) and not self.per_image:
            raise ValueError(
                f"{name}={plain} must be one number for all images; "
                "perimage(… ; …) takes them apart"
            )
        return plain

    def _refuse_levels(self, name: str, given: object) -> None:
        items, _ = numbers_of(given)
        for item in items:
            if not fits(item, self.high, 255, False, True, False):
                continue
            raise ValueError(
                f"{name}={show(given)} must be {self.text}: images are in [0, 1], "
                f"so {item:g} levels of 255 are {item:g}/255 = {item / 255:.4f}"
            )

    def draw(self, values: Range, rng: Rng) -> float:
        if not self.integer:
            return _between(values, rng.share())
        integers = self._integers(values)
        return integers[rng.integers(len(integers))[0]]

    def at(self, values: Range, unit: float) -> float:
        """The number at the share `unit` of a range, 0 at its low end and 1 at its high end."""
        if not self.integer:
            return _between(values, unit)
        integers = self._integers(values)
        return integers[round(unit * (len(integers) - 1))]

    def _integers(self, values: Range) -> range:
        step = 2 if self.odd else 1
        return range(int(values.low), int(values.high) + 1, step)

    @property
    def text(self) -> str:
        return interval_text(self.low, self.high, self.integer, self.above, self.odd)


def _between(values: Range, unit: float) -> float:
    """The number of a range at which its power has passed the share `unit` of its way."""
    low, high, power = values.low, values.high, values.power
    if power == 1:
        return low + (high - low) * unit
    if power == 0:
        ratio = high / low
        number: float = low * ratio**unit
    else:
        start = low**power
        end = high**power
        drawn = start + (end - start) * unit
        number = drawn ** (1 / power)
    return min(max(number, low), high)  # rounding may leave the range


@dataclass(frozen=True, kw_only=True)
class SizeKind(NumberKind):
    """The sides of an image: one number for a square, or (h, w), also written 40x60."""

    low: float = 1
    high: float = 2**16
    integer: bool = True
    per_image: bool = False

    def check(self, name: str, given: object) -> object:
        sides = given
        if isinstance(given, str):
            sides = list(map(_side, given.split("x")))
        if isinstance(sides, Range) and not self.drawn:
            return super().check(name, given)
        plain = check_numbers(name, sides, self.low, self.high, integer=True)
        if not isinstance(plain, tuple):
            return plain
        if len(plain) != 2:
            raise ValueError(
                f"{name}={show(given)} has {len(plain)} sides; give (h, w), or one for a square"
            )
        return plain[0] if plain[0] == plain[1] else plain

    @property
    def text(self) -> str:
        return f"{super().text} for a square, or (h, w), written 40x60"


def _side(text: str) -> int | str:
    """A side as a number; other text stays as it is and is refused by `check_numbers`."""
    return int(text) if text.isdecimal() else text


@dataclass(frozen=True, kw_only=True)
class OptionKind(Kind):
    """One of several names."""

    names: tuple[str, ...]
    undecided: tuple[str, ...] = ()  # more names, which `sample` replaces by others

    def check(self, name: str, given: object) -> object:
        options = (*self.names, *self.undecided)
        if not (self.per_image and isinstance(given, (tuple, list))):
            check_choice(name, given, options)
            return given
        if not given:
            raise ValueError(f"{name}=() must be one of {', '.join(options)}")
        allowed = options if len(given) == 1 else self.names
        for item in given:
            check_choice(name, item, allowed)
        return tuple(given) if len(given) > 1 else given[0]

    @property
    def text(self) -> str:
        words = f"one of {', '.join(self.names)}"
        if not self.undecided:
            return words
        verb = "is" if len(self.undecided) == 1 else "are"
        return f"{words}, or {', '.join(self.undecided)}, which {verb} drawn"


@dataclass(frozen=True, kw_only=True)
class FlagKind(Kind):
    """True or False, written yes or no."""

    def check(self, name: str, given: object) -> object:
        words = {"yes": True, "no": False, "True": True, "False": False}
        value = words.get(given) if isinstance(given, str) else given
        if not isinstance(value, bool):
            raise ValueError(f"{name}={show(given)} must be yes or no")
        return value

    @property
    def text(self) -> str:
        return "yes or no"


def _precise(dtype: torch.dtype) -> torch.dtype:
    """The type in which a tensor is kept: float64 as it is, everything else in float32."""
    return dtype if dtype == torch.float64 else torch.float32


@dataclass(frozen=True, kw_only=True)
class TensorKind(Kind):
    """A tensor [B, C, H, W] with values in [0, 1], or the path of a file that holds one."""

    channels: int  # of a picture: 1 or 3
    file: ClassVar[bool] = True

    def check(self, name: str, given: object) -> object:
        if isinstance(given, (str, Path)) and str(given):
            self.check_path(name, str(given))
            return str(given)
        if not isinstance(given, Tensor):
            raise ValueError(
                f"{name}={show(given)} must be a tensor {self.shape} in [0, 1] "
                "or the path of a file"
            )
        self.check_tensor(name, given)
        with ordinary_tensors():
            # a copy, so that editing the given tensor later does not change the operator
            return given.to(_precise(given.dtype), copy=True)

    def check_path(self, name: str, path: str) -> None:
        """Raise ValueError for a word that stands for no file, such as None in a text."""
        if path.lower() in _NO_FILE:
            mend = f"leave {name} out" if self.optional else "give the path of a file"
            raise ValueError(f"{name}={path} is a word and no file; {mend} (./{path} is a file)")

    def check_tensor(self, name: str, value: Tensor) -> None:
        """Raise ValueError unless the shape fits and all values are in [0, 1]."""
        if value.ndim != 4 or 0 in value.shape or value.shape[1] not in {1, self.channels}:
            raise ValueError(f"{name} has shape {list(value.shape)}; give {self.shape}")
        if value.dtype not in IMAGE_TYPES and value.dtype not in _WHOLE_TYPES:
            raise ValueError(f"{name} is {value.dtype}; give {name}.float(), with values in [0, 1]")
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"{name} has values outside [0, 1]; scale them to [0, 1]")

    @property
    def shape(self) -> str:
        return "[B, 1, H, W]" if self.channels == 1 else "[B, C, H, W]"

    @property
    def text(self) -> str:
        return f"a tensor {self.shape} with values from 0 to 1, or the path of a file"


@dataclass(frozen=True, kw_only=True)
class OperatorKind(Kind):
    """An operator, or one or more of them."""

    nested: ClassVar[bool] = True

    def check(self, name: str, given: object) -> object:
        from .operator import Operator  # operators are declared with kinds, so this cannot be above

        operators = given if self.several and isinstance(given, tuple) else (given,)
        if not operators:
            raise ValueError("give at least one operator")
        for operator in operators:
            if not isinstance(operator, Operator):
                raise ValueError(f"{show(operator)} is no operator")
        return given

    @property
    def text(self) -> str:
        return "one or more operators" if self.several else "an operator"


@dataclass(frozen=True, kw_only=True)
class CheckedKind(Kind):
    """Anything that a function turns into a plain value; it raises ValueError for the rest."""

    function: Callable[[object], object]
    words: str

    def check(self, name: str, given: object) -> object:
        return self.function(given)

    @property
    def text(self) -> str:
        return self.words
