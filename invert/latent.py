"""Where a search moves: latent spaces, features within the generator, and its weights.

W [B, w_dim] has one code per image, W+ [B, num_ws, w_dim] one per layer, and W++
[B, num_ws, num_filters, w_dim] one for every output filter of every layer. A `Space` says which
tensors are free, which role each has, and which point they describe.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from . import roles
from .generator import Features, Generator
from .point import Moment, Point
from .problem import Problem
from .roles import Free, Variable, Variables

SPACES = ("W", "W+", "W++")
Noises = tuple[Tensor, ...]  # noise maps [B, 1, r, r] in the order of `Generator.noise_sides`


def extend(latent: Tensor, space: str, generator: Generator) -> Tensor:
    """Write `latent` in the larger `space`: the same image, with more freedom.

    Raises ValueError for a space that the generator does not have.
    """
    *repeated, dim = generator.latent_shape(space)
    latent = generator.unpack(latent)
    while latent.ndim < 2 + len(repeated):
        latent = latent.unsqueeze(-2)  # one code stands for all of the next kind
    return latent.expand(-1, *repeated, dim).clone()


class Space:
    """A kind of freedom.

    `begin` makes the free tensors and gives each a role; `place` returns the point they describe.
    per_image: whether images cannot share a pass, as when each has weights of its own.
    """

    name: str
    per_image: bool = False

    def check(self, generator: Generator) -> None:
        """Raise ValueError where the generator lacks what this space needs."""

    def goes_on_from(self, space: str) -> bool:
        """Whether a latent of W, W+ or W++ can be where this space begins."""
        return False

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        """Return the point that the phase is relative to, and the free tensors.

        The free tensors leave the image of the point as it is.
        """
        raise NotImplementedError

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        """Return the point that the free tensors describe; `point` is the one from `begin`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Codes(Space):
    """Style codes: W, W+ or W++.

    jitter: in every step the codes move by N(0, s²), s = w_std·jitter·max(0, 1 - t/0.75)² (the
    projector of StyleGAN2). noises: whether the noise maps are free, too, and start as N(0, 1).
    """

    name: str
    jitter: float = 0.0
    noises: bool = False

    def check(self, generator: Generator) -> None:
        generator.latent_shape(self.name)

    def goes_on_from(self, space: str) -> bool:
        return SPACES.index(self.name) >= SPACES.index(space)

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        noises = random_noises(problem) if self.noises else ()
        extended = extend(point.latent, self.name, problem.generator)
        latent = problem.generator.pack(extended)
        free = {"latent": Variable(latent, roles.CODES)}
        free |= free_noises(noises)
        if noises:
            point = replace(point, noises=noises)
        return point, free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        latent = variables["latent"]
        if self.jitter and moment.progress < 0.75:
            fading = (1 - moment.progress / 0.75) ** 2
            width = problem.style.w_std * self.jitter * fading
            rng = moment.rng.child("jitter")
            latent = latent + width * rng.normal(latent)
        noises = with_free_noises(point.noises, variables)
        return replace(point, latent=latent, noises=noises)


@dataclass(frozen=True)
class Offset(Space):
    """An offset that is added to the codes of W+ where the phase starts; it begins at 0 (CRI)."""

    name: str = field(default="offset", init=False)

    def check(self, generator: Generator) -> None:
        generator.latent_shape("W+")

    def goes_on_from(self, space: str) -> bool:
        return space != "W++"

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        center = extend(point.latent, "W+", problem.generator)
        zeros = torch.zeros_like(center)
        free = {"offset": Variable(zeros, roles.CODES)}
        return replace(point, latent=center), free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        latent = point.latent + variables["offset"]
        return replace(point, latent=latent)


