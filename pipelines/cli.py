"""The `degrade` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .console import echo, for_each, load, say, user_errors

app = typer.Typer(
    name="degrade",
    help="Model how an image was damaged, exactly, and undo it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Inputs = Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="IN...")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", metavar="DIR")]
Seed = Annotated[int, typer.Option(help="Decides every random draw.", min=0, max=2**63 - 1)]
Plugin = Annotated[
    list[str], typer.Option(help="A Python module that registers operators; may be repeated.", metavar="MODULE")
]
Images = Annotated[Path, typer.Option(help="A folder of clean pictures.", metavar="DIR")]
Tasks = Annotated[str, typer.Option(help="all, single, composed, or names such as denoising/XL,UNAP.")]
Suite = Annotated[str, typer.Option(help="Whose tasks `all` are: paper, ddrm or cri.")]
Generator = Annotated[str, typer.Option(help="A bundled generator's name, or a file.")]
Limit = Annotated[int | None, typer.Option(help="Only the first so many pictures.", min=1)]
Batch = Annotated[int, typer.Option(help="Pictures at a time; halved where memory runs out.", min=1)]
Perceptual = Annotated[str, typer.Option(help="vgg, or alex for speed.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all, for a quick look.", min=0)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Engine = Annotated[str, typer.Option(help="local, or ray for a cluster.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]


@app.command()
def apply(
    inputs: Inputs,
    output: Output,
    op: Annotated[str, typer.Option(help="What to do, as in 'downsample:4 >> jpeg:12'.", metavar="SPEC")],
    seed: Seed = 0,
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Degrade pictures exactly.

    Writes a picture and a manifest of what was done to it, e.g.

    degrade apply portrait.png -o observed --op "downsample:2 >> poisson:48 >> jpeg:18"
    """
    with user_errors():
        import degrade

        from . import files
        from .apply import Apply
        from .engine import engine_of

        load(plugin)
        flow = Apply(degrade.parse(op), output, seed)
        sources = files.gather(inputs, output)
        workers = engine_of(engine, threads=os.cpu_count() or 1, gpu=False)
        raise typer.Exit(for_each(flow, sources, workers, quiet))


