"""Exact values forward, a declared gradient backward: the point-wise surrogates.

Each is a custom backward and never `x + (f(x) - x).detach()`, which is not bit-exactly f(x).
Differentiating twice is refused: the surrogate's own derivative has no meaning.
"""

from __future__ import annotations

import torch
from torch import Tensor

CUBIC_BLEND = 0.8  # α of eq. 15


class _Declared(torch.autograd.Function):
    """Values `exact`; gradient with respect to x is `slope` times the incoming one."""

    @staticmethod
    def forward(ctx, x: Tensor, exact: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(slope)
        return exact

    @staticmethod
    def backward(ctx, grad: Tensor):
        first_order_only()
        (slope,) = ctx.saved_tensors
        return (grad if slope is None else grad * slope), None, None


def first_order_only() -> None:
    """Raise in a backward pass that is itself recorded (create_graph=True).

    once_differentiable would let torch.autograd.grad skip the path in silence.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "a surrogate gradient cannot be differentiated again; leave out create_graph=True"
        )


def declare(x: Tensor, exact: Tensor, slope: Tensor | None = None) -> Tensor:
    """`exact` with d(exact)/dx declared to be `slope` element by element (None: 1, straight through)."""
    return _Declared.apply(x, exact.detach(), None if slope is None else slope.detach())


def clamp(x: Tensor) -> Tensor:
    """x clamped to [0, 1]; gradient 2σ(1-σ), σ = sigmoid(2x - 1), never zero near the range.

    Source: Poirier-Ginter & Lalonde 2023, eq. 11.
    """
    s = torch.sigmoid(2 * x.detach() - 1)
    return declare(x, x.clamp(0, 1), 2 * s * (1 - s))


def round_half_even(x: Tensor, surrogate: str = "cubic") -> Tensor:
    """x rounded half to even; gradient (1-α) + 3α(x - ⌊x⌉)² with α = 0.8 ("cubic"), or 1 ("ste").

    Source: Poirier-Ginter & Lalonde 2023, eq. 15; cubic rounding is from Shin & Song 2017.
    """
    exact = x.detach().round()
    if surrogate == "ste":
        return declare(x, exact)
    return declare(x, exact, (1 - CUBIC_BLEND) + 3 * CUBIC_BLEND * (x.detach() - exact) ** 2)
