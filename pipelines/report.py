"""The report: one HTML page with all pictures inside, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from . import atomic, files
from .chart import Points, chart
from .metrics import ACCURACY, CROP_DISTANCE, METRICS
from .realism import Crops
from .results import (
    Curve,
    Results,
    Row,
    Table,
    as_csv,
    as_markdown,
    realism_of,
    tables_of,
    thinned_terms,
)

PAGE = Path(__file__).parent / "report.html"
# The order of writing matters: report.html carries the mark by which we know all three as ours.
OUTPUTS = ("report.html", "results.csv", "tables.md")
MARK = b"<title>degrade: results</title>"
LARGEST_PNG = 256  # pictures with a longer side are put into the page as JPEG
COLOURS = (
    "#2563eb",
    "#dc2626",
    "#059669",
    "#d97706",
    "#7c3aed",
    "#0891b2",
    "#db2777",
    "#65a30d",
    "#475569",
    "#9333ea",
)


def refuse_foreign(folder: Path) -> None:
    """Raise ValueError if the report would overwrite a file that no report of ours wrote."""
    existing = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if not existing:
        return
    with existing[0].open("rb") as file:
        beginning = file.read(2000)
    if MARK not in beginning:
        raise ValueError(
            f"{existing[0]} exists, and degrade did not write it; choose another --output"
        )


def remove_report(folder: Path) -> bool:
    """Remove a report that we wrote, and say whether there was one."""
    page = folder / OUTPUTS[0]
    if not page.is_file():
        return False
    with page.open("rb") as file:
        beginning = file.read(2000)
    if MARK not in beginning:
        return False
    for name in reversed(OUTPUTS):  # the page last: without it the others would not count as ours
        (folder / name).unlink(missing_ok=True)
    return True


def write(results: Results, resolution: int, reference: Path | None = None) -> Path:
    """Write report.html, results.csv and tables.md; return the path of the page.

    resolution: the side of the restored pictures. reference: see `results.realism_of`.
    """
    if not results.rows:
        raise ValueError(f"{results.folder} holds no results yet")
    refuse_foreign(results.folder)
    tables = tables_of(results.rows, realism_of(results, resolution, reference))
    notes = notes_of(results, tables, Crops.of(resolution), reference)
    page = as_html(results, tables, notes)
    texts = (page, as_csv(results.rows), as_markdown(tables, notes))
    for name, text in zip(OUTPUTS, texts, strict=True):
        atomic.write(results.folder / name, text.encode(errors="replace"))
    return results.folder / OUTPUTS[0]


def notes_of(
    results: Results, tables: list[Table], crops: Crops, reference: Path | None
) -> list[str]:
    """What a reader of the tables must know."""
    pictures = len({row["image"] for row in results.rows})
    number = "1 picture." if pictures == 1 else f"{pictures} pictures."
    notes = [number, *results.notes]
    rows_of_cells = Counter((row["task"], row["method"]) for row in results.rows)
    fewest = min(rows_of_cells.values())
    most = max(rows_of_cells.values())
    if fewest < most:
        notes.append(f"The cells cover different numbers of pictures: {fewest} to {most}.")
    compared_with = "the reference" if reference else "the same crops of the clean pictures"
    for table in tables:
        if table.metric.note:
            notes.append(table.metric.note.format(crops=crops, reference=compared_with))
    return notes


def as_html(results: Results, tables: list[Table], notes: list[str]) -> str:
    """Fill the page's template."""
    tasks = tables[0].tasks
    methods = tables[0].methods
    rows = results.rows
    colour = colours_of(methods)
    charts = [
        *level_charts(tables, colour),
        scatter(tables, colour),
        *loss_charts(rows, colour),
        *term_charts(rows),
    ]
    parts = {
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "TABLES": "".join(map(table_html, tables)),
        "CHARTS": "".join(charts),
        "GRID": grid(results, tasks, methods),
        "ITEMS": json.dumps(gallery(results)).replace("</", "<\\/"),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"<!-- {name} -->", part)
    return page


