"""`degrade train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import echo, user_errors
from ..options import CHANNELS, DENOISERS, Device, Overwrite, Quiet, Seed, training


def train(
    images: Annotated[Path, typer.Option(help="Folder of pictures to learn from.", metavar="DIR")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New .safetensors file.", metavar="FILE")
    ],
    validation: Annotated[
        Path | None,
        training(
            help="Folder of pictures to measure with. Default: a tenth of --images.", metavar="DIR"
        ),
    ] = None,
    start: Annotated[
        str | None,
        training(
            help="Denoiser to train further, such as photo: better than a start at random if there "
            "are few pictures or little time.",
            metavar="NAME",
            autocompletion=DENOISERS,
        ),
    ] = None,
    steps: Annotated[int, training(help="Number of steps.", min=1, metavar="N")] = 40_000,
    batch: Annotated[int, training(help="Patches in each step.", min=1, metavar="N")] = 8,
    patch: Annotated[
        int, training(help="Side of a patch in pixels, a multiple of 8.", metavar="N")
    ] = 64,
    aligned: Annotated[
        bool,
        training(
            "--aligned",
            help="The pictures have one framing, such as portraits: learn them whole and upright, "
            "reduced to --patch. Samplers need --sigma 0.005..10, too.",
        ),
    ] = False,
    sigma: Annotated[
        str,
        training(
            help="Lowest and highest standard deviation of the noise; white is 1.",
            metavar="LOW..HIGH",
        ),
    ] = "0.005..1",
    damage: Annotated[
        str | None,
        training(
            help="Learn to remove the errors of this operator instead of noise, in three quarters "
            "of the patches, such as jpeg:5..95.",
            metavar="OP",
        ),
    ] = None,
    channels: Annotated[
        str, training(help="colour, or grey.", metavar="NAME", autocompletion=CHANNELS)
    ] = "colour",
    learning_rate: Annotated[
        float, training(help="Learning rate, before it falls.", metavar="RATE")
    ] = 0.002,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a denoiser on your own kind of pictures.

    The denoiser is a prior for `restore`. It learns to remove noise of every
    level from patches of the pictures. Some pictures are held out to measure it.
    Writes the file, and beside it a sheet (.png) and a log (.json). If the run is
    stopped, the same command resumes it.

    \b
    degrade train --images microscope -o microscope.safetensors
    degrade train --images scans -o scans.safetensors --start photo --steps 4000
    degrade train --images faces -o faces.safetensors --aligned --patch 128
    """
    with user_errors():
        from ..progress import TrainBar, starting

        starting(quiet)
        from invert.recipe import Recipe

        from ..train import Train, channels_of, sigma_range

        recipe_of = Recipe.aligned if aligned else Recipe
        recipe = recipe_of(
            channels=channels_of(channels),
            steps=steps,
            batch=batch,
            patch=patch,
            sigma=sigma_range(sigma),
            damage=damage,
            learning_rate=learning_rate,
            seed=seed,
        )
        flow = Train(recipe, output, images, validation, device, overwrite, start)
        with TrainBar(quiet) as bar:
            code = flow.run(bar)
        if not quiet:
            echo(output)
            echo(flow.sheet)
        raise typer.Exit(code)
