"""What a worker of the benchmark does: it degrades a batch, restores it, and scores the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import degrade
from degrade.images import shows_picture
from degrade.rng import child_seed

from . import files, metrics
from .bench_job import BatchResult, BenchJob, BenchSettings, Cell, Files
from .classes import labels_of
from .results import Row, thinned, thinned_terms
from .solver import Solved, Solver, assumed_operator


class NotGiven(ValueError):
    """Somebody's restoration is missing, or cannot be scored."""


class Runner:
    """Computes jobs. A job holds all that a worker needs to know, and no worker writes files."""

    def __init__(self, settings: BenchSettings, solvers: Callable[[str], Solver]):
        self.settings = settings
        self.solvers = solvers
        self.solver_by_kind: dict[str, Solver] = {}

    def solver(self, kind: str) -> Solver:
        """The solver for a kind of prior, which is made once."""
        if kind not in self.solver_by_kind:
            self.solver_by_kind[kind] = self.solvers(kind)
        return self.solver_by_kind[kind]

    def options(self, job: BenchJob, solver: Solver) -> dict[str, Any]:
        """The optional arguments of `invert.restore` for a job."""
        options: dict[str, Any] = self.settings.arguments()
        method = job.cell.method
        identity = solver.identity
        if method.compares_faces and identity is not None and identity.has_gradient:
            options["identity"] = identity
        if solver.prior.c_dim:
            if job.classes is None:
                raise ValueError(
                    f"this {method.prior_kind} is conditional; give --class a number, "
                    "a CSV file with the columns picture and class, or a classifier"
                )
            options["class_label"] = labels_of(job.classes)
        return options

    def seeds(self, job: BenchJob) -> list[int]:
        """The seed of each picture, which depends on nothing but its name and its task."""
        return [child_seed(self.settings.seed, job.cell.task, name) for name in job.names]

    def __call__(self, job: BenchJob) -> BatchResult:
        """Degrade the batch, restore it and measure the results."""
        clean = job.clean
        cell = job.cell
        kind = cell.method.prior_kind
        solver = self.solver(kind)
        seeds = self.seeds(job)
        operator = cell.operator.sample(clean.shape, _streams(seeds))
        observed = operator(clean, _streams(seeds))
        pictures, arrays = _files_of(observed, job)
        try:
            images, remarks = self._restored(job, solver, operator, observed, seeds)
        except NotGiven as error:
            return BatchResult([], pictures, arrays, str(error))
        read_back = []
        for name, image in zip(job.names, images, strict=True):
            restoration = files.to_pil(image)
            pictures[cell.task, cell.label, name] = files.encode(restoration)
            read_back.append(files.from_pil(restoration))
        restored = torch.cat(read_back)  # in 8 bits, so that we measure what the files hold
        degraded = operator(restored, _streams(seeds))
        scores = metrics.scores(
            restored.to(solver.device),
            clean.to(solver.device),
            degraded.to(solver.device),
            observed.to(solver.device),
            solver.identity,
            self._answers(job, solver, operator, observed, images),
        )
        rows = []
        for i, name in enumerate(job.names):
            row: Row = {"task": cell.task, "method": cell.label, "image": name, "prior": kind}
            for metric, values in scores.items():
                row[metric] = values[i]
            row |= remarks[i]
            if job.classes is not None:
                row["class"] = job.classes[i]
            rows.append(row)
        return BatchResult(rows, pictures, arrays)

    def _restored(
        self,
        job: BenchJob,
        solver: Solver,
        operator: degrade.Operator,
        observed: Tensor,
        seeds: list[int],
    ) -> tuple[list[Tensor], list[Row]]:
        """The restored images of a job, and what each row says of how they were made."""
        cell = job.cell
        if cell.given is not None:
            images = _given_images(cell, job.names, job.clean)
            return images, [{"steps": 0, "finite": True, "loss": []} for _ in images]
        assumed = self._assumed(job, operator)
        options = self.options(job, solver)
        started = time.perf_counter()
        solved = solver.solve(observed, assumed, cell.method, seeds, **options)
        seconds = (time.perf_counter() - started) / len(job.names)
        images = [solution.image for solution in solved]
        return images, [_about(solution, seconds) for solution in solved]

    def _assumed(self, job: BenchJob, operator: degrade.Operator) -> degrade.Operator:
        """What a solver assumes: a model of what happened, or of what the task's file says."""
        task = job.cell.given_task
        if task is not None and task.assume is not None:
            streams = _streams(self.seeds(job))
            operator = degrade.parse(task.assume).sample(job.clean.shape, streams)
        shape = job.clean.shape if job.cell.method.prior_kind == "denoiser" else None
        return assumed_operator(operator, self.settings.oracle_mask, shape)

    def _answers(
        self,
        job: BenchJob,
        solver: Solver,
        operator: degrade.Operator,
        observed: Tensor,
        images: list[Tensor],
    ) -> Tensor | None:
        """Several answers to each observation, [N, B, C, H, W], of which `images` are the first.

        None if coverage is not asked for, and for methods that have one answer.
        """
        method = job.cell.method
        if self.settings.samples is None or job.cell.given is not None or not method.draws:
            return None
        options = self.options(job, solver)
        if "init" in method.options:
            options["init"] = "random"
        assumed = self._assumed(job, operator)
        answers = [torch.cat(images)]
        for number in range(1, self.settings.samples):
            seeds = [child_seed(seed, "answer", number) for seed in self.seeds(job)]
            solved = solver.solve(observed, assumed, method, seeds, **options)
            answers.append(torch.cat([solution.image for solution in solved]))
        return torch.stack(answers).to(solver.device)


def _files_of(observed: Tensor, job: BenchJob) -> tuple[Files, Files]:
    """The observations as pictures; those that are none also as arrays."""
    pictures: Files = {}
    arrays: Files = {}
    for name, observation in zip(job.names, observed.split(1), strict=True):
        key = (job.cell.task, "observed", name)
        picture = files.to_pil(files.viewable(observation))
        pictures[key] = files.encode(picture)
        if job.cell.given_task is not None:
            job.cell.given_task.refuse_another(name, pictures[key])
        if not shows_picture(observation.shape):
            arrays[key] = files.encode_array(observation[0])
    return pictures, arrays


def _given_images(cell: Cell, names: list[str], clean: Tensor) -> list[Tensor]:
    """Read somebody's restorations. Raises NotGiven for a missing one, or one of another size."""
    _, channels, height, width = clean.shape
    images = []
    for name in names:
        path = cell.given_picture(name)
        if not path.is_file():
            raise NotGiven(f"{path} does not exist; write the restoration of {name} there")
        try:
            image = files.read_image(path, channels)
        except ValueError as error:
            raise NotGiven(str(error)) from error
        if image.shape[2:] != clean.shape[2:]:
            side = f"{image.shape[3]}×{image.shape[2]}"
            raise NotGiven(f"{path} is {side}; it must be {width}×{height}, as the clean picture")
        images.append(image)
    return images


def _streams(seeds: list[int]) -> list[torch.Generator]:
    """A new random stream for each picture, so that equal seeds give equal draws."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _about(solved: Solved, seconds: float) -> Row:
    """What a row says of the search itself."""
    return {
        "seconds": round(seconds, 3),
        "steps": len(solved.losses),
        "finite": solved.finite,
        "batch": solved.batch,
        "notes": list(solved.notes),
        "loss": thinned(solved.losses),
        "terms": thinned_terms(solved.terms),
    }
