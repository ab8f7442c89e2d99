"""Solves of pictures, on whatever device there is: what restoring and benchmarking share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import degrade
import invert

from . import files
from .engine import out_of_memory


@dataclass(frozen=True)
class Solved:
    """The result for one picture, on the CPU."""

    image: Tensor  # [1, C, R, R]
    latent: Tensor
    losses: list[float]
    finite: bool
    told: tuple[str, ...]
    batch: int  # how many were solved at a time


class Solver:
    """A generator and, if there is one, a face embedding with a photo of the person, on a device."""

    def __init__(
        self,
        generator: invert.Generator,
        device: str = "auto",
        embedding: Path | None = None,
        person: Path | None = None,
        step: Callable[[invert.Step], None] | None = None,
    ):
        self.device = device_of(device)
        self.generator, self.step = generator.to(self.device), step
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
        **options,
    ) -> list[Solved]:
        """One for each picture of the batch, which is halved until it fits into the memory.

        options: others of `invert.restore`.
        """
        size = len(seeds)
        while True:
            found: list[Solved] = []
            try:
                for first in range(0, len(seeds), size):
                    rows = slice(first, first + size)
                    own = operator if size == len(seeds) else rows_of(operator, rows, len(seeds))
                    some, begin = (
                        observed[rows].to(self.device),
                        init[rows] if isinstance(init, Tensor) else init,
                    )
                    r = invert.restore(
                        some,
                        own,
                        self.generator,
                        method,
                        seeds[rows],
                        self.step,
                        init=begin,
                        **options,
                    )
                    each = zip(
                        r.image.cpu().split(1),
                        r.latent.cpu().split(1),
                        r.history.T,
                        r.finite,
                        strict=True,
                    )
                    for (
                        x,
                        w,
                        loss,
                        good,
                    ) in each:  # copies, for a part takes all of its tensor along
                        found.append(
                            Solved(x.clone(), w.clone(), loss.tolist(), bool(good), r.told, size)
                        )
                return found
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise ValueError(
                        f"one picture does not fit into the memory of {self.device}"
                    ) from error
                size = -(-size // 2)
                torch.cuda.empty_cache()  # does nothing without a GPU


def rows_of(operator: degrade.Operator, rows: slice, batch: int) -> degrade.Operator:
    """What a part of the batch gets."""
    own = [operator.row(i, batch) for i in range(batch)[rows]]
    return own[0] if len(own) == 1 else degrade.PerImage(*own)


def device_of(name: str) -> str:
    """A device that is there. Raises ValueError for one that is not."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not to be had here; use cpu or auto") from error
    return name


def generator_text(name_or_path: str) -> str:
    """A bundled generator's name, or a digest of the file: another file of the same name is another generator."""
    if name_or_path in invert.generator.BUNDLED:
        return name_or_path
    return f"sha256:{files.digest(invert.generator.find(name_or_path))}"


def identity_text(embedding: Path | None, person: Path | None) -> str | None:
    """What tells an embedding and a photo from others. Raises ValueError for a photo without an embedding."""
    if embedding is None:
        if person is not None:
            raise ValueError("--person needs --embedding, the network to compare faces with")
        return None
    if not embedding.is_file():
        raise ValueError(f"embedding {str(embedding)!r} is no file")
    return " ".join(files.digest(path) for path in (embedding, person) if path is not None)
