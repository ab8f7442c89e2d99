"""One image of a batch at a time: where a library's sums could depend on the batch, or parameters differ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .params import check_count


def row_by_row(function: Callable[..., Tensor], x: Tensor, **parameters) -> Tensor:
    """function(x[i:i+1], …) of every image, with parameters that are one for all or a tuple of one per image.

    A row's bits then never depend on its batch mates, whatever FFT, power or encoder is underneath.
    """
    columns = []
    for name, value in parameters.items():
        check_count(name, value, len(x))
        columns.append(value if isinstance(value, tuple) else (value,) * len(x))
    return torch.cat(
        [function(row, *values) for row, *values in zip(x.split(1), *columns, strict=True)]
    )
