"""The search of one phase, as an explicit state and a step.

    search = Search.of(phase, point, problem, "phase0")
    state = search.init()
    while not search.ended(state):
        state, measurement = search.step(state)
    point, image, finite = search.finish(state)

A state holds tensors, numbers and dictionaries of them. `torch.save(vars(state), path)` saves it,
and `SearchState(**torch.load(path, weights_only=True))` resumes with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from degrade.rng import Rng

from .loss import Measure, Term, View
from .optim import CodeScale, Conditions
from .phase import Phase
from .point import Moment, Point
from .problem import Problem
from .roles import Variables
from .stopping import Measured, StopRule
from .tree import finite_rows, tree_map, tree_where

CHECK_EVERY = 10  # steps between looks at whether all images have stopped, where no rule asks


class RollbackState(TypedDict):
    """The last values with a finite loss, and whether every loss of an image was finite, [B]."""

    values: Variables
    finite: Tensor


@dataclass(frozen=True)
class Rollback:
    """Takes an image whose loss is not finite back to its last good values."""

    def init(self, values: Variables) -> RollbackState:
        first = next(iter(values.values()))
        finite = torch.ones(len(first), dtype=torch.bool, device=first.device)
        return {"values": values, "finite": finite}

    def update(
        self, values: Variables, good: Tensor, state: RollbackState
    ) -> tuple[Variables, RollbackState]:
        values = tree_where(good, values, state["values"])
        finite = state["finite"] & good
        return values, {"values": values, "finite": finite}


class BestState(TypedDict):
    """The values at which a term was lowest, and the term's value [B] there."""

    values: Variables
    lowest: Tensor


@dataclass(frozen=True)
class BestSoFar:
    """Remembers where a term of the loss was lowest, for each image."""

    term: str

    def init(self, values: Variables) -> BestState:
        first = next(iter(values.values()))
        batch = len(first)
        lowest = torch.full((batch,), math.inf, dtype=torch.float32, device=first.device)
        return {"values": values, "lowest": lowest}

    def update(
        self, values: Variables, measured: Measured, good: Tensor, state: BestState
    ) -> BestState:
        value = measured[self.term]
        lower = good & (value < state["lowest"])
        return {
            "values": tree_where(lower, values, state["values"]),
            "lowest": torch.where(lower, value, state["lowest"]),
        }


