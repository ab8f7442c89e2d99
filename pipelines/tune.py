"""Rivals at their best: search a method's constants for one task, as the papers tuned theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import invert

from . import files
from .bench import Cell

TUNED = "tuned"
ROUND = 8  # trials chosen at a time, whatever there is to run them: so many can run at once

Factors = dict[str, float]


def tune(
    name: str,
    method: invert.RestorationMethod,
    task: str,
    trials: int,
    seed: int,
    run: Callable[[list[Cell]], list[dict]],
) -> tuple[Factors, float, float]:
    """The best factors of a method's knobs, its accuracy as published, and with them.

    The published constants are the first trial; the others of the first round are drawn at random, and
    further ones chosen by Optuna's TPE. `run` gives the rows of some cells, and computes none twice.
    The way depends on the seed and the rows alone, so a search that was killed goes it again, past
    the rows that are there, and goes on.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError("tuning needs optuna; pip install 'degrade[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=ROUND, multivariate=True, constant_liar=True, seed=seed
    )
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({knob.name: 1.0 for knob in method.knobs})
    tried: list[tuple[float, Factors]] = []
    for first in range(0, trials, ROUND):
        asked = [study.ask() for _ in range(min(ROUND, trials - first))]
        chosen = [
            {
                k.name: float(f"{trial.suggest_float(k.name, k.low, k.high, log=True):.3g}")
                for k in method.knobs
            }
            for trial in asked
        ]
        cells = {label(name, factors): method.tuned(factors) for factors in chosen}
        rows = run([Cell(task, text, changed) for text, changed in cells.items()])
        for trial, factors in zip(asked, chosen, strict=True):
            found = [row["accuracy"] for row in rows if row["method"] == label(name, factors)]
            tried.append((sum(found) / len(found), factors))
            study.tell(trial, tried[-1][0])
    accuracy, best = min(tried, key=lambda one: one[0])
    return best, tried[0][0], accuracy


def label(name: str, factors: Mapping[str, float]) -> str:
    """A trial's name among the rows: it says all that differs."""
    return " ".join(
        [name, *(f"{knob}×{factor:g}" for knob, factor in factors.items() if factor != 1)]
    )


def write_tuned(path: Path, name: str, task: str, factors: Factors) -> None:
    """Put the factors beside those of other methods and tasks, for `read_tuned`."""
    found = (files.read_json(path, TUNED) or {"factors": {}})["factors"]
    found.setdefault(name, {})[task] = factors
    files.write_json(path, TUNED, {"factors": found})


def read_tuned(path: Path) -> list[Cell]:
    """The tuned methods, each on its task. Raises ValueError for anything but a file of `write_tuned`."""
    record = files.read_json(path, TUNED)
    if record is None:
        raise ValueError(f"{path} does not exist; degrade tune writes such a file")
    try:
        found = [
            Cell(
                task,
                f"{name} tuned",
                invert.methods.method_of(name).tuned(factors),
                label(name, factors),
            )
            for name, tasks in record["factors"].items()
            for task, factors in tasks.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used: {error!r}; make it again") from error
    return found
