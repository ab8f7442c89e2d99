"""How a search moves: optimisers, schedules, constraints, and rules that stop it.

All of them keep their state outside: `init` makes it, `update` takes it and returns the next one.
A state is a dictionary of tensors and numbers, so that a search can be saved and resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor

from . import roles
from .roles import Role, Variables
from .tree import tree_map

Schedule = Callable[[float], float]  # share of the phase's steps done → factor of the learning rate
S = TypeVar("S")  # an optimiser's or a rule's state

FFHQ_SPREAD = 9.5  # mean ‖w - w_avg‖ of the generator for which learning rates were published
FFHQ_W_DIM = 512


@dataclass(frozen=True)
class CodeScale:
    """How far apart the codes of W lie, relative to those of the FFHQ generator.

    length: of whole codes, mean ‖w - w_avg‖ / 9.5. coordinate: of one coordinate of a code,
    (mean ‖w - w_avg‖ / √w_dim) / (9.5 / √512).
    """

    length: float = 1.0
    coordinate: float = 1.0

    @staticmethod
    def of(spread: float, w_dim: int) -> CodeScale:
        """The scale of a generator with this mean ‖w - w_avg‖ and this many coordinates."""
        published = FFHQ_SPREAD / math.sqrt(FFHQ_W_DIM)
        coordinate = spread / math.sqrt(w_dim)
        return CodeScale(spread / FFHQ_SPREAD, coordinate / published)


@dataclass(frozen=True)
class Conditions:
    """What stays the same during a phase: roles of the free tensors, and the number of steps."""

    roles: Mapping[str, Role]
    steps: int
    scale: CodeScale = field(default_factory=CodeScale)


def ngd(latent: Tensor, grad: Tensor, lr: float) -> Tensor:
    """v ← v - lr·g/‖g‖ for every code v (last axis) on its own; a code without gradient stays.

    The scale of the loss cancels, and a code travels at most lr·steps. That bound is the only
    regularisation of the method. Source: Poirier-Ginter & Lalonde 2023, Algorithm 1.
    """
    grad = finite_gradient(grad)
    largest = grad.abs().amax(-1, keepdim=True)
    grad = torch.where(largest > 0, grad / largest, 0.0)  # squares of tiny gradients would vanish
    norm = torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
    direction = torch.where(norm > 0, grad / norm, 0.0)
    return latent - lr * direction


def finite_gradient(grad: Tensor) -> Tensor:
    """The gradient with 0 in place of NaN and infinity."""
    return torch.nan_to_num(grad, posinf=0.0, neginf=0.0)


class Optimiser(Generic[S]):
    """Moves the free tensors of a phase.

    An optimiser of your own defines `update`, `init` if it has a state, and `times` if its learning
    rates are to be tuned.
    """

    def init(self, values: Variables, conditions: Conditions) -> S:
        """Return the state before the first step."""
        return {}  # type: ignore[return-value]  # an optimiser with another state defines init

    def update(
        self, grads: Variables, state: S, values: Variables, conditions: Conditions
    ) -> tuple[Variables, S]:
        """Return the values after a step against the gradients, and the next state."""
        raise NotImplementedError

    def times(self, factor: float) -> Optimiser[S]:
        """The same optimiser with its learning rates multiplied."""
        raise ValueError(
            f"{type(self).__name__} has no learning rate that is known; define `times`"
        )

    def over(self, share: float) -> Optimiser[S]:
        """The optimiser for a phase of `share` times the steps. By default it does not change."""
        return self


class NoState(TypedDict):
    """The state of what needs none."""


@dataclass(frozen=True)
class NGD(Optimiser[NoState]):
    """Normalised gradient descent, see `ngd`.

    lr: the length of a step. For codes it is in units of a W with FFHQ's spread.
    """

    lr: float

    def times(self, factor: float) -> NGD:
        return replace(self, lr=self.lr * factor)

    def over(self, share: float) -> NGD:
        """Take longer steps when there are fewer: the distance travelled is what regularises."""
        return self.times(1 / share)

    def update(
        self, grads: Variables, state: NoState, values: Variables, conditions: Conditions
    ) -> tuple[Variables, NoState]:
        moved = {}
        for name, value in values.items():
            role = conditions.roles[name]
            scale = conditions.scale.length if role.follows_spread else 1.0
            lr = self.lr * scale
            moved[name] = ngd(value, grads[name], lr)
        return moved, state


@dataclass(frozen=True)
class Ramp:
    """Rise linearly over the first share `up` of the steps, fall as a cosine over the last `down`.

    The first step's factor is 0. Source: the projector of Karras et al. 2020.
    """

    down: float = 0.25
    up: float = 0.05

    def __call__(self, t: float) -> float:
        remaining = min(1.0, (1 - t) / self.down)
        falling = 0.5 * (1 - math.cos(math.pi * remaining))
        return falling * min(1.0, t / self.up)


@dataclass(frozen=True)
class CycleWithDrop:
    """0.1 → 1 → 0.1 in straight lines over 0.9 of the steps, then down to 0.001 (PULSE)."""

    def __call__(self, t: float) -> float:
        if t < 0.9:
            rise = 1 - 2 * abs(t / 0.9 - 0.5)  # 0 → 1 → 0
            return (9 * rise + 1) / 10
        drop = (t - 0.9) / 0.1
        return 0.1 + drop * (0.001 - 0.1)


def constant(t: float) -> float:
    """The schedule that leaves the learning rate as it is."""
    return 1.0


class Constraint:
    """Keeps the free tensors in a set after each step."""

    def init(self, values: Variables, conditions: Conditions) -> Variables:
        """Return what the constraint must remember of the first values."""
        return {}

    def apply(self, values: Variables, remembered: Variables, conditions: Conditions) -> Variables:
        """Return the values moved into the set."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sphere(Constraint):
    """Every z and every noise map keeps the length it began with (PULSE, ILO)."""

    def init(self, values: Variables, conditions: Conditions) -> Variables:
        lengths = {}
        for name, value in values.items():
            role = conditions.roles[name]
            if role in (roles.Z, roles.NOISE):
                lengths[name] = _length(value, role)
        return lengths

    def apply(self, values: Variables, remembered: Variables, conditions: Conditions) -> Variables:
        kept = dict(values)
        for name, length in remembered.items():
            value = values[name]
            kept[name] = value * length / _length(value, conditions.roles[name])
        return kept


