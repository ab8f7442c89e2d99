"""Solve pictures on the device at hand; restoring and benchmarking share this."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import degrade
import invert
from invert import linear_model

from . import files
from .engine import out_of_memory
from .results import Curve


@dataclass(frozen=True)
class Solved:
    """The result for one picture, on the CPU."""

    image: Tensor  # [1, C, R, R]
    judged: Tensor  # the image by which it is judged whether the prior can draw the picture
    latent: Tensor
    losses: list[float]  # one for each step
    finite: bool
    notes: tuple[str, ...]  # what a reader of the results must know
    batch: int  # how many pictures were solved at a time
    terms: dict[str, Curve] = field(default_factory=dict)  # before their weights, by name


class Solver:
    """A prior on a device, with a face embedding and a photo of the person if given."""

    def __init__(
        self,
        prior: invert.Generator | invert.Denoiser,
        device: str = "auto",
        embedding: Path | None = None,
        person: Path | None = None,
        step: Callable[[invert.Step], None] | None = None,
    ):
        self.device = device_of(device)
        self.prior = prior.to(self.device)
        self.step = step
        self.identity = None
        if embedding is not None:
            photo = None if person is None else files.read_image(person).to(self.device)
            self.identity = invert.FaceIdentity(
                invert.load_embedding(embedding).to(self.device), photo
            )

    def solve(
        self,
        observed: Tensor,
        operator: degrade.Operator,
        method: str | invert.RestorationMethod,
        seeds: list[int],
        init: Tensor | str | None = None,
        **options: Any,
    ) -> list[Solved]:
        """Solve each picture of the batch, which is halved until it fits into the memory.

        options: others of `invert.restore`.
        """
        size = len(seeds)
        while True:
            try:
                return self._in_parts(size, observed, operator, method, seeds, init, options)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise ValueError(
                        f"one picture does not fit into the memory of {self.device}"
                    ) from error
                size = -(-size // 2)
                torch.cuda.empty_cache()  # does nothing without a GPU

    def _in_parts(
        self,
        size: int,
        observed: Tensor,
        operator: degrade.Operator,
        method: str | invert.RestorationMethod,
        seeds: list[int],
        init: Tensor | str | None,
        options: dict[str, Any],
    ) -> list[Solved]:
        solved: list[Solved] = []
        for first in range(0, len(seeds), size):
            rows = slice(first, first + size)
            whole = size == len(seeds)
            restoration = invert.restore(
                observed[rows].to(self.device),
                operator if whole else rows_of(operator, rows, len(seeds)),
                self.prior,
                method,
                seeds[rows],
                self.step,
                init=init[rows] if isinstance(init, Tensor) else init,
                **options,
            )
            solved += _separated(restoration, size)
        return solved


@dataclass(frozen=True)
class Solvers:
    """Makes the solver for a kind of prior, in the process that needs it.

    priors: by kind, "generator" or "denoiser".
    """

    priors: Mapping[str, invert.Generator | invert.Denoiser]
    device: str = "auto"
    embedding: Path | None = None
    step: Callable[[invert.Step], None] | None = None

    def __call__(self, kind: str) -> Solver:
        return Solver(self.priors[kind], self.device, self.embedding, step=self.step)


def assumed_operator(
    operator: degrade.Operator, oracle_mask: bool, shape: tuple[int, ...] | None = None
) -> degrade.Operator:
    """What a solver assumes: all that is known, and a model of every unknown draw.

    oracle_mask: it knows which pixels are dead. shape: of the images; a method with a denoiser,
    which needs it, also knows the filter of a reduction.
    """
    model = invert.oracle_mask if oracle_mask else linear_model.APPROX
    if shape is None:
        return model(operator)
    return linear_model.with_known_filters(operator, shape, model)


def _separated(restoration: invert.Restoration, batch: int) -> list[Solved]:
    """The results of a batch, one by one."""

    def row_of(tensor: Tensor, row: int) -> Tensor:
        """One row of a tensor; a copy, since a view would keep the whole batch in memory."""
        if len(tensor) == 1:
            return tensor
        return tensor[row : row + 1].clone()

    images, latents = restoration.image.cpu(), restoration.latent.cpu()
    judged = image_of_own_codes(restoration).cpu()
    solved = []
    for row in range(len(images)):
        solution = Solved(
            row_of(images, row),
            row_of(judged, row),
            row_of(latents, row),
            restoration.history[:, row].tolist(),
            bool(restoration.finite[row]),
            restoration.notes,
            batch,
            {name: _with_gaps(curve[:, row]) for name, curve in restoration.terms.items()},
        )
        solved.append(solution)
    return solved


def image_of_own_codes(restoration: invert.Restoration) -> Tensor:
    """The image that the generator draws from codes of W+, before a search goes on to W++.

    In W++ a generator draws nearly anything, and data consistency copies what was observed. For a
    method that has no phase in W+ it is the last image that was drawn.
    """
    if "W+" in restoration.phase_images:
        return restoration.phase_images["W+"]
    return restoration.image if restoration.drawn is None else restoration.drawn


def _with_gaps(curve: Tensor) -> Curve:
    """The values of a curve; None instead of NaN, which JSON does not know."""
    return [None if math.isnan(value) else value for value in curve.tolist()]


def rows_of(operator: degrade.Operator, rows: slice, batch: int) -> degrade.Operator:
    """The operator for some rows of a batch."""
    operators = [operator.row(i, batch) for i in range(batch)[rows]]
    return operators[0] if len(operators) == 1 else degrade.PerImage(*operators)


def device_of(name: str) -> str:
    """A device that exists here; "auto" chooses one. Raises ValueError for one that does not."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not available here; use cpu or auto") from error
    return name


def prior_text(name_or_path: str) -> str:
    """A bundled prior's name, or a file's digest, so that a replaced file counts as another."""
    if name_or_path in (*invert.load.BUNDLED_DENOISERS, *invert.generator.BUNDLED):
        return name_or_path
    path = invert.load.find(name_or_path)
    if path.is_dir():
        digests = [files.digest(file) for file in sorted(path.rglob("*")) if file.is_file()]
        return f"sha256:{' '.join(digests)}"
    return f"sha256:{files.digest(path)}"


def identity_text(embedding: Path | None, person: Path | None) -> str | None:
    """Digests of an embedding and a photo. Raises ValueError for a photo without an embedding."""
    if embedding is None:
        if person is not None:
            raise ValueError("--person needs --embedding, the network to compare faces with")
        return None
    if not embedding.is_file():
        raise ValueError(f"embedding {str(embedding)!r} is no file")
    paths = [embedding] if person is None else [embedding, person]
    return " ".join(files.digest(path) for path in paths)
