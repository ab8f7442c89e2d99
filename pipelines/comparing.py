"""`degrade compare`: whether two results of a benchmark differ by more than chance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy

from . import exchange, files, records
from .bench import SETTINGS, stored_rows
from .given_tasks import folder_of
from .metrics import METRICS, Metric
from .results import Row

RESAMPLES = 10_000
LEVEL = 0.95  # of the confidence interval
ALL_TASKS = "all tasks"

Pair = tuple[str, str]  # task, picture


@dataclass(frozen=True)
class Entry:
    """One method of a benchmark: its rows by task and picture.

    observation: a digest of the observation, so that nobody compares answers to different problems.
    """

    name: str
    rows: dict[Pair, Row]
    observation: Callable[[Pair], str]


@dataclass(frozen=True)
class Difference:
    """The mean of b - a over pictures, with its confidence interval. pairs: how many results."""

    task: str
    metric: Metric
    a: float
    b: float
    low: float
    high: float
    pairs: int

    @property
    def mean(self) -> float:
        return self.b - self.a

    @property
    def better(self) -> str:
        """The letter of the better one; empty where the interval contains 0."""
        if self.low <= 0 <= self.high or self.metric.lower_is_better is None:
            return ""
        b_is_lower = self.high < 0
        b_is_better = b_is_lower == self.metric.lower_is_better
        return "B" if b_is_better else "A"


def entry_of(text: str) -> Entry:
    """Read "PATH:METHOD", or "PATH" if it holds one method. Raises ValueError otherwise.

    PATH is the folder of a benchmark, or its results.json.
    """
    path, method = _split(text)
    rows, observation = _read_file(path) if path.is_file() else _read_folder(path)
    methods = sorted({row["method"] for row in rows})
    if method is None:
        if len(methods) != 1:
            names = ", ".join(methods)
            raise ValueError(f"{path} holds {names}; give {path}:METHOD")
        method = methods[0]
    of_method: dict[Pair, Row] = {}
    for row in rows:
        if row["method"] == method:
            pair = row["task"], row["image"]
            of_method[pair] = row
    if not of_method:
        raise ValueError(f"{path} holds no results of {method!r}, only {', '.join(methods)}")
    return Entry(f"{path}:{method}", of_method, observation)


def _read_folder(folder: Path) -> tuple[list[Row], Callable[[Pair], str]]:
    """The rows of a benchmark's folder, and the digests of the pictures in it."""
    if records.read_json(folder / "settings.json", SETTINGS) is None:
        raise ValueError(f"{folder} holds no results of degrade bench")

    def observation(pair: Pair) -> str:
        task, picture = pair
        path = folder / "images" / folder_of(task) / "observed" / f"{picture}.png"
        return files.pixel_digest(path)

    return stored_rows(folder / "results.jsonl"), observation


