"""A JPEG round trip with given settings: the decoded image, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import Integers
from ..transforms import is_compiled, is_transformed
from .codec import Codec, Rules
from .encoders import ENCODERS
from .layout import base_tables, check_channels
from .opaque import round_trip
from .slopes import Surrogate
from .steps import quantiser_steps


class Settings(NamedTuple):
    """The parameters of `JPEG`, checked; either quality or tables is None."""

    quality: Integers | Tensor | None
    tables: Sequence[Sequence[int]] | Tensor | None
    subsampling: str
    surrogate: Surrogate
    clamp: str
    encoder: str
    decoder: str
    colour: str


def save_and_open(x: Tensor, settings: Settings) -> Tensor:
    """The decoded image [B, C, H, W] of float32 or float64, with its gradient."""
    check_channels(settings.colour, x.shape[1])
    base = base_tables(settings.colour, ENCODERS[settings.encoder].base)
    steps = quantiser_steps(settings.quality, settings.tables, x, base)
    rules = Rules(
        colour=settings.colour,
        subsampling=settings.subsampling,
        surrogate=settings.surrogate.name,
        alpha=settings.surrogate.alpha,
        clamp=settings.clamp,
        to_image=_needs_gradient(x),
        to_steps=_needs_gradient(steps),
        encoder=settings.encoder,
        decoder=settings.decoder,
    )
    if is_compiled():
        return round_trip(x, steps, rules)
    image: Tensor = Codec.apply(x, steps, rules)[0]
    return image


def _needs_gradient(x: Tensor) -> bool:
    if is_transformed(x):
        return True
    return torch.is_grad_enabled() and x.requires_grad
