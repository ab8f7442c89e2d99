"""Tasks from a JSON file: problems that somebody describes, or has published with results.

    {"problems": {"mine/blur": {"operator": "blur:gaussian,3 >> gaussian:0.025",
                                "observations": {"000": "SHA-256 of the observation"}}}}

`observations` and anything else may be left out; "assume" is the operator that solvers assume where
it is not that which happened. The results.json of a benchmark is such a file.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import degrade
from degrade.imagefile import contents

from . import files

NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*")  # of a task: it becomes the name of a folder


@dataclass(frozen=True)
class GivenTask:
    """A task from a file.

    operator: its text. assume: the text of what solvers assume, if another. observations: by
    picture the digest of its observation, as `files.pixel_digest` has it. file: where it was read,
    for messages.
    """

    operator: str
    assume: str | None = None
    observations: Mapping[str, str] = field(default_factory=dict)
    file: str = ""

    @property
    def texts(self) -> dict[str, str]:
        """The texts of the operators, as rows and results.json have them."""
        texts = {"operator": self.operator}
        if self.assume is not None:
            texts["assume"] = self.assume
        return texts

    def refuse_another(self, picture: str, observation: bytes) -> None:
        """Raise ValueError if the file of an observation differs from what was published."""
        published = self.observations.get(picture)
        if published is None or published == files.pixel_digest(io.BytesIO(observation)):
            return
        raise ValueError(
            f"the observation of {picture} is another than in {self.file}; give the clean "
            "pictures, the names, the --seed and the size of images that were used there"
        )


def read(path: Path) -> dict[str, GivenTask]:
    """The tasks in a file, by name. Raises ValueError for a file of another kind."""
    try:
        record = json.loads(contents(path))
        problems = record["problems"]
        tasks = {name: _task(name, problem, path) for name, problem in problems.items()}
    except (OSError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no tasks: {_reason(error)}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not tasks:
        raise ValueError(f'{path} holds no tasks; add one to "problems"')
    return tasks


def _task(name: str, problem: dict, path: Path) -> GivenTask:
    if not NAME.fullmatch(name):
        raise ValueError(f"{path}: {name!r} is no name of a task; give one such as mine/blur")
    operator = problem["operator"]
    assume = problem.get("assume")
    try:
        for text in (operator, assume or operator):
            degrade.parse(text)
    except ValueError as error:
        raise ValueError(f"{path}, {name}: {error}") from error
    observations = dict(problem.get("observations", {}))
    return GivenTask(operator, assume, observations, str(path))


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split())
