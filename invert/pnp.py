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

from .defects import with_found_mask
from .method import RestorationMethod
from .orientation import HALF_TURN, known_turns
from .problem import Problem
from .result import Report, Restoration
from .sampling import Sampling, check_drawn, check_linear, report_step, restoration
from .strength import Strength, find_strength, turns
from .tiles import blend, tiles
from .white_noise import refined, refines


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
    tile: int = 448
    margin: int = 48
    source: str = "Zhang et al. 2021, Plug-and-Play Image Restoration with Deep Denoiser Prior"
    departures: str = (
        "noise levels found by trial on pictures of known truth; exact data consistency at the end; "
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
            row, found = with_found_mask(problem.row(i))
            strength = find_strength(row, self.steps, self.first_sigma, self.last_sigma)
            notes.extend(note for note in (found, strength.note) if note)
            history = self._restore_into(images[i : i + 1], row, strength, report)
            histories.append(history)
        (phase,) = self.stages()
        distinct_notes = tuple(dict.fromkeys(notes))
        return restoration(phase, images, torch.stack(histories, 1), distinct_notes)

    def _restore_into(
        self, image: Tensor, problem: Problem, strength: Strength, report: Report
    ) -> Tensor:
        """Restore one image part by part into zeros; return the loss of each step [steps]."""
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
