"""What an image or its latent should be, whatever was observed: terms of a loss, too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss import Term, View, halved
from .perceptual import enlarged
from .problem import Problem


@dataclass(frozen=True)
class Geodesic(Term):
    """Mean over pairs of layers of d·θ²/8, θ the angle between their vectors. of: "z", or "latent" for W+."""

    weight: float = 1.0
    of: str = "z"
    name = "geodesic"

    def value(self, view: View, problem: Problem) -> Tensor:
        v = getattr(view.point, self.of)
        a, b = v[:, :, None], v[:, None]
        # 2·atan2(‖a-b‖, ‖a+b‖); the tiny number keeps the root's slope finite where a = b
        difference, total = ((a + sign * b).square().sum(-1).add(1e-12).sqrt() for sign in (-1, 1))
        return v.shape[-1] / 8 * (2 * torch.atan2(difference, total)).square().mean((1, 2))


@dataclass(frozen=True)
class Near(Term):
    """Mean ((w - w_avg) / w_std)², the prior on W+ of BRGM."""

    weight: float = 1.0
    name = "prior"

    def value(self, view: View, problem: Problem) -> Tensor:
        away = (view.point.latent - problem.center[:, None]) / problem.generator.w_std
        return away.square().flatten(1).mean(1)


@dataclass(frozen=True)
class Collinear(Term):
    """Mean over pairs of layers of 1 - cosine between their codes."""

    weight: float = 1.0
    name = "collinearity"

    def value(self, view: View, problem: Problem) -> Tensor:
        w = F.normalize(view.point.latent, dim=-1)
        return (1 - w @ w.mT).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class Normal(Term):
    """Mean z², the prior on Z."""

    weight: float = 1.0
    name = "prior on z"

    def value(self, view: View, problem: Problem) -> Tensor:
        return view.point.z.square().flatten(1).mean(1)


@dataclass(frozen=True)
class Mapped(Term):
    """Mean (mapping(z) - w)²: W+ stays near what z says (L-BRGM)."""

    weight: float = 1.0
    name = "mapping"

    def value(self, view: View, problem: Problem) -> Tensor:
        return (problem.map(view.point.z)[:, None] - view.point.latent).square().flatten(1).mean(1)


@dataclass(frozen=True)
class OffsetNorm(Term):
    """The length of the offset, by the norm of this order: 1 or 2 (CRI)."""

    weight: float = 1.0
    order: int = 2
    name = "offset"

    def value(self, view: View, problem: Problem) -> Tensor:
        offset = view.variables["offset"].flatten(1)
        if self.order == 1:
            return offset.abs().sum(1)
        return offset.square().sum(1).add(1e-12).sqrt()  # whose slope at 0 is finite


@dataclass(frozen=True)
class WhiteNoise(Term):
    """Noise maps should stay noise: squared autocorrelation at shift 1, summed over a pyramid down to 8×8.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", eq. 4.
    """

    weight: float = 1e5
    name = "noise"

    def value(self, view: View, problem: Problem) -> Tensor:
        total = torch.zeros(problem.batch, device=problem.device)
        for n in view.point.noises or ():
            while True:
                for axis in (2, 3):
                    total = total + (n * n.roll(1, axis)).flatten(1).mean(1).square()
                if n.shape[-1] <= 8:
                    break
                n = halved(n)
        return total


@dataclass(frozen=True)
class Locality(Term):
    """Tuned weights should change no other image: at a code `distance` from the pivot towards a random one.

    mse·MSE + lpips·LPIPS between tuned and original generator, images in [-1, 1] units, without noise.
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
        generator, network = problem.generator, problem.network(self.net)
        pivot, (weights,) = view.point.latent, view.point.weights
        z = view.rng.child("locality").normal(torch.empty(1, generator.z_dim)).to(pivot)
        w = generator.mapping(z, problem.label, self.truncation_psi)
        if pivot.ndim == 2:  # the length is that of all layers together
            pivot = pivot[:, None].expand(-1, generator.num_ws, -1)
        away = w.view(1, *[1] * (pivot.ndim - 2), -1) - pivot
        code = pivot + self.distance * away / away.norm()
        with torch.no_grad():
            before = generator.synthesize(code, noise_mode="none")
        after = torch.func.functional_call(generator, weights, code, {"noise_mode": "none"})
        squares = (2 * (after - before)).square().flatten(1).mean(1)
        seen = (network.features(enlarged(image, network.min_side)) for image in (after, before))
        return self.mse * squares + self.lpips * network.distance(*seen)
