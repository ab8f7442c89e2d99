"""What an observation tells a sampler: its linear part A, the size of its error, its residual."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from degrade import Gaussian
from degrade.operator import Operator, compose

from .linear_model import ROUNDING, LinearModel, linear_model
from .problem import Problem
from .trials import draw_trial, measured_error, trial_parts


@dataclass(frozen=True)
class Evidence:
    """What is known of a batch of images that one operator has damaged.

    Each part is found when a correction asks for it.
    """

    problem: Problem

    @property
    def observation(self) -> Tensor:
        """y as it is, while the model's has its curves undone."""
        return self.problem.observation

    @cached_property
    def model(self) -> LinearModel:
        """y = A x + error. Raises ValueError for an operator without A, see `linear_model`."""
        return linear_model(self.problem.operator, self.observation)

    @cached_property
    def error(self) -> Tensor:
        """The standard deviation of the model's error, one per image [B, 1, 1, 1]."""
        errors = []
        for i in range(self.problem.batch):
            row = self.problem.row(i)
            errors.append(max(error_of(row), ROUNDING))
        error = self.observation.new_tensor(errors)
        return error.view(-1, 1, 1, 1)

    @cached_property
    def operator(self) -> Operator | None:
        """What happened, without Gaussian noise at its end; None for that noise alone."""
        stages, _ = without_noise(self.problem.operator)
        return compose(stages) if stages else None

    def first_guess(self) -> Tensor:
        """An image that fits the observation roughly; plain grey for an operator without A."""
        try:
            return self.model.first_guess()
        except ValueError:  # from `linear_model`
            return self.observation.new_full(self.problem.image_shape, 0.5)

    def residual(self, x: Tensor, draws: tuple[torch.Generator, ...]) -> Tensor:
        """y − f(x), differentiable by f's surrogate gradient. draws: a generator per image."""
        if self.operator is None:
            return self.observation - x
        return self.observation - self.operator.predict(x, draws)


def without_noise(operator: Operator) -> tuple[list[Operator], float]:
    """The stages without Gaussian noise at their end, and the standard deviation of that noise."""
    stages = list(operator)
    last = stages[-1]
    if isinstance(last, Gaussian) and isinstance(last.sigma, (int, float)):
        return stages[:-1], float(last.sigma)
    return stages, 0.0


def error_of(problem: Problem) -> float:
    """The standard deviation of y − A x for one image.

    It is known where Gaussian noise follows linear stages, and measured on synthetic pictures for
    every other operator.
    """
    stages, sigma = without_noise(problem.operator)
    if all(stage.linear for stage in stages):
        return sigma
    trials = []
    for number, part in enumerate(trial_parts(problem)):
        trials.append(draw_trial(problem, part, number))
    return measured_error(trials)
