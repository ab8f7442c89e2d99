"""Where a search moves: latent spaces, features within the generator, its weights.

W [B, w_dim] has one code for the image, W+ [B, num_ws, w_dim] one for every layer, W++
[B, num_ws, num_filters, w_dim] one for every output filter of every layer. A `Space` says which
tensors are free, and where they put the search.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .generator import Generator
from .point import Moment, Point, Variables
from .problem import Problem

SPACES = ("W", "W+", "W++")


def extend(latent: Tensor, space: str, generator: Generator) -> Tensor:
    """`latent` written in the freer `space`: the same image, more freedom.

    Raises ValueError for a space that the generator does not have.
    """
    *repeated, dim = generator.latent_shape(space)
    latent = generator.unpack(latent)
    while latent.ndim < 2 + len(repeated):
        latent = latent.unsqueeze(-2)  # one code stands for all of the next kind
    return latent.expand(-1, *repeated, dim).clone()


class Space:
    """A kind of freedom: `begin` makes the free tensors, and `place` says where they put the search."""

    name: str
    per_image: bool = (
        False  # whether images cannot share a pass, as when each has weights of its own
    )

    def check(self, generator: Generator) -> None:
        """Raise ValueError where the generator lacks what this needs."""

    def goes_on_from(self, space: str) -> bool:
        """Whether a latent of W, W+ or W++ can be where this begins."""
        return False

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        """The point that all of the phase is relative to, and the free tensors, which leave its image as it is."""
        raise NotImplementedError

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        """Where the free tensors put the search, for the point that `begin` returned."""
        raise NotImplementedError


@dataclass(frozen=True)
class Codes(Space):
    """Style codes: W, W+ or W++.

    jitter: every step the codes move by N(0, s²), s = w_std·jitter·max(0, 1 - t/0.75)² (the
    projector of StyleGAN2). noises: whether the noise maps are free, too, and start as N(0, 1).
    """

    name: str
    jitter: float = 0.0
    noises: bool = False

    def check(self, generator: Generator) -> None:
        generator.latent_shape(self.name)

    def goes_on_from(self, space: str) -> bool:
        return SPACES.index(self.name) >= SPACES.index(space)

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        noises = random_noises(problem) if self.noises else ()
        latent = problem.generator.pack(extend(point.latent, self.name, problem.generator))
        return replace(point, noises=noises or point.noises), {"latent": latent} | named(noises)

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        latent = variables["latent"]
        if self.jitter and moment.progress < 0.75:
            width = problem.generator.w_std * self.jitter * (1 - moment.progress / 0.75) ** 2
            latent = latent + width * moment.rng.child("jitter").normal(latent)
        return replace(point, latent=latent, noises=with_free(point.noises, variables))


@dataclass(frozen=True)
class Offset(Space):
    """What is added to the codes of W+ that the phase starts from; it starts at 0 (CRI)."""

    name: str = field(default="offset", init=False)

    def check(self, generator: Generator) -> None:
        generator.latent_shape("W+")

    def goes_on_from(self, space: str) -> bool:
        return space != "W++"

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        center = extend(point.latent, "W+", problem.generator)
        return replace(point, latent=center), {"offset": torch.zeros_like(center)}

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        return replace(point, latent=point.latent + variables["offset"])


@dataclass(frozen=True)
class Gaussian(Space):
    """W+ through a Gaussian: w = leaky_relu(σ·z + μ) for a z ~ N(0, I) of each layer.

    block: from 1 on, the features that enter this block of the synthesis are free, too, and start as
    what the layers before them make (ILO). noises: how many noise maps are free, from the first on;
    all start as N(0, 1), but the last as 0 with `quiet_end` (PULSE).
    """

    block: int = 0
    noises: int = 5
    quiet_end: bool = False

    @property
    def name(self) -> str:
        return f"layer {self.block}" if self.block else "Z+"

    def check(self, generator: Generator) -> None:
        generator.latent_shape("W+")
        if self.block and not generator.blocks:
            raise ValueError("this generator cannot go on from features within it; StyleGAN2 can")
        if self.block and self.block >= generator.blocks:
            last = generator.blocks - 1
            raise ValueError(
                f"this generator has features before blocks 1 to {last}, not {self.block}"
            )

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        if point.z is None or point.z.ndim != 3:  # the z of W's mapping is another one
            z = problem.rng("z").normal(
                torch.empty(problem.batch, *problem.generator.latent_shape("W+"))
            )
            noises = random_noises(problem)
            if noises and self.quiet_end:
                noises = (*noises[:-1], torch.zeros_like(noises[-1]))
            point = replace(point, z=z.to(problem.device), noises=noises or None)
        point = replace(point, latent=self._latent(point.z, problem))
        free = {"z": point.z} | named((point.noises or ())[: self.noises])
        if self.block:
            with torch.no_grad():
                start = problem.generator.features(
                    point.latent, self.block, point.noises, point.start
                )
            point, free["features"] = replace(point, start=start), start.maps
        return point, free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        start = replace(point.start, maps=variables["features"]) if self.block else None
        latent, noises = self._latent(variables["z"], problem), with_free(point.noises, variables)
        return replace(point, latent=latent, z=variables["z"], noises=noises, start=start)

    def _latent(self, z: Tensor, problem: Problem) -> Tensor:
        mean, deviation = problem.gaussian
        return F.leaky_relu(z * deviation + mean, 0.2)


@dataclass(frozen=True)
class Z(Space):
    """What is drawn from N(0, I), through the mapping where there is one.

    codes: W+ is free beside it, and starts as the mapping of z (L-BRGM).
    """

    codes: bool = False

    @property
    def name(self) -> str:
        return "Z and W+" if self.codes else "Z"

    def check(self, generator: Generator) -> None:
        if self.codes:
            generator.latent_shape("W+")

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        point = problem.with_z(point)
        free = {"z": point.z}
        if self.codes:
            free["latent"] = extend(point.latent, "W+", problem.generator)
        return point, free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        latent = variables["latent"] if self.codes else problem.map(variables["z"])
        return replace(point, latent=latent, z=variables["z"])


@dataclass(frozen=True)
class Weights(Space):
    """The weights of the synthesis, for each image on its own; the codes stay.

    blocks: of the first blocks only, without the layers that paint (DGP); None is all, and so is any
    number for a generator that has no blocks. z: whether z is free, too. Noise maps are the
    checkpoint's.
    """

    blocks: int | None = None
    z: bool = False
    per_image = True

    @property
    def name(self) -> str:
        tuned = "weights" if self.blocks is None else f"weights of {self.blocks} blocks"
        return f"Z, {tuned}" if self.z else tuned

    def goes_on_from(self, space: str) -> bool:
        return not self.z

    def begin(self, point: Point, problem: Problem) -> tuple[Point, Variables]:
        tuned = dict(point.weights[0]) if point.weights else {}
        for name in problem.generator.tunable(self.blocks):
            if name not in tuned:
                tuned[name] = problem.generator.get_parameter(name).detach().clone()
        free = {_WEIGHT + name: weight[None] for name, weight in tuned.items()}
        if self.z:
            point = problem.with_z(point)
            free["z"] = point.z
        return replace(point, noises=None), free

    def place(self, variables: Variables, point: Point, problem: Problem, moment: Moment) -> Point:
        weights = {
            k.removeprefix(_WEIGHT): v[0] for k, v in variables.items() if k.startswith(_WEIGHT)
        }
        if self.z:
            point = replace(point, z=variables["z"], latent=problem.map(variables["z"]))
        return replace(point, weights=(weights,))


_WEIGHT, _NOISE = "weight:", "noise"  # how free weights and noise maps are named


def random_noises(problem: Problem) -> tuple[Tensor, ...]:
    """Noise maps N(0, 1) [B, 1, r, r]; none for a generator that takes none."""
    sides = problem.generator.noise_sides
    empty = [torch.empty(problem.batch, 1, side, side, device=problem.device) for side in sides]
    return tuple(problem.rng(f"noise{i}").normal(like) for i, like in enumerate(empty))


def named(noises: tuple[Tensor, ...]) -> Variables:
    return {f"{_NOISE}{i}": noise for i, noise in enumerate(noises)}


def with_free(noises: tuple[Tensor, ...] | None, variables: Variables) -> tuple[Tensor, ...] | None:
    """The noise maps, those that are free as they are now."""
    return noises and tuple(variables.get(f"{_NOISE}{i}", noise) for i, noise in enumerate(noises))
