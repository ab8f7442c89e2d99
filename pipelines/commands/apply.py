"""`degrade apply`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ..console import for_each, load, user_errors
from ..options import Inputs, Output, Overwrite, RunOptions, Seed


def apply(
    inputs: Inputs,
    output: Output,
    op: Annotated[
        str, typer.Option(help="Chain of operators; `degrade ops` lists them.", metavar="SPEC")
    ],
    run: RunOptions,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Degrade pictures exactly.

    Writes each degraded picture, and beside it a manifest that says what was
    done; `restore` reads it. Random values, such as noise or a quality from a
    range, are drawn for each picture from --seed.

    \b
    degrade apply portrait.png -o observed --op "poisson:48 >> jpeg:18"
    degrade apply photos -o observed --op "maybe:0.5(gray) >> jpeg:5..30"
    """
    with user_errors():
        import degrade

        from .. import files
        from ..apply import Apply
        from ..engine import engine_of

        load(run.plugin)
        flow = Apply(degrade.parse(op), output, seed, overwrite)
        sources = files.gather(inputs, output)
        workers = engine_of(run.engine, threads=os.cpu_count() or 1, gpu=False)
        raise typer.Exit(for_each(flow, sources, workers, run.quiet))
