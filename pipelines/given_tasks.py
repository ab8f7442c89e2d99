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
from typing import Any

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


def folder_of(task: str) -> str:
    """The name of the folder of a task's pictures."""
    return task.replace("/", "-")


def read(path: Path) -> dict[str, GivenTask]:
    """The tasks in a file, by name. Raises ValueError for a file of another kind."""
    record = _record(path)
    try:
        problems = record["problems"]
        tasks = {name: _task(name, problem, path) for name, problem in problems.items()}
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no tasks: {_reason(error)}") from error
    if not tasks:
        raise ValueError(f'{path} holds no tasks; add one to "problems"')
    _refuse_one_folder(list(tasks), path)
    return tasks


def _record(path: Path) -> Any:
    """What a JSON file holds."""
    text = contents(path)
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON of tasks: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a name that occurs twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice in one object; rename one")
    return found


def _refuse_one_folder(names: list[str], path: Path) -> None:
    """Raise ValueError for two tasks whose pictures would be written to one folder."""
    names_of_folders: dict[str, str] = {}
    for name in names:
        folder = folder_of(name).casefold()  # some disks take capital letters for small ones
        other = names_of_folders.setdefault(folder, name)
        if other != name:
            raise ValueError(
                f"{path}: the pictures of {other} and {name} would be in one folder; rename one"
            )


def _task(name: str, problem: object, path: Path) -> GivenTask:
    if not NAME.fullmatch(name):
        raise ValueError(f"{path}: {name!r} is no name of a task; give one such as mine/blur")
    where = f"{path}, {name}"
    if not isinstance(problem, dict):
        raise ValueError(f'{where}: must be an object, such as {{"operator": "jpeg:30"}}')
    operator = _operator(problem["operator"], f"{where}: operator")
    assume = problem.get("assume")
    if assume is not None:
        assume = _operator(assume, f"{where}: assume")
    observations = problem.get("observations", {})
    if not isinstance(observations, dict) or not all(map(_is_text, observations.values())):
        raise ValueError(f'{where}: observations must be an object, such as {{"000": "SHA-256"}}')
    return GivenTask(operator, assume, observations, str(path))


def _operator(text: object, where: str) -> str:
    """The text of an operator. Raises ValueError for anything else."""
    if not isinstance(text, str):
        raise ValueError(f'{where}={text!r} must be the text of an operator, such as "jpeg:30"')
    try:
        degrade.parse(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return text


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split())
