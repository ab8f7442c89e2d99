"""Random draws that are the same on every device: on the CPU, and in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from degrade.rng import child_seed


def stream(*path: object) -> torch.Generator:
    """A random stream that depends on `path` (a seed and names) alone."""
    seed = child_seed(*path)
    return torch.Generator().manual_seed(seed)


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1)."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw uniformly from [0, 1)."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")


def integers(high: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw integers from 0 to high - 1, all equally likely."""
    return torch.randint(high, shape, generator=generator, device="cpu")


def integer(high: int, generator: torch.Generator) -> int:
    """Draw one integer from 0 to high - 1."""
    drawn = integers(high, (), generator)
    return int(drawn)
