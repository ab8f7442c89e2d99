"""Random numbers that depend on nothing but the caller's generator.

Every image of a batch and every stage of a chain has a stream of its own: the seed of image i
comes from the caller's generator, the stage's from that seed, the stage's name and how often the
name occurred before it. Draws are made on the CPU, so a device never changes a bit, and inserting
a stage changes the draws of no stage but later ones of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from numbers import Integral

import torch
from torch import Tensor

from .surrogate import outside_transforms

Generator = torch.Generator | int  # an integer is a seed
Generators = Generator | Sequence[Generator] | None


def child_seed(*path: object) -> int:
    """A 63-bit seed that is a pure function of `path` (a parent seed and names)."""
    digest = blake2b("/".join(map(str, path)).encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1


def _seeded(generator: object) -> torch.Generator | None:
    """The generator itself, or one with an integer as its seed. Raises TypeError for anything else."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if not isinstance(generator, Integral) or isinstance(generator, bool):
        raise TypeError(
            f"generator={generator!r} must be a torch.Generator, an integer seed, or a list of them"
        )
    seed = int(generator)
    if not 0 <= seed < 2**63:
        raise ValueError(f"generator={seed} must be a seed from 0 to 2**63 - 1")
    return torch.Generator().manual_seed(seed)


class Rng:
    """One stream per image; seeds are drawn from the caller's generator at the first use only,
    so that a deterministic operator leaves the generator's state alone."""

    def __init__(self, seeds: Callable[[], list[int]], key: str = ""):
        self._seeds, self._key = seeds, key

    @classmethod
    def of(cls, generator: Generators, batch: int) -> Rng:
        """`generator`: a generator or seed for the whole batch, one per image, or None for torch's own."""
        if isinstance(generator, Sequence) and len(generator) != batch:
            raise ValueError(
                f"generator: {len(generator)} generators for {batch} images; give one, or one per image"
            )
        given = list(generator) if isinstance(generator, Sequence) else [generator]
        each = [_seeded(entry) for entry in given]
        drawn: list[int] = []

        def seeds() -> list[int]:
            if not drawn:
                for g in each:
                    device = "cpu" if g is None else g.device
                    size = (batch // len(each),)
                    drawn.extend(
                        torch.randint(2**63 - 1, size, generator=g, device=device).tolist()
                    )
            return drawn

        return cls(seeds)

    def child(self, key: str) -> Rng:
        return Rng(self._seeds, f"{self._key}/{key}")

    def row(self, index: int) -> Rng:
        """What image `index` of the batch would have got on its own."""
        return Rng(lambda: self._seeds()[index : index + 1], self._key)

    @cached_property
    def _streams(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(child_seed(s, self._key)) for s in self._seeds()]

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1), one draw per element of `like`."""
        return self._stack(lambda g: torch.randn(like.shape[1:], generator=g), like)

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1), one draw per element of `like`."""
        return self._stack(lambda g: torch.rand(like.shape[1:], generator=g), like)

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts with mean `rate` (the values; no gradient)."""
        return self.draw(self._counts, rate)

    def _counts(self, rate: Tensor) -> Tensor:
        rows = zip(rate.detach().cpu(), self._streams, strict=True)
        return torch.stack([torch.poisson(row, generator=g) for row, g in rows]).to(rate)

    def draw(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x), whose draws depend on the values of x; no gradient.

        Under torch.func.vmap every slice of x gets the draws that it would get on its own.
        """
        states = [g.get_state() for g in self._streams]

        def rewound(x: Tensor) -> Tensor:
            for g, state in zip(self._streams, states, strict=True):
                g.set_state(state)
            return function(x)

        return outside_transforms(rewound, x)

    def integers(self, high: int) -> list[int]:
        """One integer in [0, high) per image."""
        return [int(torch.randint(high, (), generator=g)) for g in self._streams]

    def _stack(self, draw: Callable[[torch.Generator], Tensor], like: Tensor) -> Tensor:
        return torch.stack([draw(g) for g in self._streams]).to(like)
