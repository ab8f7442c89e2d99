"""Random numbers that depend only on the caller's generator.

Every image of a batch and every stage of a chain has its own stream. The seed of an image comes
from the caller's generator. The seed of a stage comes from that of the image, the stage's name and
the number of earlier stages with this name. Draws are made on the CPU, so they are the same on
every device. An inserted stage changes the draws only of later stages with the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from numbers import Integral

import torch
from torch import Tensor

from .surrogate import outside_transforms
from .transforms import is_exporting, is_transformed, numbers_in

_LARGEST_MEAN = 2.0**62  # torch.poisson counts in 64-bit integers, which would overflow

Generator = torch.Generator | int  # an integer is a seed
Generators = Generator | Sequence[Generator] | None
_STEPS = 2**53  # of a number from 0 to 1, as many as a float of 64 bits tells apart
_STATE = 5056  # bytes of a CPU generator's state


def child_seed(*path: object) -> int:
    """A 63-bit seed that is a pure function of `path` (a parent seed and names)."""
    text = "/".join(map(str, path))
    data = text.encode(errors="surrogateescape")
    digest = blake2b(data, digest_size=8)
    seed_bytes = digest.digest()
    number = int.from_bytes(seed_bytes, "little")
    return number >> 1


def _seeded(generator: object) -> torch.Generator | None:
    """The generator itself, or one seeded with an integer. Raises TypeError for anything else."""
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


def drawn_alike(draw: Callable[[], Tensor]) -> Tensor:
    """The draws of a function, which are the same for every slice of torch.func.vmap.

    Raises ValueError under vmap with another randomness than "same".
    """
    if torch.compiler.is_compiling():
        return draw()
    try:
        result = draw()
        if is_transformed(result) and result.numel() > 0:
            result.flatten()[0].item()  # vmap refuses it for other values in each slice
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise ValueError(
            "an operator draws the same numbers for every slice of vmap; give vmap "
            'randomness="same", or one batch of images with a list of generators'
        ) from error
    return result


# Distributions and streams. A graph of torch.compile cannot hold a generator, so it passes the
# state of each stream instead.


def _normal(draws: Tensor, like: Tensor, generator: torch.Generator) -> None:
    draws.normal_(generator=generator)


def _uniform(draws: Tensor, like: Tensor, generator: torch.Generator) -> None:
    draws.uniform_(generator=generator)


def _poisson(draws: Tensor, like: Tensor, generator: torch.Generator) -> None:
    means = like.cpu()
    means = means.clamp(max=_LARGEST_MEAN)
    counts = torch.poisson(means, generator=generator)
    draws.copy_(counts)


# Each fills `draws`, one image, in place.
DISTRIBUTIONS: dict[str, Callable[[Tensor, Tensor, torch.Generator], None]] = {
    "normal": _normal,
    "uniform": _uniform,
    "poisson": _poisson,
}


def _streams(seeds: Sequence[int], key: str) -> list[torch.Generator]:
    """One generator per image, at the start of its stream `key`."""
    streams = []
    for seed in seeds:
        generator = torch.Generator("cpu")
        generator.manual_seed(child_seed(seed, key))
        streams.append(generator)
    return streams


def _states_of(generators: Sequence[torch.Generator]) -> Tensor:
    """The states of generators, [B, bytes]."""
    states = [generator.get_state() for generator in generators]
    return torch.stack(states)


def _draw(distribution: str, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One draw per element of `like`, of its dtype and device. For Poisson, `like` is the mean."""
    if like.is_meta:  # it has a shape and no values
        return torch.empty_like(like)
    fill = DISTRIBUTIONS[distribution]
    means = like.detach()
    # normal and uniform numbers are the same for images of any dtype
    dtype = means.dtype if distribution == "poisson" else torch.float32
    draws = torch.empty(means.shape, dtype=dtype, device="cpu")
    for row, row_means, generator in zip(draws, means, generators, strict=True):
        fill(row, row_means, generator)
    return draws.to(like)


@torch.library.custom_op("degrade::start_streams", mutates_args=())
def start_streams(seeds: Tensor, key: str) -> Tensor:
    """The states [B, bytes] of the streams of `seeds` [B]."""
    generators = _streams(seeds.tolist(), key)
    return _states_of(generators)


@start_streams.register_fake
def _(seeds: Tensor, key: str) -> Tensor:
    return seeds.new_empty(len(seeds), _STATE, dtype=torch.uint8)


