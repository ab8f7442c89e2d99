"""Run a phase: step after step, the whole batch at once or the images one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .point import Point
from .problem import Problem
from .result import Report, Step
from .search import Measurement, Search

if TYPE_CHECKING:
    from .phases import Phase


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
        self.total = sum(phase.steps * phase.runs(problem.batch) for phase in phases)
        self.generator, self.report = problem.generator, report
        self.done = 0

    def measured(self, phase: Phase, number: int, measurement: Measurement) -> None:
        """Report step `number` of the current run of a phase."""
        unpack, place = self.generator.unpack, measurement.place
        self.report(
            Step(
                phase=phase,
                step=self.done + number,
                total=self.total,
                loss=measurement.loss,
                terms=measurement.terms,
                image=measurement.image,
                prediction=measurement.prediction,
                read_latent=lambda: unpack(place().latent),
            )
        )

    def ended(self, phase: Phase) -> None:
        """Count the steps of a run that has ended, also those that it did not need."""
        self.done += phase.steps


def run(phase: Phase, point: Point, problem: Problem, key: str, reporter: Reporter) -> PhaseResult:
    """Run one phase: the whole batch at once, or the images one by one where the space asks."""
    if not phase.space.per_image:
        return run_batch(phase, point, problem, key, reporter)
    results = []
    for i in range(problem.batch):
        results.append(run_batch(phase, point.row(i), problem.row(i), key, reporter))
    return joined(results)


def run_batch(
    phase: Phase, point: Point, problem: Problem, key: str, reporter: Reporter
) -> PhaseResult:
    """Run one phase for a batch."""
    search = Search.of(phase, point, problem, key)
    state = search.init()
    losses: list[Tensor] = []
    terms: dict[str, list[Tensor]] = {name: [] for name, _, _ in search.measures}
    while not search.ended(state):
        state, measurement = search.step(state)
        losses.append(measurement.loss)
        for name, value in measurement.terms.items():
            terms[name].append(value)
        reporter.measured(phase, state.step, measurement)
    reporter.ended(phase)
    end, image, finite = search.finish(state)
    histories = {name: stacked(values, problem.batch) for name, values in terms.items()}
    return PhaseResult(end, image, finite, stacked(losses, problem.batch), histories)


def stacked(values: list[Tensor], batch: int) -> Tensor:
    """Stack values [B] of single steps to [steps, B] on the CPU."""
    if not values:
        return torch.empty(0, batch, device="cpu", dtype=torch.float32)
    return torch.stack(values).cpu()


def joined(results: list[PhaseResult]) -> PhaseResult:
    """Join the results of single images; shorter histories repeat their last row."""
    longest = max(len(result.losses) for result in results)
    losses = [extended(result.losses, longest) for result in results]
    terms = {}
    for name in results[0].terms:
        terms[name] = torch.cat([extended(r.terms[name], longest) for r in results], 1)
    return PhaseResult(
        point=Point.cat([result.point for result in results]),
        image=torch.cat([result.image for result in results]),
        finite=torch.cat([result.finite for result in results]),
        losses=torch.cat(losses, 1),
        terms=terms,
    )


def extended(history: Tensor, length: int) -> Tensor:
    """Repeat the last row of a history [steps, B] up to this length."""
    return torch.cat([history, history[-1:].expand(length - len(history), -1)])


def joined_losses(results: list[PhaseResult], batch: int) -> Tensor:
    """Join the phases' losses to [steps, B]."""
    histories = [stacked([], batch)]
    for result in results:
        histories.append(result.losses)
    return torch.cat(histories)


def joined_terms(results: list[PhaseResult]) -> dict[str, Tensor]:
    """Join the phases' histories of terms; NaN where a phase lacks the term."""
    names = dict.fromkeys(name for result in results for name in result.terms)
    histories = {}
    for name in names:
        parts = []
        for result in results:
            missing = torch.full_like(result.losses, math.nan)
            parts.append(result.terms.get(name, missing))
        histories[name] = torch.cat(parts)
    return histories
