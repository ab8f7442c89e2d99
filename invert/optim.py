"""How a search moves: optimisers, schedules, constraints, and rules to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .point import Variables

Move = Callable[[Variables, Variables, int], Variables]  # (values, gradients, step) → new values
Schedule = Callable[[float], float]  # share of the phase's steps done → factor of the learning rate


def ngd(latent: Tensor, grad: Tensor, lr: float) -> Tensor:
    """v ← v - lr·g/‖g‖ for every code v (last axis) on its own; a code with no gradient stays.

    The loss's scale cancels, and a code travels at most lr·steps: that bound is the method's only
    regulariser. Source: Poirier-Ginter & Lalonde 2023, Algorithm 1.
    """
    grad = torch.nan_to_num(grad, posinf=0.0, neginf=0.0)
    largest = grad.abs().amax(-1, keepdim=True)
    grad = torch.where(largest > 0, grad / largest, 0.0)  # squares of tiny gradients would vanish
    norm = torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
    return latent - lr * torch.where(norm > 0, grad / norm, 0.0)


class Optimiser:
    """How a phase moves. One of your own defines `begin`, and `times` if it is to be tuned."""

    def begin(self, variables: Variables, steps: int, scale: float) -> Move:
        """Called once, before `steps` steps; what it returns at each of them. scale: of learning rates of codes."""
        raise NotImplementedError

    def times(self, factor: float) -> Optimiser:
        """With its learning rates multiplied."""
        raise ValueError(
            f"{type(self).__name__} has no learning rate that is known; define `times`"
        )

    def over(self, share: float) -> Optimiser:
        """For a phase of so much the steps; here, as it is, its schedule drawn together."""
        return self


@dataclass(frozen=True)
class NGD(Optimiser):
    """Normalised gradient descent, see `ngd`. lr is in units of a W with FFHQ's spread."""

    lr: float

    def times(self, factor: float) -> NGD:
        return replace(self, lr=self.lr * factor)

    def over(self, share: float) -> NGD:
        """In a phase of so much the steps: longer steps that lead as far, since how far is what regularises."""
        return self.times(1 / share)

    def begin(self, variables: Variables, steps: int, scale: float) -> Move:
        return lambda values, grads, _: {
            k: ngd(v, grads[k], self.lr * scale) for k, v in values.items()
        }


@dataclass(frozen=True)
class Ramp:
    """Up in a straight line over the first share `up`, down as a cosine over the last share `down`.

    Source: the projector of Karras et al. 2020. The first step's factor is 0.
    """

    down: float = 0.25
    up: float = 0.05

    def __call__(self, t: float) -> float:
        return 0.5 * (1 - math.cos(math.pi * min(1.0, (1 - t) / self.down))) * min(1.0, t / self.up)


@dataclass(frozen=True)
class CycleWithDrop:
    """0.1 → 1 → 0.1 in straight lines over 0.9 of the steps, then down to 0.001 (PULSE)."""

    def __call__(self, t: float) -> float:
        if t < 0.9:
            return (9 * (1 - 2 * abs(t / 0.9 - 0.5)) + 1) / 10
        return 0.1 + (t - 0.9) / 0.1 * (0.001 - 0.1)


