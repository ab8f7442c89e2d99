"""Numbers that know the tensor they were read from, so that a gradient reaches this tensor.

An operator stores plain numbers, which can be compared, hashed and printed. `Tracked` is such a
number, and autograd goes on through its `tensor`.
"""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor

from .transforms import is_differentiated


class Tracked(float):
    """The value of `tensor`, a tensor of one number whose derivative is asked for.

    It compares, hashes and prints as the number. What is computed from it is a plain float; use
    `unchanged_tensor` where the gradient must go on. A copy and a pickle of it are plain floats.
    """

    tensor: Tensor
    version: int  # how often the tensor had been changed in place

    def __new__(cls, tensor: Tensor, integer: bool = False) -> Tracked:
        """integer: the value is rounded; the gradient goes straight through."""
        value = tensor.item()
        if integer and math.isfinite(value):
            value = round(value)
        number = super().__new__(cls, value)
        number.tensor = tensor
        number.version = _version(tensor)
        return number

    def at(self, value: float) -> Tracked:
        """The same tensor, read as another number."""
        number = super().__new__(type(self), value)
        number.tensor = self.tensor
        number.version = self.version
        return number

    def unchanged_tensor(self) -> Tensor:
        """The tensor, if it still holds this value."""
        if _version(self.tensor) != self.version:
            raise ValueError(
                f"the tensor of a parameter was changed since the operator was made with {self:g}; "
                "after a step of an optimiser, make a new operator from the tensor"
            )
        return self.tensor

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; torch does not count it in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def is_tracked(value: object) -> bool:
    """Whether a parameter carries a gradient: it is `Tracked`, or one of its numbers is."""
    items = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, Tracked) for item in items)


def tracked(given: object, integer: bool = False) -> object:
    """`given` with `Tracked` in place of differentiated tensors, also inside of sequences."""
    if isinstance(given, Tensor) and is_differentiated(given) and not given.is_complex():
        if given.ndim == 0:
            return Tracked(given, integer)
        return tuple(tracked(item, integer) for item in given.unbind())
    if getattr(getattr(given, "dtype", None), "hasobject", False):  # an array of objects
        given = given.tolist()  # type: ignore[attr-defined]
    if isinstance(given, (list, tuple)):
        return tuple(tracked(item, integer) for item in given)
    return given


@overload
def tensor_of(value: None, like: Tensor) -> None: ...
@overload
def tensor_of(value: float, like: Tensor) -> float | Tensor: ...
@overload
def tensor_of(value: object, like: Tensor) -> object: ...
def tensor_of(value: object, like: Tensor) -> object:
    """A parameter for computing with `like`, of its type and on its device.

    A tuple becomes a tensor, and so does a `Tracked` number, with its gradient. Anything else, such
    as a plain number, is returned as it is.
    """
    if isinstance(value, Tracked):
        return value.unchanged_tensor().to(like)
    if not isinstance(value, tuple):
        return value
    if not is_tracked(value):
        return torch.tensor(value, dtype=like.dtype, device=like.device)
    numbers = []
    for item in value:
        number = tensor_of(item, like)
        if not isinstance(number, Tensor):
            number = like.new_tensor(number)
        numbers.append(number)
    return torch.stack(numbers)


def at_least(value: float | Tensor, low: float) -> float | Tensor:
    """max(value, low); the gradient is 0 below `low`."""
    return value.clamp(min=low) if isinstance(value, Tensor) else max(value, low)
