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

from degrade.images import LARGEST_VALUE

T = TypeVar("T")
Change = Callable[..., Tensor]


def tree_map(change: Change, tree: T, *others: T) -> T:
    """Return `tree` with each tensor replaced by `change(tensor, …)`.

    others: structures of the same form, whose tensors are the further arguments of `change`.
    """
    return cast(T, _map(change, (tree, *others)))


def tree_where(condition: Tensor, chosen: T, otherwise: T) -> T:
    """Take the rows of `chosen` where condition [B] is true, and those of `otherwise` elsewhere."""

    def select(a: Tensor, b: Tensor) -> Tensor:
        other_axes = [1] * (a.ndim - 1)
        rows = condition.view(-1, *other_axes)
        return torch.where(rows, a, b)

    return tree_map(select, chosen, otherwise)


def finite_rows(images: Tensor) -> Tensor:
    """Which images [B, C, H, W] hold neither NaN nor infinity, [B, 1, 1, 1].

    Values so large that an operator refuses them count as infinite.
    """
    low, high = images.flatten(1).aminmax(dim=1)  # NaN if any value is NaN
    finite = (low >= -LARGEST_VALUE) & (high <= LARGEST_VALUE)
    return finite.view(-1, 1, 1, 1)


def tree_cat(first: T, *others: T) -> T:
    """Concatenate each tensor along the batch."""

    def concatenate(*tensors: Tensor) -> Tensor:
        return torch.cat(tensors)

    return tree_map(concatenate, first, *others)


def _map(change: Change, trees: Sequence[object]) -> object:
    first = trees[0]
    if isinstance(first, Tensor):
        return change(*trees)
    if isinstance(first, dict):
        dictionaries = cast("tuple[dict[str, object], ...]", trees)
        return _map_dictionaries(change, dictionaries)
    if isinstance(first, tuple):
        tuples = cast("tuple[tuple[object, ...], ...]", trees)
        return _map_tuples(change, tuples)
    if is_dataclass(first) and not isinstance(first, type):
        changes = {}
        for field in fields(first):
            values = [getattr(tree, field.name) for tree in trees]
            changes[field.name] = _map(change, values)
        return replace(first, **changes)
    return first


def _map_dictionaries(change: Change, trees: Sequence[dict[str, object]]) -> object:
    mapped = {}
    for key in trees[0]:
        values = [tree[key] for tree in trees]
        mapped[key] = _map(change, values)
    return mapped


def _map_tuples(change: Change, trees: Sequence[tuple[object, ...]]) -> object:
    mapped = []
    for items in zip(*trees, strict=True):
        mapped.append(_map(change, items))
    return tuple(mapped)
