"""The round trip of a JPEG as one operation of PyTorch, which torch.compile does not look into.

Tracing its stages and compiling their loops takes minutes, and the result is slower than they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .codec import Codec, Rules, gradients_at


@torch.library.custom_op("degrade::jpeg_round_trip", mutates_args=())
def _round_trip(
    x: Tensor,
    steps: Tensor,
    colour: str,
    subsampling: str,
    surrogate: str,
    alpha: float,
    clamp: str,
    to_image: bool,
    to_steps: bool,
    encoder: str,
    decoder: str,
) -> Tensor:
    # without a gradient, whose parts `_gradients` computes
    rules = Rules(colour, subsampling, surrogate, alpha, clamp, False, False, encoder, decoder)
    image: Tensor = Codec.apply(x.contiguous(), steps, rules)[0]
    return image


@_round_trip.register_fake
def _(x: Tensor, steps: Tensor, *rules: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("degrade::jpeg_gradients", mutates_args=())
def _gradients(
    grad: Tensor,
    x: Tensor,
    steps: Tensor,
    colour: str,
    subsampling: str,
    surrogate: str,
    alpha: float,
    clamp: str,
    to_image: bool,
    to_steps: bool,
    encoder: str,
    decoder: str,
) -> tuple[Tensor, Tensor]:
    rules = Rules(
        colour, subsampling, surrogate, alpha, clamp, to_image, to_steps, encoder, decoder
    )
    of_image, of_steps = gradients_at(x.contiguous(), steps, grad.contiguous(), rules)
    empty = x.new_empty(0)  # an operation returns no None
    if of_image is grad:
        of_image = grad.clone()  # nor an argument
    return empty if of_image is None else of_image, empty if of_steps is None else of_steps


@_gradients.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    steps: Tensor,
    colour: str,
    subsampling: str,
    surrogate: str,
    alpha: float,
    clamp: str,
    to_image: bool,
    to_steps: bool,
    encoder: str,
    decoder: str,
) -> tuple[Tensor, Tensor]:
    empty = x.new_empty(0)
    of_image = torch.empty_like(x, memory_format=torch.contiguous_format) if to_image else empty
    of_steps = torch.empty_like(steps, memory_format=torch.contiguous_format)
    return of_image, of_steps if to_steps else empty


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, steps, *rules = inputs
    ctx.rules = Rules(*rules)
    ctx.save_for_backward(x, steps)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, steps = ctx.saved_tensors
    rules = ctx.rules
    of_image, of_steps = _gradients(grad, x, steps, *rules)
    return (
        of_image if rules.to_image else None,
        of_steps if rules.to_steps else None,
        *[None] * len(rules),
    )


_round_trip.register_autograd(_backward, setup_context=_setup_context)


def round_trip(x: Tensor, steps: Tensor, rules: Rules) -> Tensor:
    """The decoded image of `Codec`, with its gradient."""
    image: Tensor = _round_trip(x, steps, *rules)
    return image