@dataclass(frozen=True)
class L1Ball(Constraint):
    """z, noise maps and features stay within an L1 distance of where they began (ILO)."""

    z: float = math.inf
    noise: float = math.inf
    features: float = math.inf

    def init(self, values: Variables, conditions: Conditions) -> Variables:
        return dict(values)

    def apply(self, values: Variables, remembered: Variables, conditions: Conditions) -> Variables:
        radii = {roles.Z: self.z, roles.NOISE: self.noise, roles.FEATURES: self.features}
        kept = dict(values)
        for name, value in values.items():
            radius = radii.get(conditions.roles[name], math.inf)
            start = remembered[name]
            kept[name] = start + onto_l1_ball(value - start, radius)
        return kept


@dataclass(frozen=True)
class Whiten(Constraint):
    """Noise maps keep mean 0 and mean square 1 (the projector of StyleGAN2)."""

    def apply(self, values: Variables, remembered: Variables, conditions: Conditions) -> Variables:
        kept = dict(values)
        for name, value in values.items():
            role = conditions.roles[name]
            if role == roles.NOISE:
                centred = value - value.mean(role.axes, keepdim=True)
                power = centred.square().mean(role.axes, keepdim=True)
                kept[name] = centred * power.clamp_min(1e-12).rsqrt()
        return kept


def onto_l1_ball(d: Tensor, radius: float) -> Tensor:
    """Project each row of d [B, …] onto Σ|d| ≤ radius. Source: Duchi et al. 2008, Fig. 1."""
    flat = d.flatten(1)
    size = flat.abs()
    u = size.sort(1, descending=True).values
    excess = u.cumsum(1) - radius
    counts = torch.arange(1, u.shape[1] + 1, device=d.device)
    above = (u * counts > excess).sum(1, keepdim=True)
    last = above.clamp_min(1)
    mean_excess = excess.gather(1, last - 1) / last
    threshold = mean_excess.clamp_min(0)
    inside = size.sum(1, keepdim=True) <= radius
    shrunk = flat.sign() * (size - threshold).clamp_min(0)
    return torch.where(inside, flat, shrunk).view_as(d)


