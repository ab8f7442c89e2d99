"""Rivals at their best: search a method's constants for one task, as the papers tuned theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import invert

from . import files
from .bench import Bench, Plan

TUNED = "tuned"
ROUND = 8  # trials chosen at a time, whatever there is to run them, so that a search takes the same way anywhere

Factors = dict[str, float]


def tune(name: str, method: invert.Method, task: str, trials: int, seed: int, bench: Bench,
         run: Callable[[Plan], None]) -> tuple[Factors, float, float]:  # fmt: skip
    """The best factors of a method's knobs, its accuracy as published, and with them.

    The published constants are the first trial; further ones are chosen by Optuna's TPE. `run` computes
    what a plan asks for and `bench` does not hold yet. The way depends on the seed and the results
    alone, so a search that was killed goes it again, past the rows that it finds, and goes on.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError("tuning needs optuna; pip install 'degrade[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({knob.name: 1.0 for knob in method.knobs})
    tried: dict[str, tuple[Factors, float]] = {}
    for first in range(0, trials, ROUND):
        asked = [study.ask() for _ in range(min(ROUND, trials - first))]
        chosen = [
            {k.name: float(f"{trial.suggest_float(k.name, k.low, k.high, log=True):.3g}") for k in method.knobs}
            for trial in asked
        ]
        labels = [label(name, factors) for factors in chosen]
        run([(task, *one) for one in {text: method.tuned(f) for text, f in zip(labels, chosen, strict=True)}.items()])
        for trial, text, factors in zip(asked, labels, chosen, strict=True):
            found = [row["accuracy"] for row in bench.rows() if (row["task"], row["method"]) == (task, text)]
            tried[text] = factors, sum(found) / len(found)
            study.tell(trial, tried[text][1])
    best, accuracy = min(tried.values(), key=lambda one: one[1])
    published = label(name, {knob.name: 1.0 for knob in method.knobs})
    return best, tried[published][1], accuracy


def label(name: str, factors: Mapping[str, float]) -> str:
    """A trial's name among the rows: it says all that differs."""
    return " ".join([name, *(f"{knob}×{factor:g}" for knob, factor in factors.items() if factor != 1)])


def write_tuned(path: Path, found: dict[str, dict[str, Factors]]) -> None:
    """By method and task, for `read_tuned`."""
    files.write_json(path, TUNED, {"factors": found})


def read_tuned(path: Path) -> dict[str, dict[str, invert.Method]]:
    """Tuned methods by method and task. Raises ValueError for anything but a file of `write_tuned`."""
    record = files.read_json(path, TUNED)
    if record is None:
        raise ValueError(f"{path} does not exist; degrade tune writes such a file")
    found: dict[str, dict[str, invert.Method]] = {}
    try:
        for name, tasks in record["factors"].items():
            method = invert.methods.method_of(name)
            found[name] = {task: method.tuned(factors) for task, factors in tasks.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used: {error!r}; make it again") from error
    return found
