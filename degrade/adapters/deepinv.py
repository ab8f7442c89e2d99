"""An operator as a physics of deepinv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.physics import LinearPhysics, Physics
from torch import Tensor, nn

from ..choice import Identity
from ..operator import Operator, compose


def physics_of(f: Operator, img_size: Sequence[int], seed: int = 0) -> Physics:
    """The physics of f; see `Operator.to_deepinv`."""
    size = _checked_size(img_size)
    sampled = f.sample((1, *size), seed)
    stages = list(sampled)
    noise_begins = _first_noise(stages)
    exact = _chain(stages[:noise_begins])
    noise = _chain(stages[noise_begins:])
    if exact.linear:
        return _LinearDegradation(exact, noise, size)
    return _Degradation(exact, noise, size)


def _checked_size(img_size: Sequence[int]) -> tuple[int, ...]:
    try:
        size = tuple(img_size)
    except TypeError:  # a single number
        size = ()
    if len(size) != 3 or min(size) < 1:
        raise ValueError(
            f"img_size={img_size} must be (C, H, W), such as (3, 128, 128), without the batch"
        )
    return size


def _first_noise(stages: list[Operator]) -> int:
    """The position of the first stage that draws anew at every call; the end if none does."""
    for position, stage in enumerate(stages):
        if stage.noisy:
            return position
    return len(stages)


def _chain(stages: list[Operator]) -> Operator:
    if not stages:
        return Identity()
    return compose(stages)


class _Noise(nn.Module):
    """The stages from the first noise on. deepinv calls it with the result of A."""

    def __init__(self, f: Operator):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor, seed: int | None = None, **_: Any) -> Tensor:
        """f(x). seed: of the draws; None is torch's global generator."""
        return self.f.predict(x, seed)

    def update_parameters(self, **_: Any) -> None:
        """Nothing to update, since an operator is a value."""

    def extra_repr(self) -> str:
        return str(self.f)


class _Degradation(Physics):
    """The stages before the first noise as A. deepinv derives A_vjp from the declared gradient."""

    def __init__(self, exact: Operator, noise: Operator, img_size: tuple[int, ...]):
        super().__init__(noise_model=_Noise(noise))
        self.f = exact
        self.img_size = img_size

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.f.predict(x)

    def extra_repr(self) -> str:
        return str(self.f)


class _LinearDegradation(_Degradation, LinearPhysics):
    """The same with the exact adjoint."""

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        batch = len(y)
        return self.f.adjoint(y, (batch, *self.img_size))
