"""`degrade inspect` and `convert`: one file is described, or converted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import echo, user_errors
from ..options import GENERATORS, Seed


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            help="Picture, folder of pictures, or generator: its name, file or URL.",
            metavar="WHAT",
            autocompletion=GENERATORS,
        ),
    ],
    samples: Annotated[
        int, typer.Option(help="Draw this many images of a generator.", min=0, metavar="N")
    ] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture file for the samples.", metavar="FILE")
    ] = Path("samples.png"),
    seed: Seed = 0,
) -> None:
    """Describe a picture, or a generator.

    For a picture: its mode and depth, and a guess of what happened to it. For a
    folder: a line for each picture. For a generator: its architecture. No code
    inside of a checkpoint is run.

    \b
    degrade inspect photo.jpg
    degrade inspect avatars-128 --samples 8 -o samples.png
    """
    with user_errors():
        from .. import files

        path = Path(what)
        if path.is_dir() or files.is_picture(path):
            if samples:
                raise ValueError(
                    f"--samples draws from a generator, but {what} holds pictures; leave it out"
                )
            from .. import inspection

            raise typer.Exit(
                inspection.show_folder(path) if path.is_dir() else inspection.show(path)
            )

        from .. import generators as description

        if samples:
            _refuse_input(output, what)
        model = description.load(what)
        description.describe(model)
        if samples:
            description.draw(model, samples, seed, output)
            echo(output)


def convert(
    source: Annotated[str, typer.Argument(help="Checkpoint: a file or a URL.", metavar="SOURCE")],
    target: Annotated[Path, typer.Argument(help="New .safetensors file.", metavar="TARGET")],
) -> None:
    """Convert a generator's checkpoint to .safetensors.

    The converted generator draws the same images. The file holds no code, and
    opens faster.

    \b
    degrade convert ffhq.pkl ffhq.safetensors
    """
    with user_errors():
        import invert

        from .. import atomic

        if target.suffix != ".safetensors":
            raise ValueError(f"{target} must end in .safetensors")
        _refuse_input(target, source)
        model = invert.load_generator(source)
        with atomic.replacing(target) as temporary:
            invert.save_generator(model, temporary)
        echo(target)


def _refuse_input(target: Path, generator: str) -> None:
    from invert.generator import find

    if target.exists() and target.samefile(find(generator)):
        raise ValueError(f"{target} is the input; choose another name")
