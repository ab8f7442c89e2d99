"""Results for people to look at: results.csv, tables.md and one self-contained report.html."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from . import bench as benchmark
from . import files, metrics
from .bench import Bench
from .chart import chart

PAGE = Path(__file__).parent / "report.html"
LOWER_IS_BETTER = {"accuracy": True, "fidelity": True, "psnr": False, "ssim": False, "seconds": True}
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#65a30d", "#475569", "#9333ea")


@dataclass(frozen=True)
class Table:
    """One metric: a row for each task, a column for each method; None where nothing was computed."""

    metric: str
    tasks: list[str]
    methods: list[str]
    cells: dict[tuple[str, str], float | None]
    lower_is_better: bool

    def best(self, task: str) -> float | None:
        known = [v for m in self.methods if (v := self.cells.get((task, m))) is not None]
        return (min if self.lower_is_better else max)(known) if known else None

    def text(self, task: str, method: str) -> str:
        value = self.cells.get((task, method))
        return "" if value is None else f"{value:.1f}" if self.metric in ("psnr", "seconds") else f"{value:.3f}"


def write(bench: Bench, resolution: int, reference: list[Path] | None = None) -> Path:
    """Make the three files of what is there; returns the page's path."""
    rows = bench.rows()
    if not rows:
        raise ValueError(f"{bench.folder} holds no results yet")
    crops = metrics.Crops.of(resolution)
    distances = benchmark.realism(bench, rows, crops, reference)
    tables = tables_of(rows, distances)
    notes = notes_of(bench, rows, crops, reference)
    files.write(bench.folder / "results.csv", as_csv(rows).encode())
    files.write(bench.folder / "tables.md", as_markdown(tables, notes).encode())
    page = bench.folder / "report.html"
    files.write(page, as_html(bench, rows, tables, notes).encode())
    return page


def tables_of(rows: list[dict], distances: benchmark.Distances) -> list[Table]:
    order = list(dict.fromkeys(benchmark.SUITES["paper"] + [row["task"] for row in rows]))
    tasks = [task for task in order if any(row["task"] == task for row in rows)]
    methods = list(dict.fromkeys(row["method"] for row in rows))

    def mean(metric: str, task: str, method: str) -> float | None:
        values = [row[metric] for row in rows if (row["task"], row["method"]) == (task, method) and metric in row]
        return sum(values) / len(values) if values else None

    found = []
    for metric, lower in LOWER_IS_BETTER.items():
        cells = {(task, method): mean(metric, task, method) for task in tasks for method in methods}
        if any(v is not None for v in cells.values()):
            found.append(Table(metric, tasks, methods, cells, lower))
    for i, name in enumerate(metrics.Frechet.here().names):
        cells = {key: pair[i] for key, pair in distances.items()}
        if any(v is not None for v in cells.values()):
            found.insert(2 + i if i == 0 else len(found), Table(name, tasks, methods, cells, True))
    return found


def notes_of(bench: Bench, rows: list[dict], crops: metrics.Crops, reference: list[Path] | None) -> list[str]:
    """What a reader must know beside the tables."""
    s = bench.settings
    pictures = len({row["image"] for row in rows})
    against = "the reference pictures" if reference else "the same crops of the clean pictures"
    notes = [
        f"{pictures} pictures; generator {s.generator}; {s.perceptual} in the loss; seed {s.seed}.",
        "Accuracy is VGG-LPIPS to the clean picture; fidelity is VGG-LPIPS of the restoration, truly degraded again, "
        f"to the observation. Observations with a side below {metrics.SMALLEST} are enlarged to it by whole pixels, "
        "on both sides of the comparison.",
        f"{metrics.Frechet.here().names[0]}: {crops}, against {against}.",
    ]
    if metrics.Frechet.here().inception is None:
        notes.append(
            "Without the Inception network on this machine, Fréchet distances are of VGG's features, and no FID."
        )
    if s.steps is not None:
        notes.append(f"Shortened: {s.steps} steps in all for every method.")
    if s.oracle_mask:
        notes.append("Every method was told which pixels are dead.")
    return notes


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
                    shown = table.text(task, method)
                    cells.append(f"**{shown}**" if shown and table.cells[task, method] == best else shown)
            parts.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


# The page -----------------------------------------------------------------------------------------


def as_html(bench: Bench, rows: list[dict], tables: list[Table], notes: list[str]) -> str:
    tasks, methods = tables[0].tasks, tables[0].methods
    colour = {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}
    parts = {
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "TABLES": "".join(map(table_html, tables)),
        "CHARTS": "".join([*level_charts(tables, colour), scatter(tables, colour), *loss_charts(rows, colour)]),
        "GRID": grid(bench, rows, tasks, methods),
        "ITEMS": json.dumps(gallery(bench, rows)).replace("</", "<\\/"),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"<!-- {name} -->", part)
    return page


