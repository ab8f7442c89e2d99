"""Terms of a loss that do not look at the observation: priors on images, latents and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vector_norm

from .loss import Term, View, halved, mean_per_image
from .perceptual import enlarged
from .point import Point
from .problem import Problem


class PriorTerm(Term):
    """A term that does not compare anything with the observation."""

    compares = False


@dataclass(frozen=True)
class Geodesic(PriorTerm):
    """Mean of d·θ²/8 over pairs of layers, θ the angle between their vectors of d numbers.

    of: "z", or "latent" for W+.
    """

    weight: float = 1.0
    of: str = "z"
    name = "geodesic"

    def value(self, view: View, problem: Problem) -> Tensor:
        v: Tensor = getattr(view.point, self.of)
        a = v[:, :, None]
        b = v[:, None]
        difference = smooth_length(a - b)
        total = smooth_length(a + b)
        angle = 2 * torch.atan2(difference, total)
        mean_square = angle.square().mean((1, 2))
        return v.shape[-1] / 8 * mean_square


@dataclass(frozen=True)
class Near(PriorTerm):
    """Mean ((w - w_avg) / w_std)², the prior on W+ of BRGM."""

    weight: float = 1.0
    name = "prior"

    def value(self, view: View, problem: Problem) -> Tensor:
        center = problem.center[:, None]
        offset = view.point.latent - center
        standardised = offset / problem.style.w_std
        return mean_per_image(standardised.square())


@dataclass(frozen=True)
class Collinear(PriorTerm):
    """Mean of 1 - cosine over pairs of layers' codes.

    beyond_x16: factor of the value where the observation is more than 16 times smaller than the
    image (the PyTorch port of BRGM).
    """

    weight: float = 1.0
    beyond_x16: float = 1.0
    name = "collinearity"

    def value(self, view: View, problem: Problem) -> Tensor:
        w = F.normalize(view.point.latent, dim=-1)
        cosine = w @ w.mT
        distance = (1 - cosine).abs()
        mean = mean_per_image(distance)
        if self.beyond_x16 == 1:
            return mean
        observed_side = min(problem.observation.shape[2:])
        is_far_smaller = problem.generator.resolution > 16 * observed_side
        return self.beyond_x16 * mean if is_far_smaller else mean


@dataclass(frozen=True)
class Normal(PriorTerm):
    """Mean z², the prior on Z."""

    weight: float = 1.0
    name = "prior on z"

    def value(self, view: View, problem: Problem) -> Tensor:
        z = z_of(view.point)
        return mean_per_image(z.square())


@dataclass(frozen=True)
class Mapped(PriorTerm):
    """Mean (mapping(z) - w)²: W+ stays near the mapping of z (L-BRGM)."""

    weight: float = 1.0
    name = "mapping"

    def value(self, view: View, problem: Problem) -> Tensor:
        mapped = problem.map(z_of(view.point))
        difference = mapped[:, None] - view.point.latent
        return mean_per_image(difference.square())


@dataclass(frozen=True)
class OffsetNorm(PriorTerm):
    """The length of the offset, by the norm of this order: 1 or 2 (CRI)."""

    weight: float = 1.0
    order: int = 2
    name = "offset"

    def value(self, view: View, problem: Problem) -> Tensor:
        offset = view.variables["offset"].flatten(1)
        if self.order == 1:
            return offset.abs().sum(1)
        return smooth_length(offset)


@dataclass(frozen=True)
class WhiteNoise(PriorTerm):
    """Squared autocorrelation of the noise maps at shift 1, summed over a pyramid down to 8×8.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", eq. 4.
    """

    weight: float = 1e5
    name = "noise"

    def value(self, view: View, problem: Problem) -> Tensor:
        total = problem.zeros()
        for noise in view.point.noises or ():
            for level in pyramid(noise, 8):
                for axis in (2, 3):
                    shifted = level.roll(1, axis)
                    correlation = mean_per_image(level * shifted)
                    total = total + correlation.square()
        return total


@dataclass(frozen=True)
class Locality(PriorTerm):
    """Tuned weights should change no other image.

    At a code that lies `distance` from the pivot, in the direction of a random code, the value is
    mse·MSE + lpips·LPIPS between the images of the tuned and the original generator, in [-1, 1]
    units and without noise.
    Source: Roich et al. 2021, "Pivotal Tuning", eqs. 4 and 5.
    """

    weight: float = 1.0
    mse: float = 0.1
    lpips: float = 0.1
    net: str | None = "alex"
    distance: float = 30.0
    truncation_psi: float = 0.5
    name = "locality"

    def value(self, view: View, problem: Problem) -> Tensor:
        network = problem.network(self.net)
        code = self._other_code(view, problem)
        with torch.no_grad():
            before = problem.generator.synthesize(code, noise_mode="none")
        (weights,) = view.point.weights_of_images
        options = {"noise_mode": "none"}
        after = torch.func.functional_call(problem.generator, weights, code, options)
        difference = 2 * (after - before)
        mse = mean_per_image(difference.square())
        features_after = network.features(enlarged(after, network.min_side))
        features_before = network.features(enlarged(before, network.min_side))
        lpips = network.distance(features_after, features_before)
        return self.mse * mse + self.lpips * lpips

    def _other_code(self, view: View, problem: Problem) -> Tensor:
        generator = problem.style
        pivot = view.point.latent
        like = torch.empty(1, generator.z_dim, device="cpu", dtype=torch.float32)
        rng = view.rng.child("locality")
        z = rng.normal(like).to(pivot)
        w: Tensor = generator.mapping(z, problem.label, self.truncation_psi)
        if pivot.ndim == 2:  # the distance is that of all layers together
            layers = generator.num_ws
            pivot = pivot[:, None].expand(-1, layers, -1)
        while w.ndim < pivot.ndim:
            w = w[:, None]  # one code for all layers
        direction = w - pivot
        length: Tensor = vector_norm(direction)
        return pivot + self.distance * direction / length


def pyramid(x: Tensor, shortest: int) -> Iterator[Tensor]:
    """The map, and its 2×2 means again and again, until the side is at most `shortest`."""
    yield x
    while x.shape[-1] > shortest:
        x = halved(x)
        yield x


def smooth_length(v: Tensor) -> Tensor:
    """√(Σ v² + 1e-12) over the last axis; the tiny number keeps the slope at 0 finite."""
    square: Tensor = v.square().sum(-1)
    return square.add(1e-12).sqrt()


def z_of(point: Point) -> Tensor:
    """The z of a point. Raises ValueError in a space without one."""
    if point.z is None:
        raise ValueError("a term needs z; search in a space that has one, such as latent.Z()")
    return point.z
