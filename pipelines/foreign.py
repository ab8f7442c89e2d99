"""Other people's solvers in the benchmark: a function from an observation to an image."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import invert
from invert.problem import Problem
from invert.result import Report
from invert.sampling import Sampling, report_step, restoration

from .console import load


@dataclass(frozen=True)
class ForeignSolver(invert.RestorationMethod):
    """The function `name`, "module:function", as a method.

    It is called as function(y, f, prior, seed) for one image at a time, with the observation y
    [1, C, h, w] in [0, 1], the operator f that a solver may assume, the prior, and an integer seed.
    It returns the image [1, C, H, W]. If it has an attribute `prior_kind`, "denoiser", its prior is
    the denoiser; otherwise the generator.
    """

    name: str
    prior_kind: str = "generator"

    def stages(self) -> Sequence[Sampling]:
        return (Sampling(1, self.name),)

    def with_steps(self, steps: int) -> ForeignSolver:
        """The number of steps is the function's own business."""
        return self

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> invert.Restoration:
        images = []
        for i in range(problem.batch):
            row = problem.row(i)
            image = self._image(row)
            if tuple(image.shape) != row.image_shape or not image.is_floating_point():
                raise ValueError(
                    f"{self.name} returned {image.dtype} {list(image.shape)} in place of a float "
                    f"image {list(row.image_shape)}"
                )
            images.append(image.to(problem.observation))
        (phase,) = self.stages()
        image = torch.cat(images)
        loss = report_step(phase, problem, 1, 1, image, report)
        return restoration(phase, image, loss[None])

    def _image(self, row: Problem) -> torch.Tensor:
        solve = function_of(self.name, "methods")
        try:
            with torch.enable_grad():
                image = solve(row.observation, row.operator, row.prior, row.seeds[0])
        except Exception as error:  # a stranger's function may raise anything
            raise ValueError(f"{self.name}: {type(error).__name__}: {error}") from error
        if not isinstance(image, torch.Tensor):
            raise ValueError(f"{self.name} returned a {type(image).__name__}, not a tensor")
        return image.detach()


def function_of(name: str, option: str) -> Callable[..., Any]:
    """The function "my_module:function". Raises ValueError that names the option for any other."""
    module, _, function = name.partition(":")
    load([module])
    found: object = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise ValueError(f"{option}: module {module} has no function {function!r}")
    return found


def solver_of(name: str) -> ForeignSolver:
    """The method of a name such as "my_module:solve". Raises ValueError if there is none."""
    solve = function_of(name, "methods")
    kind = getattr(solve, "prior_kind", "generator")
    if kind not in invert.method.PRIORS:
        known = " or ".join(invert.method.PRIORS)
        raise ValueError(f"{name}: prior_kind={kind!r} must be {known}")
    return ForeignSolver(name, kind)
