"""results.json of a benchmark: all scores in one file, and what must agree for them to compare.

It names every problem by its operator and by a digest of each observation. Anyone can check with it
whether two solvers restored the same observations, without having the pictures, and run the same
tasks again: it is a file for `--tasks` (`given_tasks`).
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

import degrade

from . import files, records
from .bench import Bench
from .metrics import METRICS
from .results import Row
from .versions import versions

NAME = "results.json"
KIND = "file of benchmark results"
ABOUT = ("task", "method", "image", "prior", "class", "note", "steps", "finite", "source")


def write(bench: Bench, device: str) -> Path:
    """Write results.json into the folder of a benchmark; return its path."""
    rows = bench.rows()
    record = {
        "versions": list(versions()),
        "machine": machine(device),
        "settings": asdict(bench.settings),
        "problems": problems(bench, rows),
        "rows": [published(row) for row in rows],
    }
    path = bench.folder / NAME
    records.write_json(path, KIND, record)
    return path


def refuse_foreign(folder: Path) -> None:
    """Raise ValueError if the folder has a results.json that no benchmark wrote."""
    records.read_json(folder / NAME, KIND)


def read(path: Path) -> dict:
    """A record of `write`. Raises ValueError for any other content."""
    record = records.read_json(path, KIND)
    if record is None:
        raise ValueError(f"{path} does not exist")
    return record


def problems(bench: Bench, rows: list[Row]) -> dict[str, dict]:
    """By task: its operator as text, and by picture the digest of its observation."""
    of_task: dict[str, dict] = {}
    for row in rows:
        task = row["task"]
        name = row["image"]
        if task not in of_task:
            of_task[task] = {**operators(row), "observations": {}}
        observations = of_task[task]["observations"]
        if name not in observations:
            path = bench.picture(task, "observed", name)
            observations[name] = files.pixel_digest(path)
    return of_task


def operators(row: Row) -> dict[str, str]:
    """The text of the operator, and of what solvers assumed if a file says so."""
    if "operator" not in row:
        return {"operator": str(degrade.tasks[row["task"]])}
    return {name: row[name] for name in ("operator", "assume") if name in row}


def published(row: Row) -> Row:
    """The scores of a row, without its curves."""
    names = [*ABOUT, *[metric.name for metric in METRICS]]
    return {name: row[name] for name in names if name in row}


def machine(device: str) -> dict[str, object]:
    """What the seconds of the rows depend on."""
    about: dict[str, object] = {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def processor() -> str:
    """The model of the processor, as Linux tells it; elsewhere its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
