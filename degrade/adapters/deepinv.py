"""An operator as a physics of deepinv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ..choice import Identity
from ..operator import Operator, compose


def physics_of(f: Operator, img_size: Sequence[int], seed: int = 0) -> Physics:
    """The physics of f; see `Operator.to_deepinv`."""
    size = tuple(img_size)
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"img_size={size} must be (C, H, W)")
    stages = list(f.sample((1, *size), seed))
    first_noise = next((i for i, stage in enumerate(stages) if stage.noisy), len(stages))
    exact = compose(stages[:first_noise] or [Identity()])
    noise = compose(stages[first_noise:] or [Identity()])
    if exact.linear:
        return _Linear(exact, noise, size)
    return _Nonlinear(exact, noise, size)


class _Noise(torch.nn.Module):
    """The stages from the first noise on, with draws from torch's global generator."""

    def __init__(self, f: Operator):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor, seed: int | None = None, **_: Any) -> Tensor:
        return self.f.predict(x, seed)

    def update_parameters(self, **_: Any) -> None:
        """The operator is a value; there is nothing to update."""


class _Nonlinear(Physics):
    def __init__(self, f: Operator, noise: Operator, img_size: tuple[int, ...]):
        super().__init__(noise_model=_Noise(noise))
        self.f = f
        self.img_size = img_size

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.f.predict(x)


class _Linear(LinearPhysics):
    def __init__(self, f: Operator, noise: Operator, img_size: tuple[int, ...]):
        super().__init__(noise_model=_Noise(noise), img_size=img_size)
        self.f = f

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.f.predict(x)

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        return self.f.adjoint(y, (len(y), *self.img_size))