def colours_of(names: list[str]) -> dict[str, str]:
    """A colour for each name; they repeat if there are many."""
    return dict(zip(names, itertools.cycle(COLOURS), strict=False))


def table_html(table: Table) -> str:
    """One table; the best value of each task is marked."""
    heads = "".join(f"<th scope='col'>{html.escape(method)}</th>" for method in table.methods)
    lines = []
    for task in table.tasks:
        best = table.best(task)
        cells = ""
        for method in table.methods:
            value = table.cells.get((task, method))
            mark = " class=best" if value is not None and value == best else ""
            cells += f"<td{mark}>{table.metric.text(value)}</td>"
        lines.append(f"<tr><th scope='row'>{html.escape(task)}</th>{cells}</tr>")
    caption = f"{html.escape(table.metric.title)} {table.metric.arrow}"
    return (
        f"<figure class=table><figcaption>{caption}</figcaption><div class=scroll><table>"
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div></figure>"
    )


def picture_data(path: Path) -> str:
    """A picture as a data: URL; small ones as PNG, others as JPEG."""
    with Image.open(path) as image:
        colours = image.convert("RGB")
    if max(colours.size) > LARGEST_PNG:
        kind = "jpeg"
        data = files.encode(colours, "JPEG", quality=90)
    else:
        kind = "png"
        data = files.encode(colours)
    text = base64.b64encode(data).decode()
    return f"data:image/{kind};base64,{text}"


def gallery(results: Results) -> list[dict[str, list]]:
    """The data of the page's sliders: an item for each row.

    Items name their pictures by number, because many items share one picture.
    """
    numbers: dict[Path, int] = {}
    items = []
    for row in results.rows:
        group, _, name = row["task"].rpartition("/")
        pictures: list[int | None] = []
        for path in _pictures_of(row, results):
            number = None
            if path.exists():
                number = numbers.setdefault(path, len(numbers))
            pictures.append(number)
        item = {
            "method": row["method"],
            "image": row["image"],
            "task": group or name,
            "level": name if group else "",
            "pictures": pictures,
            "scores": scores_text(row),
        }
        items.append(item)
    return [{"items": items, "pictures": [picture_data(path) for path in numbers]}]


def _pictures_of(row: Row, results: Results) -> tuple[Path, Path, Path]:
    """The paths of the observed, the restored and the clean picture of a row."""
    task = row["task"]
    image = row["image"]
    observed = results.picture(task, "observed", image)
    restored = results.picture(task, row["method"], image)
    clean = results.picture(None, "clean", image)
    return observed, restored, clean


def scores_text(row: Row) -> str:
    """The metrics of one picture in words, such as "accuracy 0.213 · psnr 24.1 dB"."""
    texts = []
    for metric in METRICS:
        value = row.get(metric.name)
        if metric.of_picture is not None and value is not None:
            text = f"{metric.name} {metric.text(value)} {metric.unit}"
            texts.append(text.rstrip())
    return " · ".join(texts)


def grid(results: Results, tasks: list[str], methods: list[str]) -> str:
    """The grids of the papers: one of the easiest and hardest levels, one of the compositions."""
    levels = [task for task in tasks if task.endswith(("/XS", "/XL"))]
    compositions = [task for task in tasks if "/" not in task]
    figures = ""
    if levels:
        figures += _grid_figure("Single tasks, easiest and hardest", levels, results, methods)
    if compositions:
        figures += _grid_figure("Compositions", compositions, results, methods)
    return figures