@dataclass(frozen=True)
class GaussianCodes(Space):
    """W+ through a Gaussian: w = leaky_relu(σ·z + μ) for a z ~ N(0, I) of each layer.

    block: from 1 on, the features that enter this block of the synthesis, are free, too, and start
    as what the layers before them make (ILO). reduction: names that block from the output side, by
    how many times smaller than the image its features are. At 1024², 64 is the block that 16²
    enters. A generator whose first features are larger has no such block: then no features are
    free. noises: how many noise maps are free, from the first on; noises_per_block: and so many
    more for each block before the features. They start as N(0, 1); with `quiet_end` the last one
    starts as 0 (PULSE).
    """

    block: int = 0
    noises: int = 5
    quiet_end: bool = False
    reduction: int | None = None
    noises_per_block: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        if self.reduction is not None:
            return f"layer at 1/{self.reduction}"
        return f"layer {self.block}" if self.block else "Z+"

    def block_in(self, generator: Generator) -> int:
        """The block whose input is free in this generator; 0 if no features are."""
        if self.reduction is None:
            return self.block
        halvings = self.reduction.bit_length() - 1
        return max(0, generator.blocks - halvings)

    def check(self, generator: Generator) -> None:
        generator.latent_shape("W+")
        block = self.block_in(generator)
        needs_blocks = block > 0 or self.reduction is not None
        if needs_blocks and not generator.blocks:
            raise ValueError("this generator cannot go on from features within it; StyleGAN2 can")
        if block > 0 and block >= generator.blocks:
            last = generator.blocks - 1
            raise ValueError(f"this generator has features before blocks 1 to {last}, not {block}")

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        if point.z is None or point.z.ndim != 3:  # a z of the mapping has two axes
            point = self._drawn(point, problem)
        z = point.z
        assert z is not None
        latent = self._latent(z, problem)
        point = replace(point, latent=latent)
        block = self.block_in(problem.generator)
        free = {"z": Variable(z, roles.Z)}
        noises = point.noises or ()
        free |= free_noises(noises[: self.noises + self.noises_per_block * block])
        if block:
            start = self._features(point, block, problem)
            point = replace(point, start=start)
            free["features"] = Variable(start.maps, roles.FEATURES)
        return point, free

    @torch.no_grad()
    def _features(self, point: Point, block: int, problem: Problem) -> Features:
        """What enters the block now."""
        return problem.generator.features(point.latent, block, point.noises, point.start)

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        start = None
        if point.start is not None and "features" in variables:
            start = replace(point.start, maps=variables["features"])
        z = variables["z"]
        latent = self._latent(z, problem)
        noises = with_free_noises(point.noises, variables)
        return replace(point, latent=latent, z=z, noises=noises, start=start)

    def _drawn(self, point: Point, problem: Problem) -> Point:
        """The point with a z for each layer, and new noise maps."""
        shape = problem.generator.latent_shape("W+")
        z = problem.normal("z", *shape)
        noises = random_noises(problem)
        if noises and self.quiet_end:
            *others, last = noises
            noises = (*others, torch.zeros_like(last))
        return replace(point, z=z, noises=noises or None)

    def _latent(self, z: Tensor, problem: Problem) -> Tensor:
        mean, deviation = problem.gaussian
        before = z * deviation + mean
        return F.leaky_relu(before, 0.2)


@dataclass(frozen=True)
class Z(Space):
    """z ~ N(0, I), through the mapping where there is one.

    codes: W+ is free beside it, and starts as the mapping of z (L-BRGM).
    """

    codes: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return "Z and W+" if self.codes else "Z"

    def check(self, generator: Generator) -> None:
        if self.codes:
            generator.latent_shape("W+")

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        point = problem.with_z(point)
        assert point.z is not None
        free = {"z": Variable(point.z, roles.Z)}
        if self.codes:
            latent = extend(point.latent, "W+", problem.generator)
            free["latent"] = Variable(latent, roles.CODES)
        return point, free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        z = variables["z"]
        latent = variables["latent"] if self.codes else problem.map(z)
        return replace(point, latent=latent, z=z)


@dataclass(frozen=True)
class Weights(Space):
    """The weights of the synthesis, for each image on its own; the codes stay.

    blocks: tune only the first so many blocks, without the layers that paint (DGP). None tunes all,
    and so does any number for a generator without blocks. z: whether z is free, too. The noise maps
    are the checkpoint's.
    """

    blocks: int | None = None
    z: bool = False
    per_image = True

    @property
    def name(self) -> str:  # type: ignore[override]
        tuned = "weights" if self.blocks is None else f"weights of {self.blocks} blocks"
        return f"Z, {tuned}" if self.z else tuned

    def goes_on_from(self, space: str) -> bool:
        return not self.z

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Free]:
        weights = dict(point.weights or {})
        for name in problem.generator.tunable(self.blocks):
            if name not in weights:
                weight = problem.generator.get_parameter(name)
                copy = weight.detach().clone()
                weights[name] = copy[None]
        free = {}
        for name, value in weights.items():
            free[_WEIGHT + name] = Variable(value, roles.WEIGHTS)
        if self.z:
            point = problem.with_z(point)
            assert point.z is not None
            free["z"] = Variable(point.z, roles.Z)
        return replace(point, noises=None), free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        weights = {}
        for name, value in variables.items():
            if name.startswith(_WEIGHT):
                parameter = name.removeprefix(_WEIGHT)
                weights[parameter] = value
        if self.z:
            z = variables["z"]
            latent = problem.map(z)
            point = replace(point, z=z, latent=latent)
        return replace(point, weights=weights)


_WEIGHT, _NOISE = "weight:", "noise"  # how these spaces name free weights and noise maps


def random_noises(problem: Problem) -> Noises:
    """Draw noise maps N(0, 1) [B, 1, r, r]; none for a generator that takes none."""
    noises = []
    for i, side in enumerate(problem.generator.noise_sides):
        noise = problem.normal(f"noise{i}", 1, side, side)
        noises.append(noise)
    return tuple(noises)


def free_noises(noises: Noises) -> Free:
    """Make these noise maps free."""
    free = {}
    for i, noise in enumerate(noises):
        free[f"{_NOISE}{i}"] = Variable(noise, roles.NOISE)
    return free


def with_free_noises(noises: Noises | None, variables: Variables) -> Noises | None:
    """Replace the noise maps that are free by their values."""
    if not noises:
        return noises
    current = []
    for i, noise in enumerate(noises):
        value = variables.get(f"{_NOISE}{i}", noise)
        current.append(value)
    return tuple(current)
