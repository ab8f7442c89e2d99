"""Print the tables of docs/methods.md from a benchmark's folder; --sheets also draws its pictures.

python docs/make_methods.py RESULTS [--sheets] [--rows 2]
"""

import argparse
from dataclasses import fields
from pathlib import Path

from PIL import Image

from pipelines.atomic import write
from pipelines.bench import SETTINGS, Bench
from pipelines.bench_job import BenchSettings
from pipelines.files import encode
from pipelines.records import read_json
from pipelines.results import Results, Table, tables_of
from pipelines.sheet import sheet

DOCS = Path(__file__).parent


def by_method(table: Table) -> str:
    """Format a table: a row per method, a column per task, and their mean or minimum."""
    takes_minimum = table.metric.name == "seconds"
    heading = "least" if takes_minimum else "mean"
    columns = [table.metric.name, *table.tasks, heading]
    lines = [table_row(columns), "|---" * len(columns) + "|"]
    for method in table.methods:
        values = [table.cells.get((task, method)) for task in table.tasks]
        if None in values:
            continue
        total = min(values) if takes_minimum else sum(values) / len(values)
        cells = [table.metric.text(value) for value in [*values, total]]
        lines.append(table_row([method, *cells]))
    return "\n".join(lines)


def table_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def draw(results: Results, task: str, methods: list[str], rows: int) -> Path:
    """Draw the first pictures of a task: clean, observed, and the restoration of each method."""
    names = sorted({row["image"] for row in results.rows})
    lines = [line_of(results, task, methods, name) for name in names[:rows]]
    height = sum(line.height for line in lines)
    canvas = Image.new("RGB", (lines[0].width, height), "white")
    for i, line in enumerate(lines):
        canvas.paste(line, (0, i * line.height))
    half = (canvas.width // 2, canvas.height // 2)
    small = canvas.resize(half, Image.LANCZOS)
    path = DOCS / "methods" / f"{task.replace('/', '-')}.jpg"
    write(path, encode(small, "JPEG", quality=88))
    return path


def line_of(results: Results, task: str, methods: list[str], name: str) -> Image.Image:
    """One picture of a task: clean, observed, and the restoration of each method."""
    paths = {"clean": results.picture(None, "clean", name)}
    for kind in ("observed", *methods):
        paths[kind] = results.picture(task, kind, name)
    pictures = {}
    for kind, path in paths.items():
        if path.exists():
            pictures[kind] = Image.open(path)
    return sheet(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--sheets", action="store_true")
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    record = read_json(options.results / "settings.json", SETTINGS)
    if record is None:
        parser.error(f"{options.results} holds no results of degrade bench")
    names = [field.name for field in fields(BenchSettings)]
    settings = BenchSettings(**{name: record.get(name) for name in names})
    results = Bench(options.results, settings).results()
    tables = tables_of(results.rows, {})
    for table in tables:
        if table.metric.name in ("accuracy", "fidelity", "psnr", "seconds"):
            print(f"\n{by_method(table)}")
    if options.sheets:
        for task in tables[0].tasks:
            print(draw(results, task, tables[0].methods, options.rows))


if __name__ == "__main__":
    main()
