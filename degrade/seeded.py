"""Operators with a seed, and the pixels that a seed draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from .operator import Operator, Shape
from .params import Integers, Numbers, check_count, per_image
from .rng import Rng, drawn_alike
from .transforms import not_recorded

Seed = int | tuple[int, ...]  # one, or one per image


class Seeded(Operator):
    """Base of operators with a field `seed`, which is None until `sample` draws it."""

    seed: Integers | None

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.seed is not None

    @property
    def decided(self) -> bool:
        return self.seed is not None and super().decided

    @property
    def drawn_seed(self) -> Seed:
        """The seed. Raises ValueError if it is not drawn yet."""
        if self.seed is None:
            raise ValueError(
                f"which {self.name} is not decided yet; "
                "give its seed, or use .sample(shape, generator)"
            )
        return cast(Seed, self.seed)  # an operator stores lists and tensors as tuples

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.seed is not None:
            return self
        return self.with_values({"seed": rng.integers(2**32)})


class Unknown(Seeded):
    """Base of operators of which a solver does not know what the seed draws.

    `approx` removes the seed, so that every call draws anew.
    """

    def approx(self) -> Operator:
        return self.with_values({"seed": None})


def survivors(prob: Numbers, seed: Seed, shape: Shape) -> Tensor:
    """[1 or B, 1, H, W]: 0 with probability prob, else 1, for images of `shape`."""
    batch, _, *sides = shape
    uniform = seeded_uniform(seed, (1, *sides), batch)
    if isinstance(prob, tuple):
        uniform = uniform.expand(batch, -1, -1, -1)
    threshold = per_image(prob, uniform, "prob")
    survives = uniform >= threshold
    return survives.float()


def seeded_uniform(seed: Seed, size: Shape, batch: int) -> Tensor:
    """U[0, 1) of `size` for each seed: [1 or batch, *size]."""
    check_count("seed", seed, batch)
    seeds = seed if isinstance(seed, tuple) else (seed,)
    draws = []
    for one_seed in seeds:
        generator = torch.Generator("cpu").manual_seed(one_seed)
        draws.append(_drawn(torch.rand, size, generator, torch.float32))
    return torch.stack(draws)


class Draws:
    """Numbers of one seed in float64, in the order in which they are asked for."""

    def __init__(self, seed: int):
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def uniform(self, *size: int, low: float = 0, high: float = 1) -> Tensor:
        """U[low, high) of `size`."""
        shares = _drawn(torch.rand, size, self._generator, torch.float64)
        return low + (high - low) * shares

    def normal(self, *size: int) -> Tensor:
        """N(0, 1) of `size`."""
        return _drawn(torch.randn, size, self._generator, torch.float64)

    def integers(self, high: int, *size: int) -> Tensor:
        """Integers from 0 to high - 1, of `size`."""
        whole = torch.floor(self.uniform(*size) * high)
        return whole.long()


def _drawn(
    function: Callable[..., Tensor], size: Shape, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    draw = partial(function, size, generator=generator, dtype=dtype, device="cpu")
    with not_recorded():
        return drawn_alike(draw)