def _read_file(path: Path) -> tuple[list[Row], Callable[[Pair], str]]:
    """The rows and the digests in a results.json. Raises ValueError for a damaged one."""
    record = exchange.read(path)

    def observation(pair: Pair) -> str:
        task, picture = pair
        try:
            return str(record["problems"][task]["observations"][picture])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} names no observation of {picture} in {task}") from error

    try:
        rows = rows_in(record["rows"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: its rows are damaged; make it again") from error
    return rows, observation


def rows_in(rows: list) -> list[Row]:
    """The rows. Raises KeyError or TypeError unless each has a task, a method and a picture."""
    for row in rows:
        for name in ("task", "method", "image"):
            if not isinstance(row[name], str):
                raise TypeError(name)
    return rows


def _split(text: str) -> tuple[Path, str | None]:
    """The path and the method of an argument; the path itself may contain a colon."""
    if Path(text).exists():
        return Path(text), None
    folder, colon, method = text.rpartition(":")
    if not colon:
        return Path(text), None
    return Path(folder), method


def differences(a: Entry, b: Entry) -> list[Difference]:
    """Compare two entries on the results that both have: each task, then all tasks together.

    Raises ValueError if they have none in common, or if the pictures or observations differ.
    """
    common = a.rows.keys() & b.rows.keys()
    pairs = sorted(common)
    if not pairs:
        raise ValueError(f"{a.name} and {b.name} have no task and picture in common")
    for pair in pairs:
        _check_same_problem(a, b, pair)
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        group = groups.setdefault(pair[0], [])
        group.append(pair)
    if len(groups) > 1:
        groups[ALL_TASKS] = pairs
    differences_of_tasks = []
    for task, group in groups.items():
        for metric in METRICS:
            if metric.of_picture is None:  # of whole sets, or the time, which the load decides
                continue
            difference = _difference(task, metric, a, b, group)
            if difference is not None:
                differences_of_tasks.append(difference)
    return differences_of_tasks


def _check_same_problem(a: Entry, b: Entry, pair: Pair) -> None:
    task, picture = pair
    source_a = a.rows[pair].get("source")
    source_b = b.rows[pair].get("source")
    if source_a != source_b or a.observation(pair) != b.observation(pair):
        raise ValueError(
            f"{a.name} and {b.name} did not restore the same observation of {picture} in {task}; "
            "run both with the same pictures, task and seed"
        )


def _difference(
    task: str, metric: Metric, a: Entry, b: Entry, pairs: list[Pair]
) -> Difference | None:
    """The difference of one metric on these results; None if no result has the metric."""
    name = metric.name
    values_a: list[float] = []
    values_b: list[float] = []
    pictures: list[str] = []
    for pair in pairs:
        row_a = a.rows[pair]
        row_b = b.rows[pair]
        value_a = row_a.get(name)
        value_b = row_b.get(name)
        if _is_finite(value_a) and _is_finite(value_b):
            values_a.append(value_a)
            values_b.append(value_b)
            pictures.append(pair[1])
    if not pictures:
        return None
    changes = numpy.subtract(values_b, values_a)
    low, high = interval(changes, pictures)
    mean_a = float(numpy.mean(values_a))
    mean_b = float(numpy.mean(values_b))
    return Difference(task, metric, mean_a, mean_b, low, high, len(pictures))


def _is_finite(value: object) -> TypeGuard[float]:
    """Whether a value of a row is a finite number, as every score is in a file that is whole."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def interval(values: numpy.ndarray, groups: Iterable[str]) -> tuple[float, float]:
    """The bootstrap interval of a mean, by percentiles.

    Whole groups are drawn with replacement: the results of one picture are not independent.
    """
    _, group = numpy.unique(list(groups), return_inverse=True)
    sums = numpy.bincount(group, weights=values)
    sizes = numpy.bincount(group)
    count = len(sums)
    random = numpy.random.default_rng(0)
    draws = random.integers(count, size=(RESAMPLES, count))
    totals = sums[draws].sum(1)
    means = totals / sizes[draws].sum(1)
    outside = (1 - LEVEL) / 2
    low, high = numpy.quantile(means, [outside, 1 - outside])
    return float(low), float(high)


def cells(difference: Difference) -> list[str]:
    """The cells of a difference in the table at the shell."""
    metric = difference.metric
    digits = metric.digits
    return [
        difference.task,
        metric.title,
        metric.text(difference.a),
        metric.text(difference.b),
        f"{difference.mean:+.{digits}f}",
        f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}",
        str(difference.pairs),
        difference.better,
    ]


def as_json(a: Entry, b: Entry, all_differences: list[Difference]) -> str:
    """The differences for a program."""
    rows = []
    for difference in all_differences:
        row = {
            "task": difference.task,
            "metric": difference.metric.name,
            "a": difference.a,
            "b": difference.b,
            "difference": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "better": difference.better,
            "pairs": difference.pairs,
        }
        rows.append(row)
    return json.dumps({"a": a.name, "b": b.name, "level": LEVEL, "rows": rows}, indent=1)