@torch.library.custom_op("degrade::draw_in_graph", mutates_args=())
def draw_in_graph(distribution: str, like: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from streams in the given states. Returns the draws and the states after them."""
    generators = []
    for state in states:
        generator = torch.Generator("cpu")
        generator.set_state(state.clone())
        generators.append(generator)
    values = _draw(distribution, like, generators)
    return values, _states_of(generators)


@draw_in_graph.register_fake
def _(distribution: str, like: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(like), torch.empty_like(states)


def _draw_seeds(generator: torch.Generator | None, count: int) -> Tensor:
    """Seeds of images, from the caller's generator or, for None, from torch's global one."""
    device = "cpu" if generator is None else generator.device
    draw = partial(torch.randint, 2**63 - 1, (count,), generator=generator, device=device)
    return drawn_alike(draw).cpu()


def _refuse_export() -> None:
    """Raise ValueError where torch.export records a program, which can hold no draws of ours."""
    if is_exporting():
        raise ValueError(
            "an exported program cannot draw; export what .sample(shape, seed) returns, without "
            "the stages that draw noise"
        )


class Rng:
    """One random stream per image.

    Seeds are drawn from the caller's generator at the first use, so a deterministic operator does
    not change the generator's state.
    """

    def __init__(self, seeds: Callable[[], Tensor], key: str = ""):
        self._seeds = seeds
        self._key = key
        self._states: Tensor | None = None  # of the streams, under torch.compile

    @classmethod
    def of(cls, generator: Generators, batch: int) -> Rng:
        """The streams of a batch.

        generator: one generator or seed for the batch, a list with one per image, or None for
            torch's global generator.
        """
        if isinstance(generator, Sequence) and not isinstance(generator, str):
            if len(generator) != batch:
                raise ValueError(
                    f"generator: {len(generator)} generators for {batch} images; "
                    "give one, or one per image"
                )
            generators = list(map(_seeded, generator))
        else:
            generators = [_seeded(generator)]
        seeds: list[Tensor] = []

        def draw_seeds_once() -> Tensor:
            if not seeds:
                for g in generators:
                    count = batch // len(generators)
                    seeds.append(_draw_seeds(g, count))
            return torch.cat(seeds)

        return cls(draw_seeds_once)

    def child(self, key: str) -> Rng:
        """The streams of a part, such as a stage, that is named by `key`."""
        return Rng(self._seeds, f"{self._key}/{key}")

    def row(self, index: int) -> Rng:
        """The stream that image `index` of the batch would get alone."""

        def seed_of_row() -> Tensor:
            seeds = self._seeds()
            return seeds[index : index + 1]

        return Rng(seed_of_row, self._key)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        _refuse_export()
        seeds = self._seeds()
        return _streams(numbers_in(seeds), self._key)

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1), one draw per element of `like`."""
        return self._draw("normal", like)

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1), one draw per element of `like`."""
        return self._draw("uniform", like)

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts from a Poisson distribution with mean `rate`. No gradient."""

        def draw_counts(rate: Tensor) -> Tensor:
            return self._draw("poisson", rate)

        return self.draw(draw_counts, rate)

    def draw(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x), for a function that draws by the values of x. No gradient.

        Under torch.func.vmap every slice of x gets the draws that it would get alone.
        """
        if torch.compiler.is_compiling():
            return function(x.detach())
        generators = self._generators
        states = [generator.get_state() for generator in generators]

        def rewound(x: Tensor) -> Tensor:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            return function(x)

        return outside_transforms(rewound, x)

    def integers(self, high: int) -> list[int]:
        """One integer in [0, high) per image."""
        integers = []
        for generator in self._generators:
            drawn = torch.randint(high, (), generator=generator, device="cpu")
            integers.append(int(drawn))
        return integers

    def share(self) -> float:
        """One number of U[0, 1), in steps of 2⁻⁵³, for one image."""
        step, *_ = self.integers(_STEPS)
        return step / _STEPS

    def _draw(self, distribution: str, like: Tensor) -> Tensor:
        _refuse_export()
        if not torch.compiler.is_compiling():
            return _draw(distribution, like, self._generators)
        if self._states is None:
            seeds = self._seeds()
            self._states = start_streams(seeds, self._key)
        detached = like.detach()
        result: tuple[Tensor, Tensor] = draw_in_graph(distribution, detached, self._states)
        values, self._states = result
        return values
