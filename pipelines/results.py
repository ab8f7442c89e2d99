"""What was computed, as numbers: rows, tables of their means, results.csv and tables.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from invert import METHODS

from . import files, metrics, niqe
from .tasks import SUITES

LOWER_IS_BETTER = {
    "accuracy": True,
    "fidelity": True,
    "psnr": False,
    "ssim": False,
    "identity": False,
    "seconds": True,
}
Cells = dict[tuple[str, str], float | None]  # by task and method


@dataclass(frozen=True)
class Results:
    """Rows with task, method, image and what was measured; and the pictures they are about.

    picture: (task, kind, image) → path, where kind is a method, "observed", or "clean" with no task.
    told: what a reader of the tables must know.
    """

    folder: Path
    rows: list[dict]
    picture: Callable[[str | None, str, str], Path]
    told: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One metric: a row for each task, a column for each method; None where nothing was computed."""

    metric: str
    tasks: list[str]
    methods: list[str]
    cells: Cells
    lower_is_better: bool

    def best(self, task: str) -> float | None:
        known = [v for m in self.methods if (v := self.cells.get((task, m))) is not None]
        return (min if self.lower_is_better else max)(known) if known else None

    def text(self, value: float | None) -> str:
        return (
            ""
            if value is None
            else f"{value:.1f}"
            if self.metric in ("psnr", "seconds")
            else f"{value:.3f}"
        )


def tables_of(rows: list[dict], realism: dict[str, Cells]) -> list[Table]:
    order = list(dict.fromkeys(SUITES["paper"] + [row["task"] for row in rows]))
    tasks = [task for task in order if any(row["task"] == task for row in rows)]
    known = list(METHODS)

    def place(label: str) -> int:  # rows of a cluster come in any order
        name = label.replace(",", " ").split()[0]
        return known.index(name) if name in known else len(known)

    methods = sorted(dict.fromkeys(row["method"] for row in rows), key=place)

    def mean(metric: str, task: str, method: str) -> float | None:
        values = [
            row[metric]
            for row in rows
            if (row["task"], row["method"]) == (task, method) and metric in row
        ]
        return sum(values) / len(values) if values else None

    found = []
    for metric, lower in LOWER_IS_BETTER.items():
        cells = {(task, method): mean(metric, task, method) for task in tasks for method in methods}
        if any(v is not None for v in cells.values()):
            found.append(Table(metric, tasks, methods, cells, lower))
    for i, (name, cells) in enumerate(realism.items()):
        if any(value is not None for value in cells.values()):
            found.insert(2 if i == 0 else len(found), Table(name, tasks, methods, cells, True))
    return found


def is_curve(losses: object) -> bool:
    """Whether this, from a file, is a list of numbers."""
    return isinstance(losses, list) and all(isinstance(loss, (int, float)) for loss in losses)


def thinned(losses: list[float], most: int = 100) -> list[float]:
    """At most so many of the losses, evenly chosen, for a curve."""
    last, count = len(losses) - 1, min(most, len(losses))
    return [round(losses[round(i * last / max(count - 1, 1))], 5) for i in range(count)]


def as_csv(rows: list[dict]) -> str:
    names = ["task", "method", "image", *LOWER_IS_BETTER, "steps", "finite"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(tables: list[Table], notes: list[str]) -> str:
    """The paper's layout: a line for each task, the methods side by side under every metric, the best in bold."""
    parts = ["# Results", "", *(f"* {note}" for note in notes)]
    three, rest = tables[:3], tables[3:]
    for group in (three, *([t] for t in rest)):
        heads = [f"{table.metric} {method}" for table in group for method in table.methods]
        parts += ["", f"| task | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for task in group[0].tasks:
            cells = []
            for table in group:
                best = table.best(task)
                for method in table.methods:
                    value = table.cells.get((task, method))
                    shown = table.text(value)
                    cells.append(f"**{shown}**" if shown and value == best else shown)
            parts.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def realism(results: Results, resolution: int, reference: Path | None) -> dict[str, Cells]:
    """How like real pictures: Fréchet distances of crops and of whole pictures, and NIQE, by the name of each.

    Against the clean pictures of the same rows, or the pictures in `reference`; Fréchet distances of crops also
    against the statistics in a file. Cells with nothing to compare with are left out.
    """
    frechet, crops = metrics.Frechet.here(), metrics.Crops.of(resolution)
    given = (
        None
        if reference is None or not reference.is_dir()
        else tuple(s.path for s in files.gather([reference]))
    )
    statistics = None if reference is None or reference.is_dir() else metrics.statistics(reference)

    def pictures(paths: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
        for path in paths:
            yield path.stem, files.read_image(path)

    def alone(paths: Sequence[Path]) -> Iterator[Tensor]:
        return (image for _, image in pictures(paths))

    @cache
    def of_real(
        real: tuple[Path, ...],
    ) -> tuple[metrics.Statistics, metrics.Statistics, niqe.Model]:
        crops_found = statistics or frechet.of(metrics.crops_of(pictures(real), crops))
        return (
            crops_found,
            frechet.of(alone(real)),
            niqe.Model.of(alone(real), niqe.side_of(resolution)),
        )

    groups: dict[tuple[str, str], list[str]] = {}
    for row in results.rows:
        groups.setdefault((row["task"], row["method"]), []).append(row["image"])
    of_crops, of_whole, blind = {}, {}, {}
    for key, names in groups.items():
        names.sort()  # so that equal sets of pictures are one
        mine = [results.picture(*key, name) for name in names]
        real = given or tuple(results.picture(None, "clean", name) for name in names)
        there = all(path.exists() for path in real)
        if there or statistics is not None:
            real_crops = of_real(real)[0] if there else statistics
            of_crops[key] = frechet.between(metrics.crops_of(pictures(mine), crops), real_crops)
        if there:
            _, real_whole, model = of_real(real)
            of_whole[key] = frechet.between(alone(mine), real_whole)
            values = [model.distance(image) for image in alone(mine)]
            blind[key] = sum(values) / len(values)
    return {frechet.names[0]: of_crops, frechet.names[1]: of_whole, "NIQE (fitted here)": blind}
