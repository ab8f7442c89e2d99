"""One image of a batch at a time: where a library's sums could depend on the batch, or parameters differ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .params import Range


def row_by_row(function: Callable[..., Tensor], x: Tensor, **parameters) -> Tensor:
    """function(x[i:i+1], …) of every image, with parameters that are one for all or a tuple of one per image.

    A row's bits then never depend on its batch mates, whatever FFT, power or encoder is underneath.
    """
    columns = []
    for name, value in parameters.items():
        check_count(name, value, len(x))
        columns.append(value if isinstance(value, tuple) else (value,) * len(x))
    return torch.cat([function(row, *values) for row, *values in zip(x.split(1), *columns, strict=True)])


def check_count(name: str, value: object, batch: int) -> None:
    """Refuse a tuple of other than one value per image."""
    if isinstance(value, tuple) and len(value) != batch:
        raise ValueError(f"{name} has {len(value)} values for {batch} images; give one, or one per image")


def one_for_all(op, *names: str) -> None:
    """Refuse a value per image where one decides the shape of the whole batch."""
    for name in names:
        value = getattr(op, name)
        if isinstance(value, tuple):
            raise ValueError(f"{name}={value} must be one number for all images; perimage(… ; …) takes them apart")


def decided(value):
    """A number that decides a shape; refuses a Range that `sample` has not resolved."""
    if isinstance(value, Range):
        raise ValueError(f"{value} is not decided yet; use .sample(shape, generator)")
    return value