def _grid_figure(title: str, tasks: list[str], results: Results, methods: list[str]) -> str:
    """A column for each task; rows for the observed, the restored and the clean picture."""
    image = results.rows[0]["image"]
    heads = "".join(f"<th scope='col'>{html.escape(task)}</th>" for task in tasks)
    lines = [f"<tr><th></th>{heads}</tr>"]
    for kind in ("observed", *methods, "clean"):
        cells = ""
        for task in tasks:
            path = results.picture(None if kind == "clean" else task, kind, image)
            alt = html.escape(f"{task}, {kind}")
            picture = f"<img alt='{alt}' src='{picture_data(path)}'>" if path.exists() else ""
            cells += f"<td>{picture}</td>"
        lines.append(f"<tr><th scope='row'>{html.escape(kind)}</th>{cells}</tr>")
    table = f"<div class=scroll><table class=grid>{''.join(lines)}</table></div>"
    return f"<figure><figcaption>{title}</figcaption>{table}</figure>"


def level_charts(tables: list[Table], colour: dict[str, str]) -> list[str]:
    """The first three metrics against the level of each single task."""
    levels_of: dict[str, list[str]] = {}
    for task in tables[0].tasks:
        group, slash, _ = task.partition("/")
        if slash:
            levels_of.setdefault(group, []).append(task)
    charts = []
    for group, levels in levels_of.items():
        if len(levels) == 1:
            continue
        ticks = [task.partition("/")[2] for task in levels]
        for table in tables[:3]:
            lines = _lines_of_levels(table, levels)
            title = f"{table.metric.title}, {group}"
            charts.append(chart(title, lines, colour, ticks=ticks))
    return charts


def _lines_of_levels(table: Table, levels: list[str]) -> dict[str, Points]:
    """For each method, the value of a metric at each level."""
    lines: dict[str, Points] = {}
    for method in table.methods:
        values = [table.cells.get((task, method)) for task in levels]
        lines[method] = list(enumerate(values))
    return lines


def scatter(tables: list[Table], colour: dict[str, str]) -> str:
    """Accuracy against realism, a dot for each task and method."""
    by_metric = {table.metric.name: table for table in tables}
    realism = by_metric.get(CROP_DISTANCE.name)
    accuracy = by_metric.get(ACCURACY.name)
    if realism is None or accuracy is None:
        return ""
    dots: dict[str, Points] = {}
    for method in accuracy.methods:
        dots[method] = []
        for task in accuracy.tasks:
            cell = (task, method)
            dot = (accuracy.cells.get(cell), realism.cells.get(cell))
            dots[method].append(dot)
    title = f"{CROP_DISTANCE.name} (up) against accuracy (right)"
    return chart(title, dots, colour, dots_only=True)


def loss_charts(rows: list[Row], colour: dict[str, str]) -> list[str]:
    """The loss of the first picture of each task, divided by its first value.

    Every method has a loss of its own, so that only the shapes of the curves can be compared.
    """
    lines_of: dict[str, dict[str, Points]] = {}
    for row in rows:
        losses = row["loss"]
        if row["image"] != rows[0]["image"] or not losses:
            continue
        first = losses[0] or 1
        ratios = [loss / first for loss in losses]
        lines = lines_of.setdefault(row["task"], {})
        lines[row["method"]] = _curve(ratios)
    charts = []
    for task, lines in lines_of.items():
        charts.append(chart(f"loss ÷ first loss, {task}", lines, colour))
    return charts


def term_charts(rows: list[Row]) -> list[str]:
    """Each term of the loss of the first picture, a chart for each task and method.

    Rows of older results have no terms, and make no chart.
    """
    charts = []
    for row in rows:
        if row["image"] != rows[0]["image"]:
            continue
        terms = thinned_terms(row.get("terms"))
        if not terms:
            continue
        lines = {name: _curve(values) for name, values in terms.items()}
        title = f"terms of the loss, {row['task']}, {row['method']}"
        charts.append(chart(title, lines, colours_of(list(lines))))
    return charts


def _curve(values: Curve) -> Points:
    """Points of a curve whose x runs from 0 to 1."""
    return [(i / len(values), value) for i, value in enumerate(values)]
