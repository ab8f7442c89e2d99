"""Which tasks a benchmark runs."""

from __future__ import annotations

import degrade
from degrade.presets import LEVELS

SUITES = {
    "paper": [
        name
        for name in degrade.tasks
        if not name.startswith(("cri/", "ddrm/")) and not name.endswith("/text")
    ],
    "ddrm": [name for name in degrade.tasks if name.startswith("ddrm/")],
    "cri": [name for name in degrade.tasks if name.startswith("cri/")],
}


def tasks_of(text: str, suite: str = "paper") -> list[str]:
    """The names in "all", "single", "composed" or "denoising/XL,UNAP". Raises ValueError for an unknown one."""
    if suite not in SUITES:
        raise ValueError(f"suite={suite!r} must be one of {', '.join(SUITES)}")
    names = SUITES[suite]
    if text == "all":
        return names
    if text == "single":
        return [name for name in names if name.rpartition("/")[2] in LEVELS]
    if text == "composed":
        return [name for name in names if "/" not in name]
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in degrade.tasks:
            raise ValueError(
                f"tasks: {name!r} is none of all, single, composed, {', '.join(degrade.tasks)}"
            )
    return wanted
