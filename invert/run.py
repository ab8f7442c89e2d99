"""Run a phase: step after step, the whole batch at once or the images one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .phase import Phase
from .point import Point
from .problem import Problem
from .result import Report, Step
from .search import Measurement, Search


@dataclass(frozen=True)
class PhaseResult:
    """The end of a phase: the point, its image, which images stayed finite [B], and its history.

    losses: [steps, B]. terms: [steps, B] each. Both are on the CPU.
    """

    point: Point
    image: Tensor
    finite: Tensor
    losses: Tensor
    terms: dict[str, Tensor]


class Reporter:
    """Turns what a search measures into the `Step`s that a callback gets."""

    def __init__(self, phases: tuple[Phase, ...], problem: Problem, report: Report):
        self.generator = problem.generator
        self.report = report
        self.total = 0
        for phase in phases:
            self.total += phase.steps * phase.runs(problem.batch)
        self.done = 0

    def measured(self, phase: Phase, number: int, measurement: Measurement) -> None:
        """Report step `number` of the current run of a phase."""

        def read_latent() -> Tensor:
            point = measurement.place()
            return self.generator.unpack(point.latent)

        step = Step(
            phase=phase,
            step=self.done + number,
            total=self.total,
            loss=measurement.loss,
            terms=measurement.terms,
            image=measurement.image,
            prediction=measurement.prediction,
            read_latent=read_latent,
        )
        self.report(step)

    def ended(self, phase: Phase) -> None:
        """Count the steps of a run that has ended, also those that it did not need."""
        self.done += phase.steps


def run(phase: Phase, point: Point, problem: Problem, key: str, reporter: Reporter) -> PhaseResult:
    """Run one phase: the whole batch at once, or the images one by one where the space asks."""
    if not phase.space.per_image:
        return run_batch(phase, point, problem, key, reporter)
    results = []
    for i in range(problem.batch):
        result = run_batch(phase, point.row(i), problem.row(i), key, reporter)
        results.append(result)
    return joined(results)


def run_batch(
    phase: Phase, point: Point, problem: Problem, key: str, reporter: Reporter
) -> PhaseResult:
    """Run one phase for a batch."""
    search = Search.of(phase, point, problem, key)
    state = search.init()
    losses: list[Tensor] = []
    terms: list[Mapping[str, Tensor]] = []
    while not search.ended(state):
        state, measurement = search.step(state)
        losses.append(measurement.loss)
        terms.append(measurement.terms)
        reporter.measured(phase, state.step, measurement)
    reporter.ended(phase)
    end, image, finite = search.finish(state)
    histories = {}
    for name, _, _ in search.measures:
        values = [terms_of_step[name] for terms_of_step in terms]
        histories[name] = stacked(values, problem.batch)
    losses_of_steps = stacked(losses, problem.batch)
    return PhaseResult(end, image, finite, losses_of_steps, histories)


def stacked(values: list[Tensor], batch: int) -> Tensor:
    """Stack values [B] of single steps to [steps, B] on the CPU."""
    if not values:
        return torch.empty(0, batch, device="cpu", dtype=torch.float32)
    return torch.stack(values).cpu()


def joined(results: list[PhaseResult]) -> PhaseResult:
    """Join the results of single images; shorter histories repeat their last row."""
    points, images, finite, losses = [], [], [], []
    for result in results:
        points.append(result.point)
        images.append(result.image)
        finite.append(result.finite)
        losses.append(result.losses)
    terms = {}
    for name in results[0].terms:
        histories = [result.terms[name] for result in results]
        terms[name] = side_by_side(histories)
    return PhaseResult(
        point=Point.cat(points),
        image=torch.cat(images),
        finite=torch.cat(finite),
        losses=side_by_side(losses),
        terms=terms,
    )


def side_by_side(histories: list[Tensor]) -> Tensor:
    """Join the histories [steps, 1] of single images to [steps, B]."""
    longest = max(map(len, histories))
    columns = [extended(history, longest) for history in histories]
    return torch.cat(columns, 1)


def extended(history: Tensor, length: int) -> Tensor:
    """Repeat the last row of a history [steps, B] up to this length."""
    missing = length - len(history)
    last = history[-1:].expand(missing, -1)
    return torch.cat([history, last])


def joined_losses(results: list[PhaseResult], batch: int) -> Tensor:
    """Join the phases' losses to [steps, B]."""
    histories = [stacked([], batch)]
    for result in results:
        histories.append(result.losses)
    return torch.cat(histories)


def joined_terms(results: list[PhaseResult]) -> dict[str, Tensor]:
    """Join the phases' histories of terms; NaN where a phase lacks the term."""
    names: dict[str, None] = {}  # as an ordered set
    for result in results:
        names |= dict.fromkeys(result.terms)
    histories = {}
    for name in names:
        parts = []
        for result in results:
            missing = torch.full_like(result.losses, math.nan)
            parts.append(result.terms.get(name, missing))
        histories[name] = torch.cat(parts)
    return histories