def _length(value: Tensor, role: Role) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(value, dim=role.axes, keepdim=True)
    return length.clamp_min(1e-12)


class AdamState(TypedDict):
    """step: how many are done. first, second: running means of the gradients and their squares."""

    step: int
    first: Variables
    second: Variables
    constraints: tuple[Variables, ...]


@dataclass(frozen=True)
class Adam(Optimiser[AdamState]):
    """m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  x ← x - lr·m̂/(√v̂ + ε).

    lr: for codes in units of a W whose coordinates spread as FFHQ's do; as it is for all else.
    z_lr: of z, where it differs. project: constraints, applied in this order after each step.
    Source: Kingma & Ba 2015.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Schedule = constant
    z_lr: float | None = None
    project: tuple[Constraint, ...] = ()

    def times(self, factor: float) -> Adam:
        z_lr = None if self.z_lr is None else self.z_lr * factor
        return replace(self, lr=self.lr * factor, z_lr=z_lr)

    def init(self, values: Variables, conditions: Conditions) -> AdamState:
        remembered = []
        for constraint in self.project:
            remembered.append(constraint.init(values, conditions))
        return {
            "step": 0,
            "first": tree_map(torch.zeros_like, values),
            "second": tree_map(torch.zeros_like, values),
            "constraints": tuple(remembered),
        }

    def update(
        self, grads: Variables, state: AdamState, values: Variables, conditions: Conditions
    ) -> tuple[Variables, AdamState]:
        beta1, beta2 = self.betas
        step = state["step"]
        factor = self.schedule(step / conditions.steps)
        first, second, moved = {}, {}, {}
        for name, value in values.items():
            g = finite_gradient(grads[name])
            first[name] = beta1 * state["first"][name] + (1 - beta1) * g
            second[name] = beta2 * state["second"][name] + (1 - beta2) * g.square()
            mean = first[name] / (1 - beta1 ** (step + 1))
            power = second[name] / (1 - beta2 ** (step + 1))
            rate = self._rate(conditions.roles[name], conditions.scale)
            moved[name] = value - factor * rate * mean / (power.sqrt() + self.eps)
        for constraint, remembered in zip(self.project, state["constraints"], strict=True):
            moved = constraint.apply(moved, remembered, conditions)
        return moved, {
            "step": step + 1,
            "first": first,
            "second": second,
            "constraints": state["constraints"],
        }

    def _rate(self, role: Role, scale: CodeScale) -> float:
        if role == roles.Z and self.z_lr is not None:
            return self.z_lr
        if role.follows_spread:
            return self.lr * scale.coordinate
        return self.lr


class StopRule(Generic[S]):
    """Ends the phase of single images early."""

    needs: tuple[str, ...] = ()  # the terms of the loss that the rule reads

    def init(self, batch: int) -> S:
        """Return the state before the first step."""
        return {}  # type: ignore[return-value]  # a rule with another state defines init

    def update(self, measured: Mapping[str, Tensor], state: S) -> tuple[Tensor, S]:
        """Return which images stop [B], and the next state.

        measured: the value [B] of each term by its name, and of their sum as "loss".
        """
        raise NotImplementedError


class PatienceState(TypedDict):
    """The lowest loss of each image so far, and how many steps ago it was reached."""

    best: Tensor
    since: Tensor


@dataclass(frozen=True)
class Patience(StopRule[PatienceState]):
    """Stop an image whose loss has not improved for this many steps."""

    steps: int = 15

    def init(self, batch: int) -> PatienceState:
        best = torch.full((batch,), math.inf, dtype=torch.float32, device="cpu")
        return {"best": best, "since": torch.zeros_like(best)}

    def update(
        self, measured: Mapping[str, Tensor], state: PatienceState
    ) -> tuple[Tensor, PatienceState]:
        loss = measured["loss"].cpu()
        since = torch.where(loss < state["best"], 0, state["since"] + 1)
        best = torch.minimum(state["best"], loss)
        return since >= self.steps, {"best": best, "since": since}


@dataclass(frozen=True)
class Below(StopRule[NoState]):
    """Stop an image, before it is moved, once a term of its loss is at most `limit`."""

    term: str
    limit: float

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.term,)

    def update(self, measured: Mapping[str, Tensor], state: NoState) -> tuple[Tensor, NoState]:
        return measured[self.term].cpu() <= self.limit, state
