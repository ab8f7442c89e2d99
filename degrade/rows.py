"""Apply a function to one image of a batch at a time.

Some library functions sum in an order that depends on the batch, or take one parameter for all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .params import check_count


def row_by_row(function: Callable[..., Tensor], x: Tensor, **parameters: object) -> Tensor:
    """function(x[i:i+1], …) for every image i of the batch.

    parameters: each is one value for all images, or a tuple with one per image. The bits of an
    image never depend on the rest of the batch, whatever FFT, power or encoder is used.
    """
    for name, value in parameters.items():
        check_count(name, value, len(x))
    rows = []
    for i in range(len(x)):
        values = [value[i] if isinstance(value, tuple) else value for value in parameters.values()]
        rows.append(function(x[i : i + 1], *values))
    return torch.cat(rows)
