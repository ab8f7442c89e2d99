"""`degrade bench`, `compare` and `tune`: methods are compared, and adjusted to a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..console import echo, load, say, user_errors
from ..options import (
    METHODS_HELP,
    ClassLabel,
    CompareOptions,
    DeviceOptions,
    GeneratorOptions,
    Tasks,
    compared,
    search,
)


def bench(
    compare: CompareOptions,
    options: GeneratorOptions,
    run: DeviceOptions,
    methods: Annotated[str, compared(help=METHODS_HELP, metavar="NAMES")] = "calibrated",
    tasks: Annotated[
        str,
        compared(
            help="all, single, composed, names such as denoising/XL,UNAP, or a JSON file of tasks.",
            metavar="NAMES|JSON",
        ),
    ] = "all",
    reference: Annotated[
        Path | None,
        compared(
            help="Folder of real pictures, or .npz statistics, for the realism metrics.",
            metavar="PATH",
        ),
    ] = None,
    tuned: Annotated[
        Path | None,
        compared(
            help="File of `degrade tune`: its tuned methods are compared, too.", metavar="JSON"
        ),
    ] = None,
    embedding: Annotated[
        Path | None,
        compared(
            help="Face embedding: measures identity (.pt, .onnx), and is a loss of adam-id (.pt).",
            metavar="FILE",
        ),
    ] = None,
    class_label: ClassLabel = None,
    results: Annotated[
        str | None,
        compared(
            help="Folders of somebody's restorations to score, with pictures such as UNAP/000.png.",
            metavar="DIRS",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        compared(
            help="Answers per picture, for coverage: how often the truth is among them.",
            min=2,
            metavar="N",
        ),
    ] = None,
) -> None:
    """Compare methods over the tasks of the papers.

    Every picture is degraded by every task and restored by every method. Writes
    results.jsonl, results.json, results.csv, tables.md, all pictures, and the
    page report.html.
    If the run is stopped, the same command resumes it.

    \b
    degrade bench --images examples/avatars --tasks UNAP --limit 2 -o results
    degrade bench --images faces --methods robust,pulse --tasks single -o results
    degrade bench --images faces --methods ilo --tasks theirs/results.json -o mine
    """
    with user_errors():
        from .. import exchange, report
        from ..bench import Failed, methods_of, opened, priors_of
        from ..bench_job import BenchSettings, Cell, given_cells
        from ..classes import Classes
        from ..solver import device_of
        from ..tasks import problems_of
        from ..tune import read_tuned

        load(run.plugin)
        chosen_methods, chosen_tasks = methods_of(methods), problems_of(tasks, compare.suite)
        classes = Classes.read(class_label)
        cells = []
        for task in chosen_tasks:
            cells += [Cell(task, label, method) for label, method in chosen_methods.items()]
        if tuned is not None:
            cells += [cell for cell in read_tuned(tuned) if cell.task in chosen_tasks]
        if results is not None:
            cells += given_cells(results, list(chosen_tasks), chosen_methods)
        cells = [replace(cell, given_task=chosen_tasks[cell.task]) for cell in cells]
        if reference is not None and not reference.exists():
            raise ValueError(
                f"{reference} does not exist; "
                "give a folder of pictures, or an .npz with mu and sigma"
            )
        report.refuse_foreign(compare.output)
        exchange.refuse_foreign(compare.output)
        settings = BenchSettings.of(options, embedding, samples)
        failures: tuple[str, ...] = ()
        page = None
        priors = priors_of(options, [cell.method for cell in cells])
        with opened(compare, settings, priors, run, embedding, classes) as work:
            try:
                work.run(cells)
            except Failed as error:
                failures = error.args
            if work.bench.rows():
                page = report.write(work.bench.results(), work.side, reference)
                exchange.write(work.bench, device_of(run.device))
        if page and not run.quiet:
            for line in (compare.output / "tables.md").read_text(encoding="utf-8").splitlines():
                echo(line)
            echo(page)
        for reason in failures:
            say(f"error: {reason}")
        if failures:
            say("the same command tries again what failed")
            raise typer.Exit(3 if page else 2)


def compare(
    a: Annotated[str, typer.Argument(help="Results of degrade bench.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Other results.", metavar="B")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write JSON here.", metavar="FILE")
    ] = None,
) -> None:
    """Compare two results of `bench`, picture by picture.

    A and B are folders of `bench`, or FOLDER:METHOD, of the same observations.
    The folder's results.json, which holds no pictures, does as well.
    Each line has the means, the difference B - A and its interval of 95 %, from a
    paired bootstrap over pictures. Where that does not contain 0, the last column
    names the better one.

    \b
    degrade compare results:robust results:pulse
    degrade compare mine theirs -o difference.json
    """
    with user_errors():
        from .. import atomic, comparing, tables

        one, other = comparing.entry_of(a), comparing.entry_of(b)
        if output is not None and output.is_dir():
            raise ValueError(f"{output} is a folder; give --output a file, such as {output}.json")
        differences = comparing.differences(one, other)
        unpaired = one.rows.keys() ^ other.rows.keys()
        if unpaired:
            say(f"note: {len(unpaired)} results are left out, which only one of A and B has")
        if output is not None:
            text = comparing.as_json(one, other, differences)
            atomic.write(output, text.encode())
        table = tables.columns("task", "metric", "A", "B", "B - A", "95 %", "results", "better")
        for difference in differences:
            table.add_row(*comparing.cells(difference))
        tables.show(table)


def tune(
    compare: CompareOptions,
    options: GeneratorOptions,
    run: DeviceOptions,
    methods: Annotated[str, compared("--method", "--methods", help=METHODS_HELP, metavar="NAMES")],
    tasks: Tasks,
    trials: Annotated[
        int, search(help="Trials for each method and task.", min=1, metavar="N")
    ] = 24,
) -> None:
    """Tune the constants of methods for each task on its own.

    Searches the constants with which a method comes nearest to the clean
    pictures. Writes tuned.json for `degrade bench --tuned`, and the results of
    all trials. If the run is stopped, the same command resumes it. Do not tune on
    the pictures that you compare on.

    \b
    degrade tune --images faces --method pulse --tasks UNAP -o tuned
    degrade tune --images faces --method pulse --tasks UNAP --steps 50 -o quick
    """
    with user_errors():
        from .. import tune as tuning
        from ..bench import methods_of, opened, priors_of
        from ..bench_job import BenchSettings
        from ..tasks import tasks_of

        load(run.plugin)
        chosen_methods, chosen_tasks = methods_of(methods), tasks_of(tasks, compare.suite)
        path = compare.output / "tuned.json"
        priors = priors_of(options, chosen_methods.values())
        with opened(compare, BenchSettings.of(options), priors, run) as work:
            for name, method in chosen_methods.items():
                for task in chosen_tasks:
                    best = tuning.tune(name, method, task, trials, options.seed, work.run)
                    tuning.write_tuned(path, name, task, best.factors)
                    if not run.quiet:
                        label = tuning.label(name, best.factors)
                        accuracy = f"accuracy {best.published:.4f} → {best.accuracy:.4f}"
                        echo(f"{task}: {label}, {accuracy}")
        if not run.quiet:
            echo(path)
