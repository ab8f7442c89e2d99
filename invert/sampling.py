"""What methods with a denoiser share: their one phase, the report of a step, the result."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .linear_model import linear_model
from .point import Point
from .problem import Problem, streams
from .result import Report, Restoration, Step
from .tree import finite_rows


@dataclass(frozen=True)
class Sampling:
    """The one phase of a method with a denoiser."""

    steps: int
    name: str = "diffusion"


def check_linear(problem: Problem) -> None:
    """Raise ValueError where the operator has no linear part A; see `linear_model`."""
    for i in range(problem.batch):
        row_operator = problem.operator.row(i, problem.batch)
        linear_model(row_operator, problem.observation[i : i + 1])


def check_drawn(problem: Problem) -> None:
    """Raise ValueError where a stage is still to be drawn."""
    for i in range(problem.batch):
        row_operator = problem.operator.row(i, problem.batch)
        for stage in row_operator:
            if stage.ranges or stage.nested:
                raise ValueError(
                    f"{stage} is still to be drawn, and a denoiser needs to know what happened; "
                    "give f.sample(shape)"
                )


def report_step(
    phase: Sampling, problem: Problem, step: int, total: int, image: Tensor, report: Report
) -> Tensor:
    """Report a step, and return its loss [B] on the CPU: the MSE in the observation."""
    finite = finite_rows(image).flatten()
    finite_image = torch.nan_to_num(image, posinf=0.0, neginf=0.0)
    draws = streams(problem.seeds, f"step{step}")
    prediction = problem.operator.predict(finite_image, draws)
    mse = (prediction - problem.observation).square().flatten(1).mean(1)
    loss = torch.where(finite, mse, torch.nan).cpu()
    report(
        Step(
            phase=phase,
            step=step,
            total=total,
            loss=loss,
            terms={"mse": loss},
            image=image,
            prediction=prediction,
            read_latent=lambda: image,
        )
    )
    return loss


def restoration(
    phase: Sampling, image: Tensor, history: Tensor, notes: tuple[str, ...] = ()
) -> Restoration:
    """The result of a method whose latent is the image itself."""
    final_image = image
    low, high = image.aminmax()  # NaN if any value is NaN
    if not (low >= 0 and high <= 1):
        final_image = torch.nan_to_num(image).clamp_(0, 1)
    return Restoration(
        image=final_image,
        latent=image,
        history=history,
        phase_images={phase.name: final_image},
        finite=finite_rows(image).flatten().cpu(),
        point=Point(image),
        notes=notes,
        terms={"mse": history},
    )
