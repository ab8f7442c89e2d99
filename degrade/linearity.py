"""The adjoint of linear operators, which declare `linear`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .images import check_image

if TYPE_CHECKING:
    from .operator import Operator, Shape


def adjoint(f: Operator, y: Tensor, shape: Shape | None = None) -> Tensor:
    """Apply the adjoint fᵀ of a linear operator to y: ⟨f x, y⟩ = ⟨x, fᵀ y⟩.

    y: a tensor [B, C, h, w] of any range. shape: the shape of x; by default `f.input_shape`.

    The gradient of a linear operator *is* its adjoint, so this is one backward pass. The result has
    no gradient. Raises ValueError if f is not linear or does not turn `shape` into that of y.
    """
    if not f.linear:
        raise ValueError(f"{f} has no adjoint: it is not linear, or not yet sampled")
    check_image(y, "y", scale=False)
    shape = tuple(shape or f.input_shape(y.shape))
    output = list(f.output_shape(shape))
    if output != list(y.shape):
        raise ValueError(f"y is {list(y.shape)}, but {f} turns {list(shape)} into {output}")
    with torch.enable_grad():
        x = y.new_zeros(shape, requires_grad=True)
        (gradient,) = torch.autograd.grad(f(x), x, y)
    return gradient
