"""The `degrade` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .console import echo, for_each, load, say, user_errors
from .engine import ENGINES

app = typer.Typer(
    name="degrade",
    help="""Model how an image was damaged, exactly, and undo it.

    What happened to a picture is said in a line of operators, such as
    "downsample:2 >> jpeg:18". `apply` does it, `restore` looks for a picture to
    which it would happen. `degrade COMMAND --help` tells more of each.

    \b
    degrade apply examples/avatars -o observed --op "downsample:2 >> jpeg:18"
    degrade restore observed -o restored
    degrade inspect photo.jpg
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def known(*names: str) -> Callable[[str], list[str]]:
    """What a shell offers where an option has names; written down here, since asking for them would load torch."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def _seed(value: int) -> int:
    if not 0 <= value < 2**63:
        raise typer.BadParameter(f"{value} is not from 0 to 2^63 - 1")
    return value


METHODS = known(
    "adam-id",
    "brgm",
    "brgm-original",
    "cri",
    "ddrm",
    "dgp",
    "ilo",
    "lbrgm",
    "lbrgm-original",
    "pti",
    "pulse",
    "pulse-original",
    "robust",
    "robust-text",
)
GENERATORS, NETS, SUITES = known("avatars-128"), known("vgg", "alex"), known("paper", "ddrm", "cri")
# the panels of a help page
happened, compared, search, photos, running = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("What happened", "What to compare", "How to search", "Photos", "Running")
)

Inputs = Annotated[
    list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="IN...")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results.", metavar="DIR")
]
Seed = Annotated[int, running(help="Decides every random draw.", metavar="N", callback=_seed)]
Plugin = Annotated[
    list[str],
    running(
        help="A Python module, imported first: it registers operators or methods. May be repeated.",
        metavar="MODULE",
    ),
]
Images = Annotated[Path, typer.Option(help="A folder of clean pictures.", metavar="DIR")]
Tasks = Annotated[
    str,
    compared(help="all, single, composed, or names such as denoising/XL,UNAP.", metavar="NAMES"),
]
Suite = Annotated[
    str,
    compared(
        help="Whose tasks `all` are: paper, ddrm or cri.", metavar="NAME", autocompletion=SUITES
    ),
]
Generator = Annotated[
    str,
    search(
        help="A bundled generator's name, or a file.", metavar="NAME", autocompletion=GENERATORS
    ),
]
Limit = Annotated[int | None, compared(help="Only the first so many pictures.", min=1, metavar="N")]
OracleMask = Annotated[bool, search("--oracle-mask", help="Tell methods which pixels are dead.")]
Batch = Annotated[
    int, running(help="Pictures at a time; halved where memory runs out.", min=1, metavar="N")
]
Perceptual = Annotated[
    str, search(help="vgg, or alex for speed.", metavar="NET", autocompletion=NETS)
]
Steps = Annotated[int | None, search(help="Steps in all, for a quick look.", min=0, metavar="N")]
Device = Annotated[
    str,
    running(
        help="auto, cpu, cuda, cuda:1, mps.",
        metavar="NAME",
        autocompletion=known("auto", "cpu", "cuda", "mps"),
    ),
]
Engine = Annotated[
    str,
    running(help="local, or ray for a cluster.", metavar="NAME", autocompletion=known(*ENGINES)),
]
Quiet = Annotated[bool, running("--quiet", help="No progress, no summary.")]
Overwrite = Annotated[
    bool, running("--overwrite", help="Replace results of other settings in the output folder.")
]


@app.command()
def apply(
    inputs: Inputs,
    output: Output,
    op: Annotated[
        str, typer.Option(help="What to do; `degrade ops` lists what there is.", metavar="SPEC")
    ],
    seed: Seed = 0,
    overwrite: Overwrite = False,
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Degrade pictures exactly.

    Writes each picture as it comes out, and beside it a manifest of what was
    done, by which `restore` knows it. What is random, such as noise or a range of
    qualities, is drawn by --seed, for each picture on its own.

    \b
    degrade apply portrait.png -o observed --op "poisson:48 >> jpeg:18"
    degrade apply photos -o observed --op "maybe:0.5(gray) >> jpeg:5..30"
    """
    with user_errors():
        import degrade

        from . import files
        from .apply import Apply
        from .engine import engine_of

        load(plugin)
        flow = Apply(degrade.parse(op), output, seed, overwrite)
        sources = files.gather(inputs, output)
        workers = engine_of(engine, threads=os.cpu_count() or 1, gpu=False)
        raise typer.Exit(for_each(flow, sources, workers, quiet))


