"""Apply one function to every tensor of a nested structure.

A structure is a tensor, or a tuple, a dictionary or a dataclass of structures. Everything else in
it, such as None or a number, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def tree_map(change: Callable[..., Tensor], tree: T, *others: T) -> T:
    """Return `tree` with each tensor replaced by `change(tensor, …)`.

    others: structures of the same form; their tensors at the same place are the further arguments.
    """
    return cast(T, _map(change, (tree, *others)))


def tree_where(condition: Tensor, chosen: T, otherwise: T) -> T:
    """Take the rows of `chosen` where condition [B] is true, and those of `otherwise` elsewhere."""

    def select(a: Tensor, b: Tensor) -> Tensor:
        other_axes = [1] * (a.ndim - 1)
        rows = condition.view(-1, *other_axes)
        return torch.where(rows, a, b)

    return tree_map(select, chosen, otherwise)


def tree_cat(first: T, *others: T) -> T:
    """Concatenate each tensor along the batch."""
    return tree_map(lambda *tensors: torch.cat(tensors), first, *others)


def _map(change: Callable[..., Tensor], trees: Sequence[object]) -> object:
    first = trees[0]
    if isinstance(first, Tensor):
        return change(*trees)
    if isinstance(first, dict):
        dictionaries = cast("tuple[dict[str, object], ...]", trees)
        mapped = {}
        for key in first:
            values = [dictionary[key] for dictionary in dictionaries]
            mapped[key] = _map(change, values)
        return mapped
    if isinstance(first, tuple):
        tuples = cast("tuple[tuple[object, ...], ...]", trees)
        items = []
        for branches in zip(*tuples, strict=True):
            items.append(_map(change, branches))
        return tuple(items)
    if is_dataclass(first) and not isinstance(first, type):
        changes = {}
        for field in fields(first):
            values = [getattr(tree, field.name) for tree in trees]
            changes[field.name] = _map(change, values)
        return replace(first, **changes)
    return first
