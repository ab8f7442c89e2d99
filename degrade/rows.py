"""Apply a function to one image of a batch at a time.

Some library functions sum in an order that depends on the batch, or take one value of a parameter
for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .params import check_count
from .transforms import is_exporting


def row_by_row(function: Callable[..., Tensor], x: Tensor, **parameters: object) -> Tensor:
    """Call function(x[i:i+1], …) for every image i of the batch, and concatenate the results.

    parameters: each is one value for all images, or a tuple with one per image. The bits of an
    image never depend on the rest of the batch, whatever FFT, power or encoder is used. An exported
    program takes any number of images, so it has no such loop; `function` must take several images
    where no parameter has one value per image.
    """
    values_per_image = [value for value in parameters.values() if isinstance(value, tuple)]
    if is_exporting() and not values_per_image:
        return function(x, *parameters.values())
    for name, value in parameters.items():
        check_count(name, value, len(x))
    rows = []
    for i in range(len(x)):
        values = []
        for value in parameters.values():
            values.append(value[i] if isinstance(value, tuple) else value)
        row = x[i : i + 1]
        rows.append(function(row, *values))
    return torch.cat(rows)
