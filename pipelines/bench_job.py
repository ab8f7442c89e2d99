"""What the benchmark gives to a worker, and what comes back: settings, cells, jobs, results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

import degrade
import invert

from .given_tasks import GivenTask, folder_of
from .options import GeneratorOptions
from .results import Row
from .solver import identity_text, prior_text


@dataclass(frozen=True, kw_only=True)
class BenchSettings(GeneratorOptions):
    """The settings that change a row, besides task, method and picture; kept in settings.json.

    generator, denoiser: a bundled name, or a digest of the file. identity: a digest of the face
    embedding. samples: how many answers coverage is measured with; None for no coverage.
    """

    identity: str | None = None
    samples: int | None = None

    @classmethod
    def of(
        cls, options: GeneratorOptions, embedding: Path | None = None, samples: int | None = None
    ) -> BenchSettings:
        """Replace the files that the options name by digests of them."""
        settings = asdict(options)
        settings["generator"] = prior_text(options.generator)
        settings["denoiser"] = prior_text(options.denoiser)
        identity = identity_text(embedding, None)
        return cls(**settings, identity=identity, samples=samples)


@dataclass(frozen=True)
class Cell:
    """A method on a task.

    label: its name in the tables. note: a remark for their readers. given: a folder of somebody's
    restorations, which are scored in place of a method's: UNAP/000.png of picture 000. given_task:
    the task, where it comes from a file; None is that of `degrade.tasks`.
    """

    task: str
    label: str
    method: invert.RestorationMethod
    note: str = ""
    given: Path | None = None
    given_task: GivenTask | None = None

    @property
    def operator(self) -> degrade.Operator:
        """What happens to the pictures."""
        if self.given_task is None:
            return degrade.tasks[self.task]
        return degrade.parse(self.given_task.operator)

    @property
    def given_texts(self) -> dict[str, str]:
        """The texts of the operators, where the task comes from a file."""
        return {} if self.given_task is None else self.given_task.texts

    def given_picture(self, name: str) -> Path:
        """The path of somebody's restoration of a picture."""
        assert self.given is not None
        return self.given / folder_of(self.task) / f"{name}.png"


def given_cells(folders: str, tasks: Sequence[str], labels: Collection[str]) -> list[Cell]:
    """Cells for the folders in a text such as "theirs,others", each under its own name.

    labels: of other methods. Raises ValueError for a folder that does not exist or has such a name.
    """
    cells = []
    known_labels = set(labels)
    for part in folders.split(","):
        name = part.strip()
        if not name:
            raise ValueError(f"results={folders!r} has an empty part; remove a comma")
        folder = Path(name)
        if not folder.is_dir():
            raise ValueError(f"results: {folder} is no folder; make it, or correct its name")
        label = folder.resolve().name
        if label in known_labels:
            raise ValueError(
                f"results: {folder} has the name of a method or of another folder; rename it"
            )
        known_labels.add(label)
        for task in tasks:
            cells.append(Cell(task, label, invert.RestorationMethod(), given=folder))
    return cells


@dataclass(frozen=True)
class BenchJob:
    """A batch of pictures for one method on one task.

    clean: [B, C, R, R]. classes: of the pictures, for conditional priors, or the name of a
    classifier; None if not given.
    """

    cell: Cell
    names: list[str]
    clean: Tensor
    classes: list[int | str] | None = None


Files = dict[tuple[str, str, str], bytes]  # by task, kind and name of the picture


@dataclass(frozen=True)
class BatchResult:
    """What a job gives: a row and files for each picture.

    arrays: files of observations that are no pictures. failure: why there are no rows, where only
    the observations could be made.
    """

    rows: list[Row]
    pictures: Files
    arrays: Files
    failure: str = ""
