"""What a restoration shows: every step while it runs, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from .point import Point


class Named(Protocol):
    """A part of a method that a progress bar can show."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...


@dataclass(frozen=True)
class Step:
    """What a callback gets after each step.

    step: its number, from 1, of all `total` steps; phases that take the images one by one count
    the steps of every image. loss: [B], the weighted sum of `terms`, each term's value [B] before
    its weight, by its name. image: [B, C, R, R], unclamped, the image that they were measured on,
    and prediction: [B, C, h, w], what the operator made of it. B is 1 in a phase that takes the
    images one by one. A diffusion model measures after its step.
    """

    phase: Named
    step: int
    total: int
    loss: Tensor
    terms: dict[str, Tensor]
    image: Tensor
    prediction: Tensor
    read_latent: Callable[[], Tensor]

    @property
    def latent(self) -> Tensor:
        """The latent after the step."""
        return self.read_latent()


Report = Callable[[Step], None]


@dataclass(frozen=True)
class Restoration:
    """The result of a restoration.

    image: [B, C, R, R], clamped to [0, 1]. latent: of the last phase's space. history: [steps, B],
    the loss before each step, on the CPU; for a diffusion model the MSE after it. phase_images: the
    image at the end of each phase, by its name. finite: [B], False where a loss became NaN or
    infinite and the image is the last good one. point: everything that decides the image: latent,
    noise maps, features and weights. notes: for readers, on how it was measured. terms: the
    value [steps, B] of each term of the loss before its weight, by its name, on the CPU; NaN in
    phases without the term. drawn: the image as the prior drew it, if data consistency changed it
    into `image`; else None.
    """

    image: Tensor
    latent: Tensor
    history: Tensor
    phase_images: dict[str, Tensor]
    finite: Tensor
    point: Point
    notes: tuple[str, ...] = ()
    terms: dict[str, Tensor] = field(default_factory=dict)
    drawn: Tensor | None = None