@app.command()
def restore(
    inputs: Inputs,
    output: Output,
    op: Annotated[
        str | None, happened(help="Default: the manifest's, or a guess.", metavar="SPEC")
    ] = None,
    generator: Generator = "avatars-128",
    method: Annotated[
        str, search(help="A name of `degrade methods`.", metavar="NAME", autocompletion=METHODS)
    ] = "robust",
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    clean: Annotated[
        Path | None,
        typer.Option(help="The undamaged picture(s), shown on the sheet.", metavar="PATH"),
    ] = None,
    class_label: Annotated[
        int | None, search("--class", help="Of a generator that has classes.", metavar="N")
    ] = None,
    samples: Annotated[
        int, search(help="So many different answers to each picture.", min=1, metavar="N")
    ] = 1,
    init: Annotated[
        Path | None,
        search(help="A latent that restore wrote, or a folder, to go on from.", metavar="PATH"),
    ] = None,
    align: Annotated[
        str | None,
        photos(
            help="Restore a face, found and turned upright.",
            metavar="ffhq",
            autocompletion=known("ffhq"),
        ),
    ] = None,
    landmarks: Annotated[
        Path | None, photos(help="For --align: where the face's points are.", metavar="JSON")
    ] = None,
    face: Annotated[
        int | None, photos(help="For --align: which one, from 1, the surest.", min=1, metavar="N")
    ] = None,
    box: Annotated[
        str | None, photos(help="Restore this part, in pixels.", metavar="X,Y,W,H")
    ] = None,
    keep_visible: Annotated[
        bool,
        happened(
            "--keep-visible",
            help="Bring the result to agree with what the picture says for certain.",
        ),
    ] = False,
    oracle_mask: Annotated[
        bool, happened("--oracle-mask", help="Tell the solver which pixels are dead.")
    ] = False,
    embedding: Annotated[
        Path | None,
        search(help="Face embedding (TorchScript), for method adam-id.", metavar="FILE"),
    ] = None,
    person: Annotated[
        Path | None, search(help="A photo of the same person, for --embedding.", metavar="FILE")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Make a page of tables and pictures, report.html.")
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Restore pictures: what happened to them is read from the manifest of `apply`, given by --op, or guessed.

    A generator's pictures are searched for one to which that would happen. Writes
    the restored picture, a sheet to look at, a log and the latent. Of a photo
    of another size a part is restored and put back: the middle, a --box, or a
    face with --align ffhq.

    \b
    degrade restore observed -o restored
    degrade restore small.png -o restored --op "downsample:4 >> jpeg:18"
    degrade restore photo.jpg -o restored --generator ffhq.pkl --align ffhq
    """
    with user_errors():
        from .progress import SolveBar, starting

        starting(quiet)
        import invert

        from . import files
        from .engine import engine_of
        from .faces import where_of
        from .report import refuse_foreign, write
        from .restore import Restore, RestoreSettings, results
        from .solver import Solver, generator_text, identity_text

        load(plugin)
        sources, told = files.gather(inputs, output), identity_text(embedding, person)
        if report:
            refuse_foreign(output)
        model = invert.load_generator(generator)
        where = where_of(align, landmarks, face, box)
        settings = RestoreSettings(
            generator_text(generator),
            method,
            perceptual,
            seed,
            steps,
            op,
            class_label,
            samples,
            oracle_mask,
            told,
            str(where),
            keep_visible,
        )
        solver = partial(Solver, model, device, embedding, person)
        chosen = engine_of(engine, gpu=device != "cpu")
        with SolveBar(quiet, len(sources)) as bar:
            watched = (
                bar if engine == "local" else None
            )  # what happens elsewhere is not seen step by step
            shape = (1, model.channels, model.resolution, model.resolution)
            flow = Restore(
                settings, output, shape, solver, clean, init, where, watched, overwrite
            )
            code = for_each(flow, sources, chosen, quiet, bar)
        if report and code != 2:
            page = write(results(sources, settings, output, clean), model.resolution)
            if not quiet:
                echo(page)
        raise typer.Exit(code)


@app.command()
def bench(
    images: Images,
    output: Output,
    methods: Annotated[
        str, compared(help="Names of `degrade methods`, with commas.", metavar="NAMES")
    ] = "robust",
    tasks: Tasks = "all",
    suite: Suite = "paper",
    generator: Generator = "avatars-128",
    limit: Limit = None,
    batch: Batch = 4,
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    reference: Annotated[
        Path | None,
        compared(
            help="Pictures, or .npz statistics, that realism is measured against.", metavar="PATH"
        ),
    ] = None,
    oracle_mask: OracleMask = False,
    tuned: Annotated[
        Path | None,
        compared(help="A file of `degrade tune`: shows its methods tuned, too.", metavar="JSON"),
    ] = None,
    embedding: Annotated[
        Path | None,
        compared(help="Face embedding that measures identity (.pt, .onnx).", metavar="FILE"),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Compare methods over the papers' tasks; the same command goes on where it was stopped.

    Every picture is degraded by every task and restored by every method. Writes
    results.jsonl, results.csv, tables.md, all pictures, and report.html, a page
    to compare them on.

    \b
    degrade bench --images examples/avatars --tasks UNAP --limit 2 -o results
    degrade bench --images faces --methods robust,pulse --tasks single -o results
    """
    with user_errors():
        from . import report
        from .bench import Cell, Failed, Settings, methods_of, opened
        from .solver import generator_text, identity_text
        from .tasks import tasks_of
        from .tune import read_tuned

        load(plugin)
        chosen, wanted = methods_of(methods), tasks_of(tasks, suite)
        cells = [Cell(task, label, method) for task in wanted for label, method in chosen.items()]
        if tuned is not None:
            cells += [cell for cell in read_tuned(tuned) if cell.task in wanted]
        if reference is not None and not reference.exists():
            raise ValueError(
                f"{reference} does not exist; give a folder of pictures, or an .npz with mu and sigma"
            )
        report.refuse_foreign(output)
        told, failed = identity_text(embedding, None), ()
        settings = Settings(generator_text(generator), perceptual, steps, seed, oracle_mask, told)
        with opened(
            images, limit, output, settings, generator, device, engine, batch, quiet, embedding
        ) as work:
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
    methods: Annotated[
        str,
        compared(
            "--method",
            "--methods",
            help="Names of `degrade methods`, with commas.",
            metavar="NAMES",
        ),
    ],
    tasks: Tasks,
    trials: Annotated[
        int, search(help="Settings to try for each method and task.", min=1, metavar="N")
    ] = 24,
    suite: Suite = "paper",
    generator: Generator = "avatars-128",
    limit: Limit = None,
    batch: Batch = 4,
    perceptual: Perceptual = "vgg",
    steps: Steps = None,
    oracle_mask: OracleMask = False,
    seed: Seed = 0,
    device: Device = "auto",
    plugin: Plugin = [],  # noqa: B006
    engine: Engine = "local",
    quiet: Quiet = False,
) -> None:
    """Search the constants with which methods come nearest to the clean pictures, for each task on its own.

    Writes tuned.json for `degrade bench --tuned`, and every trial's results; the
    same command goes on where it was stopped. Tune on other pictures than those
    that you compare on.

    \b
    degrade tune --images faces --method pulse --tasks UNAP -o tuned
    degrade tune --images faces --method pulse --tasks UNAP --steps 50 -o quick
    """
    with user_errors():
        from . import tune as search
        from .bench import Settings, methods_of, opened
        from .solver import generator_text
        from .tasks import tasks_of

        load(plugin)
        chosen, wanted = methods_of(methods), tasks_of(tasks, suite)
        settings = Settings(generator_text(generator), perceptual, steps, seed, oracle_mask)
        with opened(images, limit, output, settings, generator, device, engine, batch, quiet) as (
            _,
            run,
            _,
        ):
            for name, method in chosen.items():
                for task in wanted:
                    best, before, after = search.tune(name, method, task, trials, seed, run)
                    search.write_tuned(output / "tuned.json", name, task, best)
                    if not quiet:
                        echo(
                            f"{task}: {search.label(name, best)}, accuracy {before:.4f} → {after:.4f}"
                        )
        if not quiet:
            echo(output / "tuned.json")


@app.command()
def generators() -> None:
    """List the generators that are at hand: bundled, and fetched before.

    Those that were fetched are kept in the user's cache folder, or the folder
    that the environment variable DEGRADE_CACHE names.

    \b
    degrade generators
    """
    with user_errors():
        from . import generators as shown

        shown.show_all()


@app.command()
def inspect(
    what: Annotated[
        str,
        typer.Argument(
            help="A picture; or a generator: a bundled one's name, a file or an address.",
            metavar="WHAT",
            autocompletion=GENERATORS,
        ),
    ],
    samples: Annotated[
        int, typer.Option(help="Of a generator: draw this many images.", min=0, metavar="N")
    ] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to draw them.", metavar="FILE")
    ] = Path("samples.png"),
    seed: Seed = 0,
) -> None:
    """Say what happened to a picture, as far as its file tells; or what a generator is.

    Nothing is changed, and no code in a generator's file is run.

    \b
    degrade inspect photo.jpg
    degrade inspect avatars-128 --samples 8 -o samples.png
    """
    with user_errors():
        from . import files

        if Path(what).is_dir():
            raise ValueError(f"{what} is a folder; give one picture, or a generator")
        if files.is_picture(Path(what)):
            from degrade.forensics import guess

            from .tables import findings

            if samples:
                raise ValueError(
                    f"samples={samples} are drawn by a generator, and {what} is a picture; leave it out"
                )
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
    source: Annotated[
        str, typer.Argument(help="A checkpoint: a file or an address.", metavar="SOURCE")
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors to write.", metavar="TARGET")],
) -> None:
    """Write a generator as .safetensors: the same images, no code in the file, faster to open.

    \b
    degrade convert ffhq.pkl ffhq.safetensors
    """
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
    """List the operators: parameters, what they equal exactly, and their gradient.

    What is listed is what --op may hold: `name:value,parameter=value`, and one
    after another with `>>`.

    \b
    degrade ops
    degrade ops --plugin my_operators
    """
    with user_errors():
        from .tables import operators

        load(plugin)
    operators()


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this one's phases, losses and constants.",
            metavar="NAME",
            autocompletion=METHODS,
        ),
    ] = None,
) -> None:
    """List the methods of restoration, or show one in full.

    \b
    degrade methods
    degrade methods pulse
    """
    with user_errors():
        from . import methods as shown

        shown.show_all() if name is None else shown.show(name)


def _version(wanted: bool) -> None:
    if wanted:
        from .versions import versions

        for line in versions():
            echo(line)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Say which, and of what matters."
        ),
    ] = False,
) -> None:
    pass
