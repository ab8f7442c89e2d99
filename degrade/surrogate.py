"""Exact values forward, a declared gradient backward: the point-wise surrogates.

Each one is a custom backward pass and never `x + (f(x) - x).detach()`, whose values are not
bit-exactly f(x). A second derivative is refused: a surrogate's own derivative has no meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .transforms import fold_all, is_differentiated, is_transformed

CUBIC_BLEND = 0.8  # α of eq. 15
_ALMOST_WHOLE = 1e-5  # a rounding error before `round_down`


class _Declared(torch.autograd.Function):
    """Values `exact`; the gradient with respect to x is the incoming one times `slope`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, exact: Tensor, slope: Tensor | None) -> Tensor:
        # Autograd returns an input as a view, which could not be changed in place.
        return exact.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, _, slope = inputs
        ctx.save_for_backward(slope, x if is_transformed(x) else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        slope, x = ctx.saved_tensors
        gradient = grad if slope is None else grad * slope
        return first_order(gradient, x), None, None


class _WithGradientOf(torch.autograd.Function):
    """The values of y; the gradient goes to y and to `path` alike."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, path: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        y, _ = inputs
        ctx.save_for_backward(y if is_transformed(y) else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        gradient = first_order(grad, y)
        return gradient, gradient


class _FirstOrder(torch.autograd.Function):
    """A gradient as it is; differentiating it again raises an error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, x: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        raise second_order()


class _Outside(torch.autograd.Function):
    """function(x) on plain tensors, also where x belongs to a transform of torch.func."""

    @staticmethod
    def forward(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int, None], x: Tensor, function: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        slices = [_Outside.apply(part, function) for part in x.unbind(dims[0])]
        return torch.stack(slices), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        return None, None


def first_order(gradient: Tensor, x: Tensor | None) -> Tensor:
    """A surrogate's gradient, returned by a backward pass, that cannot be differentiated again.

    x: the input, saved under torch.func only. There every backward pass is recorded, and so a
    second derivative is refused when it is computed. Elsewhere it is refused when it is recorded
    (create_graph=True): once_differentiable would let torch.autograd.grad skip the path silently.
    """
    if x is not None:
        result: Tensor = _FirstOrder.apply(gradient, x)
        return result
    refuse_second_order()
    return gradient


def refuse_second_order() -> None:
    """Raise in a backward pass that autograd records, outside torch.func and torch.compile."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise second_order()


def second_order() -> RuntimeError:
    """The error of a second derivative."""
    return RuntimeError(
        "a surrogate gradient cannot be differentiated again; leave out create_graph=True"
    )


def outside_transforms(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) without a gradient, on plain tensors; under vmap, slice by slice."""
    if not is_transformed(x):
        return function(x.detach())
    result: Tensor = _Outside.apply(x.detach(), function)
    return result


def declare(x: Tensor, exact: Tensor, slope: Tensor | None = None) -> Tensor:
    """`exact` with the declared gradient `slope`, element by element (None: straight through)."""
    if not is_transformed(x) and not is_differentiated(x):
        return exact.detach().clone()  # without the time of an autograd function
    slope = None if slope is None else slope.detach()
    values: Tensor = _Declared.apply(x, exact.detach(), slope)
    return values


def with_gradient_of(y: Tensor, path: Tensor) -> Tensor:
    """The values of y with the gradients of y and of `path`, a tensor of the same shape.

    So a parameter gets its declared gradient: `path` is the parameter times a constant slope, or
    the formula of which y has the exact values.
    """
    if not is_differentiated(path):
        return y
    values: Tensor = _WithGradientOf.apply(y, path)
    return values


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
    return _rounded(x, x.detach().round(), surrogate)


def round_down(x: Tensor, surrogate: str = "cubic") -> Tensor:
    """⌊x⌋, or the whole number within 10⁻⁵ above x; the gradient of `round_half_even`.

    The slope is the cubic one about the middle of the values that give the same result.
    """
    exact = (x.detach() + _ALMOST_WHOLE).floor()
    return _rounded(x, exact, surrogate, offset=0.5)


def _rounded(x: Tensor, exact: Tensor, surrogate: str, offset: float = 0) -> Tensor:
    if surrogate == "ste":
        return declare(x, exact)
    distance = x.detach() - exact - offset
    return declare(x, exact, (1 - CUBIC_BLEND) + 3 * CUBIC_BLEND * distance**2)


class BackwardPass(torch.autograd.Function):
    """The backward pass of a function under torch.func, which would differentiate it again.

    gradients: called with x and further tensors, returns a tuple of gradients. x: the input that
    they belong to. Another derivative is refused.
    """

    @staticmethod
    def forward(gradients: Callable[..., tuple], x: Tensor, *tensors: Tensor | None) -> tuple:
        return gradients(x, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def vmap(info: Any, dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        return fold_all(BackwardPass, info.batch_size, dims, arguments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise second_order()
