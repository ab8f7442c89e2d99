"""Results as numbers: rows, tables of their means, results.csv and tables.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invert import METHODS

from . import files
from .metrics import FRECHET, METRICS, PER_PICTURE, Metric
from .realism import Reference, statistics
from .tasks import SUITES

Row = dict[str, Any]  # a line of results.jsonl: task, method, image, metrics, loss, …
Curve = list[float | None]  # values at each step; None where there is none
Key = tuple[str, str]  # task, method
Cells = dict[Key, float | None]
CURVE_POINTS = 100  # as many values of a curve are kept
DIGITS = 5  # of the values of a curve


@dataclass(frozen=True)
class Results:
    """Rows with task, method, image and metrics, and the pictures that they describe.

    picture: (task, kind, image) → path, where kind is a method, "observed", or "clean" (no task).
    notes: what a reader of the tables must know.
    """

    folder: Path
    rows: list[Row]
    picture: Callable[[str | None, str, str], Path]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One metric: a row for each task, a column for each method. A cell may be None."""

    metric: Metric
    tasks: list[str]
    methods: list[str]
    cells: Cells

    def best(self, task: str) -> float | None:
        """The best value of a task, by the direction of the metric; None if it has none."""
        known = []
        for method in self.methods:
            value = self.cells.get((task, method))
            if value is not None:
                known.append(value)
        if not known or self.metric.lower_is_better is None:
            return None
        if self.metric.lower_is_better:
            return min(known)
        return max(known)


def tables_of(rows: list[Row], realism: dict[str, Cells]) -> list[Table]:
    """Make a table for each metric that has at least one value.

    realism: the cells of the metrics of sets, by the name of the metric, from `realism_of`.
    """
    tasks = sorted(_distinct(rows, "task"), key=_place_of_task)
    methods = sorted(_distinct(rows, "method"), key=_place_of_method)
    tables = []
    for metric in METRICS:
        cells = realism.get(metric.name, {})
        if metric.of_set is None:
            cells = _means(rows, metric.name)
        has_value = any(value is not None for value in cells.values())
        if has_value:
            tables.append(Table(metric, tasks, methods, cells))
    return tables


def _distinct(rows: list[Row], column: str) -> list[str]:
    """The different values of a column, in the order of their first appearance."""
    values: dict[str, None] = {}
    for row in rows:
        values[row[column]] = None
    return list(values)


def _place_in(names: Iterable[str], name: str) -> int:
    """The index of a name in a list of known names; unknown ones come last."""
    known = list(names)
    if name not in known:
        return len(known)
    return known.index(name)


def _place_of_task(task: str) -> int:
    """The position of a task in the paper; others come last."""
    return _place_in(SUITES["paper"], task)


def _place_of_method(label: str) -> int:
    """The position of a method in `METHODS`, so that the order of rows does not matter.

    A label may say more than the name, such as "pulse tuned". Unknown methods come last.
    """
    words = label.replace(",", " ").split()
    return _place_in(METHODS, words[0])


def _by_key(rows: list[Row]) -> dict[Key, list[Row]]:
    """The rows of each task and method."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        key = (row["task"], row["method"])
        group = groups.setdefault(key, [])
        group.append(row)
    return groups


def _means(rows: list[Row], metric: str) -> Cells:
    """The mean of a metric over the pictures of each task and method."""
    means: Cells = {}
    for key, group in _by_key(rows).items():
        values = [row[metric] for row in group if metric in row]
        if values:
            means[key] = sum(values) / len(values)
    return means


def is_curve(values: object, gaps: bool = False) -> bool:
    """Whether a value that was read from a file is a list of numbers, with None at gaps."""
    if not isinstance(values, list):
        return False
    for value in values:
        is_number = isinstance(value, (int, float))
        is_gap = gaps and value is None
        if not (is_number or is_gap):
            return False
    return True


def thinned(curve: Sequence[float | None], most: int = CURVE_POINTS) -> Curve:
    """Keep at most `most` values, evenly spaced, the first and the last included."""
    count = min(most, len(curve))
    last = len(curve) - 1
    intervals = max(count - 1, 1)
    kept: Curve = []
    for i in range(count):
        index = round(i * last / intervals)
        value = curve[index]
        if value is not None:
            value = round(value, DIGITS)
        kept.append(value)
    return kept


def thinned_terms(terms: object) -> dict[str, Curve]:
    """The curve of each term of a loss, for a row; whatever else a file may hold is left out."""
    if not isinstance(terms, dict):
        return {}
    curves = {}
    for name, curve in terms.items():
        if is_curve(curve, gaps=True):
            curves[name] = thinned(curve)
    return curves


def as_csv(rows: list[Row]) -> str:
    """Write results.csv: one line for each picture."""
    columns = ["task", "method", "image"]
    columns += [metric.name for metric in PER_PICTURE]
    columns += ["steps", "finite"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(tables: list[Table], notes: list[str]) -> str:
    """Write tables.md: a line for each task, the methods side by side, the best value in bold.

    The first table joins three metrics, as the paper does.
    """
    lines = ["# Results", ""]
    for note in notes:
        lines.append(f"* {note}")
    lines.append("")
    lines += _markdown_table(tables[:3])
    for table in tables[3:]:
        lines.append("")
        lines += _markdown_table([table])
    return "\n".join(lines) + "\n"


def _markdown_table(group: list[Table]) -> list[str]:
    """The lines of one table with the columns of all tables of a group."""
    heads = ["task"]
    for table in group:
        title = table.metric.title
        heads += [f"{title} {method}" for method in table.methods]
    rule = "|---" * len(heads) + "|"
    lines = [_markdown_line(heads), rule]
    for task in group[0].tasks:
        cells = [task]
        for table in group:
            cells += _markdown_cells(table, task)
        lines.append(_markdown_line(cells))
    return lines


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cells(table: Table, task: str) -> list[str]:
    cells = []
    best = table.best(task)
    for method in table.methods:
        value = table.cells.get((task, method))
        text = table.metric.text(value)
        if value is not None and value == best:
            text = f"**{text}**"
        cells.append(text)
    return cells


def realism_of(results: Results, resolution: int, reference: Path | None) -> dict[str, Cells]:
    """Compute the metrics of sets of pictures, by name, for each task and method.

    The real pictures are the clean ones of the same rows, or those in the folder `reference`. If
    `reference` is an .npz file of statistics, crops are compared with it.
    """
    given_paths: tuple[Path, ...] | None = None
    crop_statistics = None
    if reference is not None and reference.is_dir():
        sources = files.gather([reference])
        given_paths = tuple(source.path for source in sources)
    elif reference is not None:
        crop_statistics = statistics(reference)

    references: dict[tuple[Path, ...], Reference] = {}
    cells: dict[str, Cells] = {}
    for key, group in _by_key(results.rows).items():
        names = sorted(row["image"] for row in group)  # so that equal sets compare equal
        restored: list[Path] = []
        clean: list[Path] = []
        for name in names:
            restored.append(results.picture(*key, name))
            clean.append(results.picture(None, "clean", name))
        real = given_paths or tuple(clean)
        if real not in references:
            references[real] = Reference(real, resolution, FRECHET, crop_statistics)
        for metric in METRICS:
            if metric.of_set is not None:
                cells_of_metric = cells.setdefault(metric.name, {})
                cells_of_metric[key] = metric.of_set(restored, references[real])
    return cells
