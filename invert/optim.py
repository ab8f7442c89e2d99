"""How a search moves: optimisers, schedules and constraints.

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
from torch.linalg import vector_norm

from . import roles
from .axes import Axes
from .roles import Role, Variables
from .tree import tree_map

Schedule = Callable[[float], float]  # share of the phase's steps done → factor of the learning rate
S = TypeVar("S")  # an optimiser's state

FFHQ_SPREAD = 9.5  # mean ‖w - w_avg‖ of the generator for which learning rates were published
FFHQ_W_DIM = 512
SHORTEST = 1e-12  # shorter vectors count as this long, so that nothing is divided by 0


@dataclass(frozen=True)
class CodeScale:
    """How far apart the codes of W lie, relative to those of the FFHQ generator.

    Published learning rates of codes are for FFHQ; optimisers multiply them by this scale.

    length: of whole codes, mean ‖w - w_avg‖ / 9.5. coordinate: of one coordinate of a code,
    (mean ‖w - w_avg‖ / √w_dim) / (9.5 / √512). Both are numbers, or tensors [B].
    """

    length: float | Tensor = 1.0
    coordinate: float | Tensor = 1.0

    @staticmethod
    def of(spread: float, w_dim: int) -> CodeScale:
        """The scale of a generator with this mean ‖w - w_avg‖ and this many coordinates."""
        published = FFHQ_SPREAD / math.sqrt(FFHQ_W_DIM)
        coordinate = spread / math.sqrt(w_dim)
        return CodeScale(length=spread / FFHQ_SPREAD, coordinate=coordinate / published)

    def times(self, factor: Tensor) -> CodeScale:
        """The scale multiplied by a factor for each image, [B]."""
        return CodeScale(self.length * factor, self.coordinate * factor)


@dataclass(frozen=True)
class Conditions:
    """What stays the same during a phase: roles of the free tensors, and the number of steps.

    axes: the principal axes of W, for an optimiser that asks for them.
    """

    roles: Mapping[str, Role]
    steps: int
    scale: CodeScale = field(default_factory=CodeScale)
    axes: Axes | None = None


def ngd(latent: Tensor, grad: Tensor, lr: float | Tensor) -> Tensor:
    """v ← v - lr·g/‖g‖ for every code v (last axis) separately. A code with g = 0 stays.

    The scale of the loss cancels, and a code travels at most lr·steps. That bound is the only
    regularisation of the method. lr: a number, or a tensor that broadcasts against the codes.
    Source: Poirier-Ginter & Lalonde 2023, Algorithm 1.
    """
    scaled = of_unit_size(grad)
    norm = vector_norm(scaled, dim=-1, keepdim=True)
    direction = torch.where(norm > 0, scaled / norm, 0.0)
    return latent - lr * direction


def of_unit_size(grad: Tensor) -> Tensor:
    """Divide each code's gradient by its largest entry, so that no square of it becomes 0."""
    grad = finite_gradient(grad)
    largest = grad.abs().amax(-1, keepdim=True)
    return torch.where(largest > 0, grad / largest, 0.0)


def for_images(factor: float | Tensor, value: Tensor) -> float | Tensor:
    """A number, or one per image [B] in a shape that broadcasts against a value [B, …]."""
    if isinstance(factor, Tensor):
        ones = (1,) * (value.ndim - 1)
        return factor.view(-1, *ones)
    return factor


def finite_gradient(grad: Tensor) -> Tensor:
    """The gradient with 0 in place of NaN and infinity."""
    return torch.nan_to_num(grad, posinf=0.0, neginf=0.0)


def constant(t: float) -> float:
    """The schedule that leaves the learning rate as it is."""
    return 1.0


def falling(t: float) -> float:
    """2 → 0 in a straight line: the steps add up to as much as under `constant`."""
    return 2 * (1 - t)


class Optimiser(Generic[S]):
    """Moves the free tensors of a phase.

    An optimiser of your own defines `update`, `init` if it has a state, and `times` if its learning
    rates are to be tuned. One with `needs_axes` gets the principal axes of W in its conditions.
    """

    @property
    def needs_axes(self) -> bool:
        return False

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


class StepState(TypedDict):
    """How many steps are done."""

    step: int


@dataclass(frozen=True)
class NGD(Optimiser[StepState]):
    """Normalised gradient descent, see `ngd`.

    lr: the length of a step. For codes it is in units of a W with FFHQ's spread. schedule: its
    factor, at the middle of each step. stretch: the gradient of a code is multiplied by C^stretch
    before it is normalised, with C the covariance of W. With 0 all directions are alike; with ½ a
    code goes further where W spreads, and less far where an image would become implausible.
    """

    lr: float
    schedule: Schedule = constant
    stretch: float = 0.0

    @property
    def needs_axes(self) -> bool:
        return self.stretch != 0

    def times(self, factor: float) -> NGD:
        return replace(self, lr=self.lr * factor)

    def over(self, share: float) -> NGD:
        """Take longer steps when there are fewer: the distance travelled is what regularises."""
        return self.times(1 / share)

    def init(self, values: Variables, conditions: Conditions) -> StepState:
        return {"step": 0}

    def update(
        self, grads: Variables, state: StepState, values: Variables, conditions: Conditions
    ) -> tuple[Variables, StepState]:
        step = state["step"]
        step_length = self.lr * self.schedule((step + 0.5) / conditions.steps)
        moved = {}
        for name, value in values.items():
            grad = grads[name]
            lr: float | Tensor = step_length
            if conditions.roles[name].follows_spread:
                lr = for_images(step_length * conditions.scale.length, value)
                if conditions.axes is not None:
                    grad = conditions.axes.stretched(of_unit_size(grad), self.stretch)
            moved[name] = ngd(value, grad, lr)
        return moved, {"step": step + 1}


