"""`degrade apply`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ..console import echo, for_each, load, note_left_out, user_errors
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
    pairs: Annotated[
        int,
        typer.Option(
            help="Training pairs for each picture, in the folders LQ and HQ.", min=0, metavar="N"
        ),
    ] = 0,
    shards: Annotated[
        int,
        typer.Option(
            help="With --pairs: also pack tar files of WebDataset, of M pairs each.",
            min=0,
            metavar="M",
        ),
    ] = 0,
) -> None:
    """Degrade pictures exactly.

    Writes each degraded picture, and beside it a manifest that says what was
    done; `restore` reads it. Random values, such as noise or a quality from a
    range, are drawn for each picture from --seed.

    \b
    degrade apply portrait.png -o observed --op "poisson:48 >> jpeg:18"
    degrade apply photos -o observed --op "maybe:0.5(gray) >> jpeg:5..30"
    degrade apply photos -o dataset --op real-esrgan-x4 --pairs 5
    """
    with user_errors():
        from .. import files
        from ..apply import Apply, numbered, operator_of_option
        from ..engine import engine_of
        from ..shards import Shards

        if shards and not pairs:
            raise ValueError(f"shards={shards} needs pairs; add --pairs 1, or more")
        load(run.plugin)
        flow = Apply(operator_of_option(op), output, seed, overwrite, pairs)
        sources = numbered(files.gather(inputs, output), pairs)
        note_left_out(flow, sources, inputs)
        workers = engine_of(run.engine, threads=os.cpu_count() or 1, gpu=False)
        if not shards:
            raise typer.Exit(for_each(flow, sources, workers, run.quiet))
        packing = Shards(flow, sources, shards)
        packing.refuse_others()
        exit_code = for_each(flow, sources, workers, run.quiet)
        for path in packing.write():
            if not run.quiet:
                echo(path)
        raise typer.Exit(exit_code)