@app.command()
def restore(
    inputs: Inputs,
    output: Output,
    op: Annotated[str | None, typer.Option(help="What happened; default: the manifest's.", metavar="SPEC")] = None,
    generator: Generator = "avatars-128",
    method: Annotated[str, typer.Option(help="How to search.")] = "robust",
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    clean: Annotated[Path | None, typer.Option(help="The undamaged picture(s), shown on the sheet.")] = None,
    class_label: Annotated[int | None, typer.Option("--class", help="Class, of a generator that has classes.")] = None,
    samples: Annotated[int, typer.Option(help="So many different answers to each picture.", min=1)] = 1,
    init: Annotated[Path | None, typer.Option(help="A latent that restore wrote, or a folder, to go on from.")] = None,
    align: Annotated[
        str | None, typer.Option(help="Of a photo, restore a face, found and turned upright: ffhq.", metavar="ffhq")
    ] = None,
    landmarks: Annotated[Path | None, typer.Option(help="For --align: where the face's points are (.json).")] = None,
    face: Annotated[int | None, typer.Option(help="For --align: which face, from 1, the surest.", min=1)] = None,
    box: Annotated[
        str | None, typer.Option(help="Of a photo, restore this part, in pixels.", metavar="X,Y,W,H")
    ] = None,
    keep_visible: Annotated[
        bool, typer.Option("--keep-visible", help="Bring the result to agree with what the picture says for certain.")
    ] = False,
    oracle_mask: Annotated[bool, typer.Option("--oracle-mask", help="Tell the solver which pixels are dead.")] = False,
    embedding: Annotated[Path | None, typer.Option(help="Face embedding (TorchScript), for method adam-id.")] = None,
    person: Annotated[Path | None, typer.Option(help="A photo of the same person, for --embedding.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Make a page of tables and pictures, report.html.")] = False,
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Restore pictures: what happened to them is read from the manifest of `apply`, given by --op, or guessed.

    Writes the restored picture, a sheet to look at and a log, e.g.

    degrade restore observed -o restored

    Of a photo that is larger than the generator's pictures a part is restored and put back: the middle,
    a --box, or a face with --align ffhq.
    """
    with user_errors():
        import invert

        from . import files
        from .engine import engine_of
        from .faces import where_of
        from .progress import SolveBar
        from .report import write
        from .restore import Restore, Settings, results
        from .solver import Solver, generator_text, identity_text

        load(plugin)
        sources, told = files.gather(inputs, output), identity_text(embedding, person)
        model = invert.load_generator(generator)
        where = where_of(align, landmarks, face, box)
        settings = Settings(
            generator_text(generator), method, perceptual, seed, steps, op, class_label, samples, oracle_mask, told,
            str(where), keep_visible,
        )  # fmt: skip
        solver = partial(Solver, model, device, embedding, person)
        chosen = engine_of(engine, gpu=device != "cpu")
        with SolveBar(quiet) as bar:
            watched = bar if engine == "local" else None  # what happens elsewhere is not seen step by step
            shape = (1, model.channels, model.resolution, model.resolution)
            flow = Restore(settings, output, shape, solver, clean, init, where, watched)
            code = for_each(flow, sources, chosen, quiet)
        if report and code != 2:
            page = write(results(sources, settings, output, clean), model.resolution)
            if not quiet:
                echo(page)
        raise typer.Exit(code)


@app.command()
def bench(
    images: Images,
    output: Output,
    methods: Annotated[str, typer.Option(help="Names of `degrade methods`, with commas.")] = "robust",
    tasks: Tasks = "all",
    suite: Suite = "paper",
    generator: Generator = "avatars-128",
    limit: Limit = None,
    batch: Batch = 4,
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    reference: Annotated[
        Path | None, typer.Option(help="Pictures, or .npz statistics, that realism is measured against.")
    ] = None,
    oracle_mask: Annotated[bool, typer.Option("--oracle-mask", help="Tell methods which pixels are dead.")] = False,
    tuned: Annotated[Path | None, typer.Option(help="A file of `degrade tune`: shows its methods tuned, too.")] = None,
    embedding: Annotated[Path | None, typer.Option(help="Face embedding that measures identity (.pt, .onnx).")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Compare methods over the papers' tasks; the same command goes on where it was stopped.

    Writes results.jsonl, results.csv, tables.md, report.html and all pictures, e.g.

    degrade bench --images examples/avatars --methods robust,pulse --tasks UNAP --limit 2 -o results
    """
    with user_errors():
        from . import report
        from .bench import Cell, Failed, Settings, methods_of, opened
        from .solver import generator_text, identity_text
        from .tasks import tasks_of
        from .tune import read_tuned

        chosen, wanted = methods_of(methods), tasks_of(tasks, suite)
        cells = [Cell(task, label, method) for task in wanted for label, method in chosen.items()]
        if tuned is not None:
            cells += [cell for cell in read_tuned(tuned) if cell.task in wanted]
        if reference is not None and not reference.exists():
            raise ValueError(f"{reference} does not exist; give a folder of pictures, or an .npz with mu and sigma")
        told, failed = identity_text(embedding, None), ()
        settings = Settings(generator_text(generator), perceptual, steps, seed, oracle_mask, told)
        with opened(images, limit, output, settings, generator, device, engine, batch, quiet, embedding) as work:
            results, run, side = work
            try:
                run(cells)
            except Failed as error:
                failed = error.args
            page = report.write(results.results(), side, reference) if results.rows() else None
        if page and not quiet:
            for line in (output / "tables.md").read_text(encoding="utf-8").splitlines():
                echo(line)
            echo(page)
        for reason in failed:
            say(f"error: {reason}")
        if failed:
            say("the same command tries again what failed")
            raise typer.Exit(3 if page else 2)


@app.command()
def tune(
    images: Images,
    output: Output,
    methods: Annotated[str, typer.Option("--method", "--methods", help="Names of `degrade methods`, with commas.")],
    tasks: Tasks,
    trials: Annotated[int, typer.Option(help="Settings to try for each method and task.", min=1)] = 24,
    suite: Suite = "paper",
    generator: Generator = "avatars-128",
    limit: Limit = None,
    batch: Batch = 4,
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Search the constants with which methods come nearest to the clean pictures, for each task on its own.

    Writes tuned.json for `degrade bench --tuned`, and every trial's results; goes on where it was stopped, e.g.

    degrade tune --images examples/avatars --method pulse --tasks UNAP --limit 2 --steps 50 -o tuned
    """
    with user_errors():
        from . import tune as search
        from .bench import Settings, methods_of, opened
        from .solver import generator_text
        from .tasks import tasks_of

        chosen, wanted = methods_of(methods), tasks_of(tasks, suite)
        settings = Settings(generator_text(generator), perceptual, steps, seed)
        with opened(images, limit, output, settings, generator, device, engine, batch, quiet) as (_, run, _):
            for name, method in chosen.items():
                for task in wanted:
                    best, before, after = search.tune(name, method, task, trials, seed, run)
                    search.write_tuned(output / "tuned.json", name, task, best)
                    if not quiet:
                        echo(f"{task}: {search.label(name, best)}, accuracy {before:.4f} → {after:.4f}")
        if not quiet:
            echo(output / "tuned.json")


@app.command()
def generators() -> None:
    """List the generators that are at hand: bundled, and fetched before."""
    with user_errors():
        from . import generators as shown

        shown.show_all()


@app.command()
def inspect(
    what: Annotated[str, typer.Argument(help="A picture; or a generator: a bundled one's name, a file or an address.")],
    samples: Annotated[int, typer.Option(help="Of a generator: draw this many images.", min=0)] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to draw them.")] = Path("samples.png"),
    seed: Seed = 0,
) -> None:
    """Say what happened to a picture, as far as its file tells; or what a generator is.

    degrade inspect photo.jpg

    degrade inspect avatars-128 --samples 8 -o samples.png
    """
    with user_errors():
        from . import files

        if Path(what).suffix.lower() in files.SUFFIXES:
            from degrade.forensics import guess

            from .tables import findings

            return findings(guess(what))

        import invert

        from . import generators as shown

        if samples:
            _refuse_input(output, what)
        model = invert.load_generator(what)
        shown.describe(model)
        if samples:
            shown.draw(model, samples, seed, output)
            echo(output)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint: a file or an address.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors to write.")],
) -> None:
    """Write a generator as .safetensors: the same images, no code in the file, faster to open."""
    with user_errors():
        import invert

        from . import files

        if target.suffix != ".safetensors":
            raise ValueError(f"{target} must end in .safetensors")
        _refuse_input(target, source)
        model = invert.load_generator(source)
        with files.replacing(target) as temporary:
            invert.save_generator(model, temporary)
        echo(target)


def _refuse_input(target: Path, generator: str) -> None:
    from invert.generator import find

    if target.exists() and target.samefile(find(generator)):
        raise ValueError(f"{target} is the input; choose another name")


@app.command()
def ops(plugin: Plugin = []) -> None:  # noqa: B006
    """List the operators: parameters, what they equal exactly, and their gradient."""
    with user_errors():
        from .tables import operators

        load(plugin)
    operators()


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show this one's phases, losses and constants.")] = None,
) -> None:
    """List the methods of restoration, or show one in full."""
    with user_errors():
        from . import methods as shown

        shown.show_all() if name is None else shown.show(name)


def _version(wanted: bool) -> None:
    if wanted:
        from degrade._version import __version__

        echo(f"degrade {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    pass
