"""Results for people to look at: one self-contained page, which asks for nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from . import files, metrics
from .chart import chart
from .results import Results, Table, as_csv, as_markdown, realism, tables_of

PAGE = Path(__file__).parent / "report.html"
MADE = (
    "report.html",
    "results.csv",
    "tables.md",
)  # in the order of writing: the page tells that all are ours
_OURS = b"<title>degrade: results</title>"
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
    """Raise ValueError where a file would be written over that is of no report."""
    there = [path for name in MADE if (path := folder / name).exists()]
    if there:
        with there[0].open("rb") as file:
            if _OURS not in file.read(2000):
                raise ValueError(
                    f"{there[0]} is there, and is of no report of degrade's; choose another --output"
                )


def write(results: Results, resolution: int, reference: Path | None = None) -> Path:
    """Make report.html, results.csv and tables.md of what is there; returns the page's path."""
    if not results.rows:
        raise ValueError(f"{results.folder} holds no results yet")
    refuse_foreign(results.folder)
    tables = tables_of(results.rows, realism(results, resolution, reference))
    notes = notes_of(results, tables, metrics.Crops.of(resolution), reference)
    texts = (as_html(results, tables, notes), as_csv(results.rows), as_markdown(tables, notes))
    for name, text in zip(MADE, texts, strict=True):
        files.write(results.folder / name, text.encode(errors="replace"))
    return results.folder / MADE[0]


def notes_of(
    results: Results, tables: list[Table], crops: metrics.Crops, reference: Path | None
) -> list[str]:
    """What a reader must know beside the tables."""
    pictures, frechet = len({row["image"] for row in results.rows}), metrics.Frechet.here()
    notes = [f"{pictures} picture{'s' * (pictures > 1)}.", *results.told]
    counts = Counter((row["task"], row["method"]) for row in results.rows).values()
    if min(counts) < max(counts):
        notes.append(f"Not all cells are of the same pictures: of {min(counts)} to {max(counts)}.")
    said = {
        "accuracy": "Accuracy is VGG-LPIPS to the clean picture.",
        "fidelity": "Fidelity is VGG-LPIPS of the restoration, truly degraded again, to the observation; below a side "
        f"of {metrics.SMALLEST} both are enlarged to it by whole pixels.",
        frechet.names[0]: f"{frechet.names[0]}: {crops}, against "
        + ("the reference." if reference else "the same crops of the clean pictures."),
        "NIQE (fitted here)": "NIQE is measured from a model fitted to the pictures compared with, and is no paper's.",
    }
    notes += [said[table.metric] for table in tables if table.metric in said]
    if frechet.inception is None and any(table.metric in frechet.names for table in tables):
        notes.append(
            "The Inception network is not on this machine: these distances are of VGG's features, and no FID."
        )
    return notes


def as_html(results: Results, tables: list[Table], notes: list[str]) -> str:
    tasks, methods, rows = tables[0].tasks, tables[0].methods, results.rows
    colour = {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}
    parts = {
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in notes),
        "TABLES": "".join(map(table_html, tables)),
        "CHARTS": "".join(
            [*level_charts(tables, colour), scatter(tables, colour), *loss_charts(rows, colour)]
        ),
        "GRID": grid(results, tasks, methods),
        "ITEMS": json.dumps(gallery(results)).replace("</", "<\\/"),
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
        values = [table.cells.get((task, m)) for m in table.methods]
        cells = "".join(
            f"<td{' class=best' if v == best is not None else ''}>{table.text(v)}</td>"
            for v in values
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
            data, kind = files.encode(image.convert("RGB")), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def gallery(results: Results) -> list[dict]:
    """What the page's slider shows: an item for each row, pictures by number, since many share one."""
    numbers: dict[Path, int] = {}
    items = []
    for row in results.rows:
        task, level = row["task"].rpartition("/")[::2]
        paths = [
            results.picture(row["task"], "observed", row["image"]),
            results.picture(row["task"], row["method"], row["image"]),
            results.picture(None, "clean", row["image"]),
        ]
        shown = [
            numbers.setdefault(path, len(numbers)) if path.exists() else None for path in paths
        ]
        item = {key: row.get(key) for key in ("method", "image", "accuracy", "fidelity", "psnr")}
        items.append(
            item | {"task": task or level, "level": level if task else "", "pictures": shown}
        )
    return [{"items": items, "pictures": [picture_data(path) for path in numbers]}]


def grid(results: Results, tasks: list[str], methods: list[str]) -> str:
    """The papers' grids: a column for each task at its easiest and hardest, and for each composition."""
    levels = [task for task in tasks if task.endswith(("/XS", "/XL"))]
    composed = [task for task in tasks if "/" not in task]
    name = results.rows[0]["image"]
    figures = []
    for title, columns in (
        ("Single tasks, easiest and hardest", levels),
        ("Compositions", composed),
    ):
        if not columns:
            continue
        lines = [
            "<tr><th></th>"
            + "".join(f"<th scope='col'>{html.escape(c)}</th>" for c in columns)
            + "</tr>"
        ]
        for kind in ("observed", *methods, "clean"):
            cells = []
            for task in columns:
                path = results.picture(None if kind == "clean" else task, kind, name)
                alt = html.escape(f"{task}, {kind}")
                cells.append(
                    f"<td><img alt='{alt}' src='{picture_data(path)}'></td>"
                    if path.exists()
                    else "<td></td>"
                )
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
            lines = {
                m: [(i, table.cells.get((t, m))) for i, t in enumerate(levels)]
                for m in table.methods
            }
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
        m: [(accuracy.cells.get((t, m)), realism.cells.get((t, m))) for t in accuracy.tasks]
        for m in accuracy.methods
    }
    return chart(f"{realism.metric} (up) against accuracy (right)", dots, colour, dots_only=True)


def loss_charts(rows: list[dict], colour: dict[str, str]) -> list[str]:
    """The loss over the steps, of the first picture of each task; each method's own, so only shapes compare."""
    charts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [
            row
            for row in rows
            if row["task"] == task and row["image"] == rows[0]["image"] and row["loss"]
        ]
        lines = {
            row["method"]: [
                (i / len(row["loss"]), v / (row["loss"][0] or 1)) for i, v in enumerate(row["loss"])
            ]
            for row in of_task
        }
        charts.append(chart(f"loss ÷ first loss, {task}", lines, colour))
    return charts