@dataclass(frozen=True)
class Never(StopRule[dict[str, Tensor]]):
    """Stops no image."""

    def update(
        self, measured: Measured, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        stopped = torch.zeros_like(measured["loss"], dtype=torch.bool)
        return stopped, state


@dataclass(frozen=True)
class SearchState:
    """Where a phase stands before its next step.

    values: the free tensors. active: [B], the images that still move. optimiser, stop, rollback and
    best are the states of the four parts of a search.
    """

    step: int
    values: Variables
    active: Tensor
    optimiser: Mapping[str, object]
    stop: Mapping[str, object]
    rollback: RollbackState
    best: BestState | None


@dataclass(frozen=True)
class Measurement:
    """What a step measured, before it moved.

    loss: [B], NaN where it is not finite. terms: each term's value [B] before its weight. place:
    makes the point that the step led to.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    image: Tensor
    prediction: Tensor
    place: Callable[[], Point]


@dataclass(frozen=True)
class Search:
    """One phase, made ready for one problem.

    base: the point that the phase is relative to. initial: the first values of the free tensors.
    key: names the random streams of its draws. measures: for each term of the loss its name, the
    term, and the function that computes its value.
    """

    phase: Phase
    problem: Problem
    key: str
    base: Point
    initial: Variables
    conditions: Conditions
    measures: tuple[tuple[str, Term, Measure], ...]

    @staticmethod
    def of(phase: Phase, point: Point, problem: Problem, key: str) -> Search:
        """Make a phase ready that begins at `point`."""
        base, free = phase.space.begin(point, problem)
        initial = {}
        roles = {}
        for name, variable in free.items():
            initial[name] = variable.value.detach()
            roles[name] = variable.role
        scale = code_scale(problem)
        if phase.reach is not None:
            scale = scale.times(phase.reach(problem, image_of(point, problem)))
        axes = problem.w_axes if phase.optimiser.needs_axes and problem.has_w else None
        conditions = Conditions(roles, phase.steps, scale, axes)
        measures = []
        for name, term in phase.named_terms(problem):
            measures.append((name, term, term.prepare(problem)))
        return Search(
            phase=phase,
            problem=problem,
            key=key,
            base=base.detached(),
            initial=initial,
            conditions=conditions,
            measures=tuple(measures),
        )

    def init(self) -> SearchState:
        """Return the state before the first step."""
        best = None if self.best is None else self.best.init(self.initial)
        rollback = self.rollback.init(self.initial)
        return SearchState(
            step=0,
            values=self.initial,
            active=rollback["finite"],
            optimiser=self.phase.optimiser.init(self.initial, self.conditions),
            stop=self.stop.init(self.problem.batch),
            rollback=rollback,
            best=best,
        )

    def ended(self, state: SearchState) -> bool:
        """Whether there is no further step."""
        if state.step >= self.phase.steps:
            return True
        is_time_to_check = state.step % CHECK_EVERY == 0
        if self.phase.stop is None and not is_time_to_check:
            return False
        return not state.active.any()

    def step(self, state: SearchState) -> tuple[SearchState, Measurement]:
        """Measure the loss, and move the images that are still active."""
        view, usable = self._look(state)
        terms, loss, grads = self._measure(view, usable)
        good = torch.isfinite(loss)
        values = tree_map(Tensor.detach, view.variables)
        values, rollback = self.rollback.update(values, good, state.rollback)
        measured = {**terms, "loss": loss}
        stopped, stop = self.stop.update(measured, state.stop)
        goes_on = ~stopped.to(good.device)
        active = state.active & good & goes_on
        best = state.best
        if self.best is not None and best is not None:
            best = self.best.update(values, measured, good, best)
        moved, optimiser = self.phase.optimiser.update(
            grads, state.optimiser, values, self.conditions
        )
        moved = tree_where(active, moved, values)
        following = SearchState(
            step=state.step + 1,
            values=moved,
            active=active,
            optimiser=optimiser,
            stop=stop,
            rollback=rollback,
            best=best,
        )
        measurement = Measurement(
            loss=loss,
            terms=terms,
            image=view.image.detach(),
            prediction=view.prediction.detach(),
            place=self._placer(moved),
        )
        return following, measurement

    def finish(self, state: SearchState) -> tuple[Point, Tensor, Tensor]:
        """Return the final point, its image, and which images stayed finite [B]."""
        values = state.values if state.best is None else state.best["values"]
        finite = state.rollback["finite"]
        point, image = self._end(values)
        good = finite_rows(image).flatten()
        if not good.all():  # no loss was measured after the last step
            values = tree_where(good, values, state.rollback["values"])
            point, image = self._end(values)
            finite = finite & good
        return point, image.clamp(0, 1), finite.cpu()

    def _end(self, values: Variables) -> tuple[Point, Tensor]:
        """The point of these values at the end of the phase, and its image."""
        point = self._placer(values)().detached()
        image = image_of(point, self.problem)
        return point, image

    @property
    def rollback(self) -> Rollback:
        return Rollback()

    @property
    def best(self) -> BestSoFar | None:
        return BestSoFar(self.phase.keep) if self.phase.keep else None

    @property
    def stop(self) -> StopRule:
        return self.phase.stop or Never()

    def _look(self, state: SearchState) -> tuple[View, Tensor]:
        """Synthesize and degrade; also return which images are finite [B]."""
        step = state.step
        free = tree_map(as_leaf, state.values)
        rng = self._rng(step)
        moment = Moment(step / self.phase.steps, rng)
        point = self.phase.space.place(free, self.base, self.problem, moment)
        image = point.image(self.problem.generator)
        usable = finite_rows(image.detach())
        # An image that is not finite becomes 0, so that it cannot spoil the gradients of others.
        image = torch.where(usable, image, 0.0)
        prediction = self.problem.predict(image, f"{self.key}/{step}")
        view = View(prediction, image, point, free, rng, step, self._rng)
        return view, usable.flatten()

    def _measure(self, view: View, usable: Tensor) -> tuple[dict[str, Tensor], Tensor, Variables]:
        """Return the terms, their weighted sum, and its gradients."""
        terms = {}
        loss = self.problem.zeros()
        for name, term, measure in self.measures:
            value = measure(view)
            check_per_image(term, value, self.problem.batch)
            loss = loss + term.weight * value
            terms[name] = torch.where(usable, value.detach(), math.nan)
        grads = gradients(loss, view.variables)
        usable_loss = torch.where(usable, loss.detach(), math.nan)
        return terms, usable_loss, grads

    def _rng(self, step: int) -> Rng:
        return self.problem.rng(f"{self.key}/{step}")

    def _placer(self, values: Variables) -> Callable[[], Point]:
        no_draws = Rng.of((), 0)
        end = Moment(1.0, no_draws)
        return lambda: self.phase.space.place(values, self.base, self.problem, end)


def as_leaf(value: Tensor) -> Tensor:
    """The tensor as a leaf that gets a gradient."""
    return value.detach().requires_grad_()


@torch.no_grad()
def image_of(point: Point, problem: Problem) -> Tensor:
    """Synthesize the image of a point without gradients."""
    return point.image(problem.generator)


def code_scale(problem: Problem) -> CodeScale:
    """The scale of the learning rates of codes: `lr_scale`, or the generator's spread of W."""
    if problem.lr_scale is not None:
        return CodeScale(problem.lr_scale, problem.lr_scale)
    if not problem.has_w:
        return CodeScale()
    return CodeScale.of(problem.style.w_spread, problem.style.w_dim)


def check_per_image(term: Term, value: Tensor, batch: int) -> None:
    """Raise ValueError for a term that does not give one number per image."""
    if tuple(value.shape) != (batch,):  # a mean over the batch would mix its images
        raise ValueError(
            f"term {term.name!r} gives {list(value.shape)}; give a number for each image, [B]"
        )


def gradients(loss: Tensor, variables: Variables) -> Variables:
    """Differentiate the sum of loss [B]; 0 for variables that it does not depend on."""
    complete = tree_map(torch.zeros_like, variables)
    if not loss.requires_grad:  # no term depends on the image, such as LPIPS alone at 8×8
        return complete
    tensors = tuple(variables.values())
    grads = torch.autograd.grad(loss.sum(), tensors, allow_unused=True)
    for name, grad in zip(variables, grads, strict=True):
        if grad is not None:
            complete[name] = grad
    return complete