def table_html(table: Table) -> str:
    heads = "".join(f"<th scope='col'>{html.escape(m)}</th>" for m in table.methods)
    lines = []
    for task in table.tasks:
        best = table.best(task)
        cells = "".join(
            f"<td{' class=best' if table.cells.get((task, m)) == best is not None else ''}>{table.text(task, m)}</td>"
            for m in table.methods
        )
        lines.append(f"<tr><th scope='row'>{html.escape(task)}</th>{cells}</tr>")
    arrow = "↓" if table.lower_is_better else "↑"
    return (
        f"<figure class=table><figcaption>{html.escape(table.metric)} {arrow}</figcaption><div class=scroll><table>"
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></figure>"
    )


def picture_data(path: Path) -> str:
    """A picture as a data address: PNG where it is small, else JPEG."""
    with Image.open(path) as image:
        if max(image.size) > 256:
            data, kind = files.encode(image.convert("RGB"), "JPEG", quality=90), "jpeg"
        else:
            data, kind = path.read_bytes(), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def gallery(bench: Bench, rows: list[dict]) -> list[dict]:
    """What the page's slider shows: an item for each row, pictures by number, since many share one."""
    numbers: dict[Path, int] = {}
    items = []
    for row in rows:
        task, level = row["task"].rpartition("/")[::2]
        paths = [
            bench.picture(row["task"], "observed", row["image"]),
            bench.picture(row["task"], row["method"], row["image"]),
            bench.picture(None, "clean", row["image"]),
        ]
        shown = [numbers.setdefault(path, len(numbers)) if path.exists() else None for path in paths]
        item = {key: row.get(key) for key in ("method", "image", "accuracy", "fidelity", "psnr")}
        items.append(item | {"task": task or level, "level": level if task else "", "pictures": shown})
    return [{"items": items, "pictures": [picture_data(path) for path in numbers]}]


def grid(bench: Bench, rows: list[dict], tasks: list[str], methods: list[str]) -> str:
    """The papers' grids: a column for each task at its easiest and hardest, and for each composition."""
    levels = [task for task in tasks if task.endswith(("/XS", "/XL"))]
    composed = [task for task in tasks if "/" not in task]
    name = rows[0]["image"]
    figures = []
    for title, columns in (("Single tasks, easiest and hardest", levels), ("Compositions", composed)):
        if not columns:
            continue
        lines = ["<tr><th></th>" + "".join(f"<th scope='col'>{html.escape(c)}</th>" for c in columns) + "</tr>"]
        for kind in ("observed", *methods, "clean"):
            cells = []
            for task in columns:
                path = bench.picture(None if kind == "clean" else task, kind, name)
                alt = html.escape(f"{task}, {kind}")
                cells.append(f"<td><img alt='{alt}' src='{picture_data(path)}'></td>" if path.exists() else "<td></td>")
            lines.append(f"<tr><th scope='row'>{html.escape(kind)}</th>{''.join(cells)}</tr>")
        inside = f"<div class=scroll><table class=grid>{''.join(lines)}</table></div>"
        figures.append(f"<figure><figcaption>{title}</figcaption>{inside}</figure>")
    return "".join(figures)


def level_charts(tables: list[Table], colour: dict[str, str]) -> list[str]:
    """Each metric against the level of each single task."""
    charts = []
    for task in dict.fromkeys(t.partition("/")[0] for t in tables[0].tasks if "/" in t):
        levels = [t for t in tables[0].tasks if t.partition("/")[0] == task]
        if len(levels) < 2:
            continue
        for table in tables[:3]:
            lines = {m: [(i, table.cells.get((t, m))) for i, t in enumerate(levels)] for m in table.methods}
            ticks = [t.partition("/")[2] for t in levels]
            charts.append(chart(f"{table.metric}, {task}", lines, colour, ticks=ticks))
    return charts


def scatter(tables: list[Table], colour: dict[str, str]) -> str:
    """Accuracy against realism, a dot for each task and method."""
    by_name = {table.metric: table for table in tables}
    realism = by_name.get(metrics.Frechet.here().names[0])
    accuracy = by_name.get("accuracy")
    if realism is None or accuracy is None:
        return ""
    dots = {
        m: [(accuracy.cells.get((t, m)), realism.cells.get((t, m))) for t in accuracy.tasks] for m in accuracy.methods
    }
    return chart(f"{realism.metric} (up) against accuracy (right)", dots, colour, dots_only=True)


def loss_charts(rows: list[dict], colour: dict[str, str]) -> list[str]:
    """The loss over the steps, of the first picture of each task; each method's own, so only shapes compare."""
    charts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task and row["image"] == rows[0]["image"] and row["loss"]]
        lines = {row["method"]: [(i / len(row["loss"]), v / (row["loss"][0] or 1)) for i, v in enumerate(row["loss"])]
                 for row in of_task}  # fmt: skip
        charts.append(chart(f"loss ÷ first loss, {task}", lines, colour))
    return charts