def constant(t: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Sphere:
    """Every z and noise map keeps the length it began with (PULSE, ILO)."""

    def begin(self, variables: Variables) -> Callable[[Variables], Variables]:
        lengths = {
            k: _length(k, v) for k, v in variables.items() if k == "z" or k.startswith("noise")
        }
        return lambda values: (
            values | {k: values[k] * n / _length(k, values[k]) for k, n in lengths.items()}
        )


@dataclass(frozen=True)
class L1Ball:
    """Every z, noise map and feature map stays within an L1 distance of where it began (ILO)."""

    z: float = math.inf
    noise: float = math.inf
    features: float = math.inf

    def begin(self, variables: Variables) -> Callable[[Variables], Variables]:
        radii = {"z": self.z, "features": self.features}

        def project(values: Variables) -> Variables:
            return {
                k: variables[k] + onto_l1_ball(v - variables[k], radii.get(k, self.noise))
                for k, v in values.items()
            }

        return project


@dataclass(frozen=True)
class Whiten:
    """Noise maps keep mean 0 and mean square 1 (the projector of StyleGAN2)."""

    def begin(self, variables: Variables) -> Callable[[Variables], Variables]:
        def project(values: Variables) -> Variables:
            noises = {
                k: v - v.mean((2, 3), keepdim=True)
                for k, v in values.items()
                if k.startswith("noise")
            }
            scales = {
                k: v.square().mean((2, 3), keepdim=True).clamp_min(1e-12).rsqrt()
                for k, v in noises.items()
            }
            return values | {k: v * scales[k] for k, v in noises.items()}

        return project


def onto_l1_ball(d: Tensor, radius: float) -> Tensor:
    """The nearest point of Σ|d| ≤ radius, for each row [B, …]. Source: Duchi et al. 2008, Fig. 1."""
    flat = d.flatten(1)
    size = flat.abs()
    u = size.sort(1, descending=True).values
    excess = u.cumsum(1) - radius
    counts = torch.arange(1, u.shape[1] + 1, device=d.device)
    last = (u * counts > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = (excess.gather(1, last - 1) / last).clamp_min(0)
    inside = size.sum(1, keepdim=True) <= radius
    return torch.where(inside, flat, flat.sign() * (size - threshold).clamp_min(0)).view_as(d)


@dataclass(frozen=True)
class Adam(Optimiser):
    """Adam. Learning rates of codes of W are in units of a W with FFHQ's spread, others as they are.

    z_lr: of z, where it is not that of the rest. project: constraints, kept in this order after each step.
    Source: Kingma & Ba 2015.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Schedule = constant
    z_lr: float | None = None
    project: tuple[Sphere | L1Ball | Whiten, ...] = ()

    def times(self, factor: float) -> Adam:
        z_lr = None if self.z_lr is None else self.z_lr * factor
        return replace(self, lr=self.lr * factor, z_lr=z_lr)

    def begin(self, variables: Variables, steps: int, scale: float) -> Move:
        first = {k: torch.zeros_like(v) for k, v in variables.items()}
        second = {k: torch.zeros_like(v) for k, v in variables.items()}
        projections = [constraint.begin(variables) for constraint in self.project]
        rates = {k: self.lr * (scale if k in ("latent", "offset") else 1.0) for k in variables}
        if self.z_lr is not None and "z" in rates:
            rates["z"] = self.z_lr
        b1, b2 = self.betas

        def move(values: Variables, grads: Variables, step: int) -> Variables:
            factor, moved = self.schedule(step / steps), {}
            for k, v in values.items():
                g = torch.nan_to_num(grads[k], posinf=0.0, neginf=0.0)
                first[k] = b1 * first[k] + (1 - b1) * g
                second[k] = b2 * second[k] + (1 - b2) * g.square()
                mean, power = first[k] / (1 - b1 ** (step + 1)), second[k] / (1 - b2 ** (step + 1))
                moved[k] = v - factor * rates[k] * mean / (power.sqrt() + self.eps)
            for project in projections:
                moved = project(moved)
            return moved

        return move


def _length(name: str, v: Tensor) -> Tensor:
    return v.norm(dim=(2, 3) if name.startswith("noise") else -1, keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class Patience:
    """Stop an image whose loss has not improved for so many steps."""

    steps: int = 15

    def begin(self, batch: int) -> Callable[[dict[str, Tensor]], Tensor]:
        best, since = torch.full((batch,), math.inf), torch.zeros(batch)

        def done(values: dict[str, Tensor]) -> Tensor:
            nonlocal best, since
            loss = values["loss"].cpu()
            since = torch.where(loss < best, 0, since + 1)
            best = torch.minimum(best, loss)
            return since >= self.steps

        return done


@dataclass(frozen=True)
class Below:
    """Stop an image, before it is moved, when this term of its loss is at most `limit`."""

    term: str
    limit: float

    def begin(self, batch: int) -> Callable[[dict[str, Tensor]], Tensor]:
        return lambda values: values[self.term].cpu() <= self.limit
