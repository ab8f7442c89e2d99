"""Plug-and-play restoration of any photo: a denoiser and the exact operator take turns.

The operator is split into a linear part A and an error (`linear_model`). A step removes noise of
level σ from the image, then moves the image as far to the observation as σ and the error allow
(half-quadratic splitting). σ falls to a level that depends on the error. Which level removes it
best is found by trial: the operator damages pictures whose truth is known. So no constant
depends on the task.
Source: Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior" (DPIR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from degrade.knowledge import Agrees
from degrade.noise import Gaussian
from degrade.operator import Operator, Shape, compose

from .defects import buried_losses, with_found_mask, with_likely_mask
from .method import RestorationMethod
from .orientation import HALF_TURN, known_turns
from .problem import Problem
from .result import Report, Restoration, Step
from .sampling import Sampling, check_drawn, check_linear, report_step, restoration
from .strength import TRIAL_STEPS, Strength, find_strength, of_variant, turns
from .tiles import blend, tiles
from .trials import TRIAL_CENTRES, estimate_trial
from .white_noise import refined, refines

MASK_ROUNDS = 3  # in which pixels that were lost below a JPEG or noise are found


@dataclass(frozen=True)
class PlugAndPlay(RestorationMethod):
    """Denoise and fit the observation in turns, at falling noise levels.

    steps: how many turns; an operator without a linear part needs one. first_sigma: the noise level
    of the first. last_sigma: the lowest, which an operator without an error ends at. tile: longer
    pictures are restored in parts of about this side, margin: which overlap by twice this.
    """

    steps: int = 12
    first_sigma: float = 0.4
    last_sigma: float = 0.015
    tile: int = 384
    margin: int = 48
    source: str = "Zhang et al. 2021, Plug-and-Play Image Restoration with Deep Denoiser Prior"
    departures: str = (
        "noise levels found by trial on pictures of known truth; pixels lost below a JPEG found; "
        "exact data consistency at the end; "
        "conjugate gradients for every linear operator"
    )

    prior_kind = "denoiser"
    draws = False
    options = frozenset({"class_label"})

    def stages(self) -> tuple[Sampling]:
        return (Sampling(self.steps, "plug and play"),)

    def with_steps(self, steps: int) -> PlugAndPlay:
        return replace(self, steps=steps)

    def check(self, problem: Problem) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be 1 or more for a method with a denoiser")
        check_drawn(problem)
        check_linear(problem)

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> Restoration:
        images = torch.zeros(problem.image_shape, dtype=torch.float32, device=problem.device)
        histories = []
        notes: list[str] = []
        for i in range(problem.batch):
            history, row_notes = self._restore_row(images[i : i + 1], problem.row(i), report)
            histories.append(history)
            notes.extend(row_notes)
        (phase,) = self.stages()
        distinct_notes = tuple(dict.fromkeys(notes))
        return restoration(phase, images, torch.stack(histories, 1), distinct_notes)

    def _restore_row(self, image: Tensor, row: Problem, report: Report) -> tuple[Tensor, list[str]]:
        """Restore one image into zeros; return the loss of each step [steps], and notes.

        If pixels were lost below a JPEG or noise, they are found by what the restoration of the
        round before predicts, and become a mask, unless a trial says that it does not help.
        """
        row, found = with_found_mask(row)
        lossy = buried_losses(row.operator, row.image_shape)
        rounds = 1 if lossy is None else 1 + MASK_ROUNDS
        history, note = self._restore_once(image, row, share_of(report, 0, rounds))
        notes = [found, note]
        if lossy is not None and self._finding_helps(row, lossy, image):
            for number in range(1, rounds):
                masked, likely = with_likely_mask(row, lossy, image)
                image.zero_()
                report_round = share_of(report, number, rounds)
                history, note = self._restore_once(image, masked, report_round)
                notes = [found, likely, note]
        return history, [note for note in notes if note]

    def _restore_once(self, image: Tensor, row: Problem, report: Report) -> tuple[Tensor, str]:
        """Restore one image into zeros; return the loss of each step, and a note."""
        strength = find_strength(row, self.steps, self.first_sigma, self.last_sigma)
        history = self._restore_into(image, row, strength, report)
        return history, strength.note

    def _finding_helps(self, row: Problem, lossy: int, image: Tensor) -> bool:
        """Whether parts of the first restoration are restored better if lost pixels are found.

        lossy: the position of the stage that loses them.
        """
        gain = 0.0
        for number in (0, len(TRIAL_CENTRES) - 1):
            trial = estimate_trial(row, image, number)
            first = self._of_trial(trial.problem)
            masked, _ = with_likely_mask(trial.problem, lossy, first)
            second = self._of_trial(masked)
            gain += mse(first, trial.truth) - mse(second, trial.truth)
        return gain > 0

    def _of_trial(self, problem: Problem) -> Tensor:
        """The restoration of a trial, in few turns."""
        strength = find_strength(problem, TRIAL_STEPS, self.first_sigma, self.last_sigma)
        *_, x0 = turns(problem, strength)
        return x0.clamp(0, 1)

    def _restore_into(
        self, image: Tensor, problem: Problem, strength: Strength, report: Report
    ) -> Tensor:
        """Restore one image part by part into zeros; return the loss of each step [steps]."""
        problem = of_variant(problem, strength)
        operator = cuttable(problem.operator, problem.image_shape, strength.error)
        parts = tiles(operator, problem.image_shape, self.tile, self.margin)
        (phase,) = self.stages()
        turns_each = max(1, len(strength.levels))
        total = turns_each * len(parts)
        is_white = refines(problem.operator, strength)
        orientations = () if is_white else known_turns(problem.denoiser, HALF_TURN)
        losses = torch.zeros(len(parts), self.steps, dtype=torch.float32, device="cpu")
        for number, part in enumerate(parts):
            rows, columns = part.observed
            y = problem.observation[..., rows, columns]
            part_problem = replace(problem, observation=y, operator=part.operator)
            for step, x0 in enumerate(turns(part_problem, strength, orientations), 1):
                if step == turns_each:
                    if is_white:
                        x0 = refined(part_problem, strength, x0)
                    x0 = consistent(part.operator, x0, y)
                done = number * turns_each + step
                loss = report_step(phase, part_problem, done, total, x0, report)
                losses[number, step - 1 :] = loss
            blend(image, part, x0)
        return losses.mean(0)


def share_of(report: Report, number: int, rounds: int) -> Report:
    """A report for one of several rounds, which counts the steps of all."""

    def report_round(step: Step) -> None:
        done = number * step.total + step.step
        report(replace(step, step=done, total=rounds * step.total))

    return report_round


def mse(x: Tensor, y: Tensor) -> float:
    """The mean squared difference of two images."""
    return float((x - y).square().mean())


def cuttable(operator: Operator, shape: Shape, error: float) -> Operator:
    """The operator for tiles; a stage that uses the whole image, as a codec does, becomes noise.

    Only a stage of which nothing certain follows is replaced.
    """
    stages: list[Operator] = []
    for stage in operator:
        keeps_shape = tuple(stage.output_shape(shape)) == tuple(shape)
        uses_whole = math.isinf(stage.reach(shape)) and keeps_shape
        if uses_whole and not stage.linear and not isinstance(stage, Agrees):
            stages.append(Gaussian(min(error, 1.0)))
        else:
            stages.append(stage)
        shape = tuple(stage.output_shape(shape))
    return compose(stages)


def consistent(operator: Operator, x0: Tensor, y: Tensor) -> Tensor:
    """The estimate within [0, 1], with what the observation says for certain (data consistency)."""
    return operator.project(x0.clamp(0, 1), y).clamp(0, 1)
