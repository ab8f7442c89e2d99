"""Print the tables of docs/methods.md from a benchmark's folder; --sheets also draws its pictures.

python docs/make_methods.py RESULTS [--sheets] [--rows 2]
"""

import argparse
from dataclasses import fields
from pathlib import Path

from PIL import Image

from pipelines.bench import SETTINGS, Bench, BenchSettings
from pipelines.files import encode, read_json, write
from pipelines.results import Results, Table, tables_of
from pipelines.sheet import sheet

DOCS = Path(__file__).parent


def by_method(table: Table) -> str:
    """Format a table: a row per method, a column per task, and their mean or minimum."""
    whole, combine = (
        ("least", min)
        if table.metric.name == "seconds"
        else ("mean", lambda cells: sum(cells) / len(cells))
    )
    lines = [
        f"| {table.metric.name} | {' | '.join(table.tasks)} | {whole} |",
        "|---" * (len(table.tasks) + 2) + "|",
    ]
    for method in table.methods:
        cells = [table.cells.get((task, method)) for task in table.tasks]
        if None not in cells:
            shown = [table.metric.text(value) for value in (*cells, combine(cells))]
            lines.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def draw(results: Results, task: str, methods: list[str], rows: int) -> Path:
    """Draw the first pictures of a task: clean, observed, and the restoration of each method."""
    lines = []
    for name in sorted({row["image"] for row in results.rows})[:rows]:
        paths = {"clean": results.picture(None, "clean", name)}
        paths |= {kind: results.picture(task, kind, name) for kind in ("observed", *methods)}
        lines.append(
            sheet({kind: Image.open(path) for kind, path in paths.items() if path.exists()})
        )
    canvas = Image.new("RGB", (lines[0].width, sum(line.height for line in lines)), "white")
    for i, line in enumerate(lines):
        canvas.paste(line, (0, i * line.height))
    small = canvas.resize((canvas.width // 2, canvas.height // 2), Image.LANCZOS)
    path = DOCS / "methods" / f"{task.replace('/', '-')}.jpg"
    write(path, encode(small, "JPEG", quality=88))
    return path


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
