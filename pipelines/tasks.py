"""The tasks that a benchmark runs."""

from __future__ import annotations

import degrade
from degrade.presets import LEVELS


def _in_the_paper(name: str) -> bool:
    """Whether a task belongs to the paper of `robust`, not to those of DDRM or CRI, nor is ours."""
    return not name.startswith(("cri/", "ddrm/")) and not name.endswith("/text")


SUITES = {
    "paper": [name for name in degrade.tasks if _in_the_paper(name)],
    "ddrm": [name for name in degrade.tasks if name.startswith("ddrm/")],
    "cri": [name for name in degrade.tasks if name.startswith("cri/")],
}


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
