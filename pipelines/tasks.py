"""The tasks that a benchmark runs."""

from __future__ import annotations

from pathlib import Path

import degrade
from degrade.presets import LEVELS

from . import given_tasks
from .given_tasks import GivenTask

OTHER_PAPERS = ("ddrm", "cri", "dps", "daps")


def _of(paper: str) -> list[str]:
    """The tasks of another paper, whose names begin with the paper's."""
    return [name for name in degrade.tasks if name.startswith(f"{paper}/")]


def _of_robust() -> list[str]:
    """The tasks of the paper of `robust`, as its code has them."""
    others = tuple(f"{paper}/" for paper in OTHER_PAPERS)
    tasks = [name for name in degrade.tasks if not name.startswith(others)]
    return [name for name in tasks if not name.endswith("/text")]


SUITES = {"paper": _of_robust(), **{paper: _of(paper) for paper in OTHER_PAPERS}}


def problems_of(text: str, suite: str = "paper") -> dict[str, GivenTask | None]:
    """The tasks of a JSON file that a text names, or the package's own: name → what a file says.

    Raises ValueError for an unknown task, suite or file.
    """
    if text.endswith(".json"):
        return dict(given_tasks.read(Path(text)))
    return dict.fromkeys(tasks_of(text, suite))


def tasks_of(text: str, suite: str = "paper") -> list[str]:
    """List the tasks that a text names: "all", "single", "composed" or "denoising/XL,UNAP".

    The first three select from the suite. Raises ValueError for an unknown task or suite.
    """
    if suite not in SUITES:
        raise ValueError(f"suite={suite!r} must be one of {', '.join(SUITES)}")
    tasks = SUITES[suite]
    if text == "all":
        return tasks
    if text == "single":
        return [name for name in tasks if name.rpartition("/")[2] in LEVELS]
    if text == "composed":
        return [name for name in tasks if "/" not in name]
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in degrade.tasks:
            raise ValueError(
                f"tasks: {name!r} is none of all, single, composed, {', '.join(degrade.tasks)}"
            )
    return chosen
