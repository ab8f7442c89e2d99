"""`degrade tune`: search the constants of a method for one task, as the papers tuned theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import invert

from . import records
from .bench_job import Cell
from .metrics import ACCURACY
from .results import Row

if TYPE_CHECKING:
    import optuna

TUNED = "tuned"  # the kind of record that tuned.json holds
ROUND = 8  # trials that are chosen together, on any machine, so that so many can run at once

Factors = dict[str, float]  # name of a knob → factor of the published constant


@dataclass(frozen=True)
class Tuned:
    """The best factors of a search, and the accuracy (mean LPIPS) before and after."""

    factors: Factors
    published: float
    accuracy: float


def tune(
    name: str,
    method: invert.RestorationMethod,
    task: str,
    trials: int,
    seed: int,
    run: Callable[[list[Cell]], list[Row]],
) -> Tuned:
    """Search the factors of a method's knobs with the best accuracy on one task.

    The first trial has the published constants. The others of the first round are drawn at random,
    and Optuna's TPE chooses the rest. `run` returns the rows of cells, and reads finished rows from
    disk. The search depends on the seed and the rows alone: a search that was killed repeats the
    same choices, finds their rows on disk, and continues.
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
        count = min(ROUND, trials - first)
        asked = [study.ask() for _ in range(count)]
        chosen = [_suggested_factors(trial, method) for trial in asked]
        cells: dict[str, Cell] = {}  # equal factors make one cell
        for factors in chosen:
            text = label(name, factors)
            cells[text] = Cell(task, text, method.tuned(factors))
        rows = run(list(cells.values()))
        for trial, factors in zip(asked, chosen, strict=True):
            accuracy = _mean_accuracy(rows, label(name, factors))
            tried.append((accuracy, factors))
            study.tell(trial, accuracy)
    best_accuracy, best_factors = min(tried, key=lambda pair: pair[0])
    return Tuned(best_factors, published=tried[0][0], accuracy=best_accuracy)


def _suggested_factors(trial: optuna.Trial, method: invert.RestorationMethod) -> Factors:
    """The factors of the method's knobs that a trial of Optuna tries, with three digits."""
    factors: Factors = {}
    for knob in method.knobs:
        factor = trial.suggest_float(knob.name, knob.low, knob.high, log=True)
        factors[knob.name] = float(f"{factor:.3g}")
    return factors


def _mean_accuracy(rows: list[Row], method: str) -> float:
    values: list[float] = []
    for row in rows:
        if row["method"] == method:
            values.append(row[ACCURACY.name])
    return sum(values) / len(values)


def label(name: str, factors: Mapping[str, float]) -> str:
    """The name of a trial among the rows: the method, and every factor that is not 1."""
    changed = [f"{knob}×{factor:g}" for knob, factor in factors.items() if factor != 1]
    return " ".join([name, *changed])


def write_tuned(path: Path, name: str, task: str, factors: Factors) -> None:
    """Add the factors of a method on a task to the file that `read_tuned` reads."""
    record = records.read_json(path, TUNED) or {"factors": {}}
    factors_of_tasks = record["factors"].setdefault(name, {})
    factors_of_tasks[task] = factors
    records.write_json(path, TUNED, {"factors": record["factors"]})


def read_tuned(path: Path) -> list[Cell]:
    """Read the tuned methods, each on its task. Raises ValueError for a file of another kind."""
    record = records.read_json(path, TUNED)
    if record is None:
        raise ValueError(f"{path} does not exist; degrade tune writes such a file")
    cells = []
    try:
        for name, tasks in record["factors"].items():
            method = invert.methods.method_of(name)
            for task, factors in tasks.items():
                tuned = method.tuned(factors)
                cells.append(Cell(task, f"{name} tuned", tuned, label(name, factors)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used: {error!r}; make it again") from error
    return cells
