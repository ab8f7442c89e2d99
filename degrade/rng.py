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

import torch
from torch import Tensor

from .surrogate import outside_transforms

_MOST_COUNTS = 2.0**62  # torch.poisson counts in 64-bit integers, and more would wrap around

Generators = torch.Generator | Sequence[torch.Generator] | None
_STATE = 5056  # bytes of a CPU generator's state


def child_seed(*path: object) -> int:
    """A 63-bit seed that is a pure function of `path` (a parent seed and names)."""
    digest = blake2b("/".join(map(str, path)).encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1


# Laws and streams; a graph of torch.compile holds no generator, so there a stream is its state -----


def _normal(rate: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(rate.shape, generator=generator, dtype=torch.float32, device="cpu")


def _uniform(rate: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(rate.shape, generator=generator, dtype=torch.float32, device="cpu")


def _poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    return torch.poisson(rate.cpu().clamp(max=_MOST_COUNTS), generator=generator)


LAWS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "normal": _normal,
    "uniform": _uniform,
    "poisson": _poisson,
}


def _streams(seeds: Sequence[int], key: str) -> list[torch.Generator]:
    """One generator per image, at the start of its stream `key`."""
    return [torch.Generator("cpu").manual_seed(child_seed(seed, key)) for seed in seeds]


def _draw(law: str, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One draw per element of `like`, of its dtype and device; a Poisson law's means are `like`."""
    function = LAWS[law]
    rows = zip(like.detach().unbind(), generators, strict=True)
    return torch.stack([function(row, generator) for row, generator in rows]).to(like)


@torch.library.custom_op("degrade::start_streams", mutates_args=())
def start_streams(seeds: Tensor, key: str) -> Tensor:
    """The states [B, bytes] of the streams of `seeds` [B]."""
    return torch.stack([generator.get_state() for generator in _streams(seeds.tolist(), key)])


@start_streams.register_fake
def _(seeds: Tensor, key: str) -> Tensor:
    return seeds.new_empty(len(seeds), _STATE, dtype=torch.uint8)


@torch.library.custom_op("degrade::draw_in_graph", mutates_args=())
def draw_in_graph(law: str, like: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """(draws, the states after them)."""
    generators = []
    for state in states:
        generator = torch.Generator("cpu")
        generator.set_state(state.clone())
        generators.append(generator)
    values = _draw(law, like, generators)
    return values, torch.stack([generator.get_state() for generator in generators])


@draw_in_graph.register_fake
def _(law: str, like: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(like), torch.empty_like(states)


class Rng:
    """One stream per image. Seeds are drawn from the caller's generator at the first use only,
    so that a deterministic operator leaves the generator's state alone."""

    def __init__(self, seeds: Callable[[], Tensor], key: str = ""):
        self._seeds, self._key = seeds, key
        self._states: Tensor | None = None  # of the streams, under torch.compile

    @classmethod
    def of(cls, generator: Generators, batch: int) -> Rng:
        """`generator`: one for the whole batch, one per image, or None for torch's default."""
        if isinstance(generator, Sequence) and len(generator) != batch:
            raise ValueError(
                f"generator: {len(generator)} generators for {batch} images; give one, or one per image"
            )
        drawn: list[Tensor] = []

        def seeds() -> Tensor:
            if not drawn:
                each = generator if isinstance(generator, Sequence) else [generator]
                for g in each:
                    device = "cpu" if g is None else g.device
                    size = (batch // len(each),)
                    seed = torch.randint(2**63 - 1, size, generator=g, device=device)
                    drawn.append(seed.cpu())
            return torch.cat(drawn)

        return cls(seeds)

    def child(self, key: str) -> Rng:
        return Rng(self._seeds, f"{self._key}/{key}")

    def row(self, index: int) -> Rng:
        """What image `index` of the batch would have got on its own."""
        return Rng(lambda: self._seeds()[index : index + 1], self._key)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        return _streams(self._seeds().tolist(), self._key)

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1), one draw per element of `like`."""
        return self._draw("normal", like)

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1), one draw per element of `like`."""
        return self._draw("uniform", like)

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts with mean `rate` (the values; no gradient)."""
        return self.draw(lambda rate: self._draw("poisson", rate), rate)

    def draw(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x), whose draws depend on the values of x; no gradient.

        Under torch.func.vmap every slice of x gets the draws that it would get on its own.
        """
        if torch.compiler.is_compiling():
            return function(x.detach())
        states = [generator.get_state() for generator in self._generators]

        def rewound(x: Tensor) -> Tensor:
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)
            return function(x)

        return outside_transforms(rewound, x)

    def integers(self, high: int) -> list[int]:
        """One integer in [0, high) per image."""
        draws = [
            torch.randint(high, (), generator=generator, device="cpu")
            for generator in self._generators
        ]
        return [int(drawn) for drawn in draws]

    def _draw(self, law: str, like: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return _draw(law, like, self._generators)
        if self._states is None:
            self._states = start_streams(self._seeds(), self._key)
        values, self._states = draw_in_graph(law, like.detach(), self._states)
        return values