@dataclass(frozen=True)
class Ramp:
    """Rise linearly over the first share `up` of the steps, fall as a cosine over the last `down`.

    The first step's factor is 0. Source: the projector of Karras et al. 2020.
    """

    down: float = 0.25
    up: float = 0.05

    def __call__(self, t: float) -> float:
        rising = min(1.0, t / self.up)
        remaining = min(1.0, (1 - t) / self.down)
        cosine = math.cos(math.pi * remaining)
        falling = 0.5 * (1 - cosine)
        return falling * rising


@dataclass(frozen=True)
class CycleWithDrop:
    """0.1 → 1 → 0.1 in straight lines over 0.9 of the steps, then down to 0.001 (PULSE)."""

    def __call__(self, t: float) -> float:
        if t < 0.9:
            share = t / 0.9
            rise = 1 - 2 * abs(share - 0.5)  # 0 → 1 → 0
            return (9 * rise + 1) / 10
        drop = (t - 0.9) / 0.1
        return 0.1 + drop * (0.001 - 0.1)


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
            role = conditions.roles[name]
            kept[name] = value * length / _length(value, role)
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
        kept = {}
        for name, value in values.items():
            role = conditions.roles[name]
            radius = radii.get(role, math.inf)
            start = remembered[name]
            offset = onto_l1_ball(value - start, radius)
            kept[name] = start + offset
        return kept


@dataclass(frozen=True)
class Whiten(Constraint):
    """Bring noise maps back to mean 0 and mean square 1 (the projector of StyleGAN2)."""

    def apply(self, values: Variables, remembered: Variables, conditions: Conditions) -> Variables:
        kept = dict(values)
        for name, value in values.items():
            role = conditions.roles[name]
            if role == roles.NOISE:
                mean = value.mean(role.axes, keepdim=True)
                centred = value - mean
                power = centred.square().mean(role.axes, keepdim=True)
                power = power.clamp_min(SHORTEST)
                kept[name] = centred * power.rsqrt()
        return kept


def onto_l1_ball(d: Tensor, radius: float) -> Tensor:
    """Project each row of d [B, …] onto Σ|d| ≤ radius. Source: Duchi et al. 2008, Fig. 1."""
    flat = d.flatten(1)
    size = flat.abs()
    largest_first = size.sort(1, descending=True).values
    excess = largest_first.cumsum(1) - radius
    entries = size.shape[1]
    counts = torch.arange(1, entries + 1, device=d.device)
    above = largest_first * counts > excess
    count = above.sum(1, keepdim=True)
    count = count.clamp_min(1)
    mean_excess = excess.gather(1, count - 1) / count
    threshold = mean_excess.clamp_min(0)
    shrunk_size = size - threshold
    shrunk = flat.sign() * shrunk_size.clamp_min(0)
    norm = size.sum(1, keepdim=True)
    projected = torch.where(norm <= radius, flat, shrunk)
    return projected.view_as(d)


def _length(value: Tensor, role: Role) -> Tensor:
    length: Tensor = vector_norm(value, dim=role.axes, keepdim=True)
    return length.clamp_min(SHORTEST)


class AdamState(TypedDict):
    """step: how many are done. first, second: running means of the gradients and their squares."""

    step: int
    first: Variables
    second: Variables
    constraints: tuple[Variables, ...]


@dataclass(frozen=True)
class Adam(Optimiser[AdamState]):
    """m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  x ← x - lr·m̂/(√v̂ + ε).

    lr: the learning rate. For codes its unit is a W whose coordinates spread as those of FFHQ do.
    z_lr: the learning rate of z, if it differs. project: constraints, applied in this order after
    each step.
    Source: Kingma & Ba 2015.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Schedule = constant
    z_lr: float | None = None
    project: tuple[Constraint, ...] = ()

    def times(self, factor: float) -> Adam:
        lr = self.lr * factor
        z_lr = None if self.z_lr is None else self.z_lr * factor
        return replace(self, lr=lr, z_lr=z_lr)

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
            first[name] = _running_mean(state["first"][name], g, beta1)
            second[name] = _running_mean(state["second"][name], g.square(), beta2)
            mean = first[name] / (1 - beta1 ** (step + 1))
            power = second[name] / (1 - beta2 ** (step + 1))
            rate = factor * self._rate(conditions.roles[name], conditions.scale, value)
            moved[name] = value - rate * mean / (power.sqrt() + self.eps)
        remembered = state["constraints"]
        for constraint, of_constraint in zip(self.project, remembered, strict=True):
            moved = constraint.apply(moved, of_constraint, conditions)
        return moved, {
            "step": step + 1,
            "first": first,
            "second": second,
            "constraints": remembered,
        }

    def _rate(self, role: Role, scale: CodeScale, value: Tensor) -> float | Tensor:
        if role == roles.Z and self.z_lr is not None:
            return self.z_lr
        if role.follows_spread:
            return for_images(self.lr * scale.coordinate, value)
        return self.lr


def _running_mean(old: Tensor, new: Tensor, beta: float) -> Tensor:
    return beta * old + (1 - beta) * new
