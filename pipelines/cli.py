"""The `degrade` command. Each command imports what it needs only when it runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .completion import operator_names
from .console import echo, for_each, load, say, user_errors
from .options import (
    CHANNELS,
    GENERATORS,
    METHODS,
    METHODS_HELP,
    ClassLabel,
    CompareOptions,
    Device,
    DeviceOptions,
    GeneratorOptions,
    Inputs,
    Output,
    Overwrite,
    Plugin,
    PriorOptions,
    Quiet,
    RunOptions,
    Seed,
    Tasks,
    compared,
    degradation,
    names,
    photos,
    search,
    training,
    with_options,
)

app = typer.Typer(
    name="degrade",
    help="""Degrade pictures exactly as real cameras, codecs and networks do, and restore them.

    A chain of operators says what happens to a picture, for example
    "downsample:2 >> jpeg:18". `apply` degrades pictures with such a chain.
    `restore` searches for a picture that the chain turns into yours.

    \b
    degrade apply examples/avatars -o observed --op "downsample:2 >> jpeg:18"
    degrade restore observed -o restored
    degrade inspect photo.jpg
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class StrictCommand(TyperCommand):
    """Refuses an option that is given twice, and empty values.

    Without this, click would silently keep the last of two values, and take an empty path for the
    current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, then check them; --help is answered before."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # a shell completes a line that is not finished
            return rest
        values, _, parameters = self.make_parser(ctx).parse_args(args=given)
        counts = Counter(parameter.name for parameter in parameters)
        for parameter in self.params:
            name, value = parameter.name, values.get(parameter.name)
            label = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            may_repeat = getattr(parameter, "multiple", False) or getattr(
                parameter, "is_flag", False
            )
            if counts[name] > 1 and parameter.nargs == 1 and not may_repeat:
                raise typer.BadParameter(f"{label} is given {counts[name]} times; give it once")
            texts = value if isinstance(value, (list, tuple)) else [value]
            if "" in texts:
                raise typer.BadParameter(f"{label} is empty; leave it out, or give a value")
        return rest


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command, after its options dataclasses are expanded."""
    app.command(cls=StrictCommand)(with_options(function))
    return function


@command
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
        import degrade

        from . import files
        from .apply import Apply, numbered
        from .engine import engine_of

        load(run.plugin)
        flow = Apply(degrade.parse(op), output, seed, overwrite, pairs)
        sources = numbered(files.gather(inputs, output), pairs)
        workers = engine_of(run.engine, threads=os.cpu_count() or 1, gpu=False)
        raise typer.Exit(for_each(flow, sources, workers, run.quiet))


@command
def restore(
    inputs: Inputs,
    output: Output,
    options: PriorOptions,
    run: DeviceOptions,
    op: Annotated[
        str | None,
        degradation(
            help="Chain that degraded the pictures. Default: the manifest's, or a guess.",
            metavar="SPEC",
        ),
    ] = None,
    method: Annotated[
        str | None,
        search(
            help="Name from `degrade methods`. Default: pnp, or robust for a generator.",
            metavar="NAME",
            autocompletion=METHODS,
        ),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(help="Undamaged picture or folder, shown on the sheet.", metavar="PATH"),
    ] = None,
    class_label: ClassLabel = None,
    samples: Annotated[
        int, search(help="Number of different answers to each picture.", min=1, metavar="N")
    ] = 1,
    init: Annotated[
        Path | None,
        search(
            help="Latent that an earlier restore wrote, or a folder of them, to start from.",
            metavar="PATH",
        ),
    ] = None,
    align: Annotated[
        str | None,
        photos(
            help="Find a face, turn it upright and restore it.",
            metavar="ffhq",
            autocompletion=names("ffhq"),
        ),
    ] = None,
    landmarks: Annotated[
        Path | None, photos(help="For --align: file with the landmarks.", metavar="JSON")
    ] = None,
    face: Annotated[
        int | None,
        photos(help="For --align: number of the face; 1 is the most certain.", min=1, metavar="N"),
    ] = None,
    box: Annotated[
        str | None, photos(help="Restore this part of a photo, in pixels.", metavar="X,Y,W,H")
    ] = None,
    keep_visible: Annotated[
        bool,
        degradation(
            "--keep-visible",
            help="Keep what the degraded picture shows for certain (data consistency).",
        ),
    ] = False,
    embedding: Annotated[
        Path | None,
        search(help="Face embedding (TorchScript), for method adam-id.", metavar="FILE"),
    ] = None,
    person: Annotated[
        Path | None,
        search(help="Another photo of the same person, for --embedding.", metavar="FILE"),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html, with tables and all pictures.")
    ] = False,
    force: Annotated[
        bool, search("--force", help="Write what a generator drew even if it explains too little.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Restore degraded pictures.

    What degraded a picture is read from the manifest of `apply`, given by --op,
    or guessed from the file. The prior says what pictures look like. The bundled
    one, photo, restores any picture of any size. A generator knows one kind of
    picture: its images are searched for one that the same degradation turns into
    yours; in a photo of another size, one part is restored and pasted back: the
    centre, a --box, or a face with --align ffhq. With --face-prior the generator
    restores the faces, and the prior everything else. What explains the picture
    too little is refused. Writes the restored picture, a sheet for comparison, a
    log and, of a generator, the latent.

    \b
    degrade restore holiday.jpg -o restored
    degrade restore small.png -o restored --op "downsample:4 >> jpeg:18"
    degrade restore family.jpg -o restored --face-prior ffhq.pkl --align ffhq
    """
    with user_errors():
        from .progress import SolveBar, starting

        starting(run.quiet)
        import invert

        from . import files
        from .classes import Classes
        from .engine import engine_of
        from .faces import where_of
        from .job import RestoreSettings, methods_of, refuse_useless_options
        from .observation import Images, Observer
        from .report import refuse_foreign, write
        from .restore import LARGE_PHOTO, Restore
        from .restored import results
        from .solver import Solver, identity_text, prior_text

        load(run.plugin)
        sources = files.gather(inputs, output)
        classes = Classes.read(class_label)
        identity = identity_text(embedding, person)
        if report:
            refuse_foreign(output)
        model = invert.load_prior(options.prior)
        face_model = face_images = face_solver = None
        recorded = asdict(options) | {"prior": prior_text(options.prior)}
        if options.face_prior is not None:
            face_model = invert.load_prior(options.face_prior)
            recorded["face_prior"] = prior_text(options.face_prior)
            face_images = Images(options.face_prior, face_model.channels, face_model.resolution)
            face_solver = partial(Solver, face_model, run.device, embedding, person)
        where = where_of(align, landmarks, face, box)
        refuse_useless_options(model, face_model, where, samples)
        main_method, face_method = methods_of(method, model, face_model)
        settings = RestoreSettings(
            **recorded,
            method=main_method,
            face_method=face_method,
            op=op,
            samples=samples,
            identity=identity,
            where=str(where),
            keep_visible=keep_visible,
        )
        with SolveBar(run.quiet, len(sources)) as bar:
            observer = Observer(
                images=Images(options.prior, model.channels, model.resolution),
                op=op,
                face_images=face_images,
                clean=clean,
                where=where,
                prior=model,
            )
            flow = Restore(
                settings,
                output,
                observer,
                partial(Solver, model, run.device, embedding, person),
                face_solver=face_solver,
                init=init,
                # Only a local engine runs in this process, where steps can be shown.
                bar=bar if run.engine == "local" else None,
                overwrite=overwrite,
                force=force,
                classes=classes,
            )
            workers = engine_of(run.engine, gpu=run.device != "cpu")
            code = for_each(flow, sources, workers, run.quiet, bar)
        if report and code != 2:
            side = model.resolution or LARGE_PHOTO
            page = write(results(sources, settings, output, clean), side)
            if not run.quiet:
                echo(page)
        raise typer.Exit(code)


@command
def bench(
    compare: CompareOptions,
    options: GeneratorOptions,
    run: DeviceOptions,
    methods: Annotated[str, compared(help=METHODS_HELP, metavar="NAMES")] = "robust",
    tasks: Tasks = "all",
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
) -> None:
    """Compare methods over the tasks of the papers.

    Every picture is degraded by every task and restored by every method. Writes
    results.jsonl, results.csv, tables.md, all pictures, and the page report.html.
    If the run is stopped, the same command resumes it.

    \b
    degrade bench --images examples/avatars --tasks UNAP --limit 2 -o results
    degrade bench --images faces --methods robust,pulse --tasks single -o results
    """
    with user_errors():
        from . import report
        from .bench import BenchSettings, Failed, methods_of, opened, priors_of
        from .classes import Classes
        from .runner import Cell, given_cells
        from .tasks import tasks_of
        from .tune import read_tuned

        load(run.plugin)
        chosen_methods, chosen_tasks = methods_of(methods), tasks_of(tasks, compare.suite)
        classes = Classes.read(class_label)
        cells = []
        for task in chosen_tasks:
            cells += [Cell(task, label, method) for label, method in chosen_methods.items()]
        if tuned is not None:
            cells += [cell for cell in read_tuned(tuned) if cell.task in chosen_tasks]
        if results is not None:
            cells += given_cells(results, chosen_tasks, chosen_methods)
        if reference is not None and not reference.exists():
            raise ValueError(
                f"{reference} does not exist; "
                "give a folder of pictures, or an .npz with mu and sigma"
            )
        report.refuse_foreign(compare.output)
        settings = BenchSettings.of(options, embedding)
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
        if page and not run.quiet:
            for line in (compare.output / "tables.md").read_text(encoding="utf-8").splitlines():
                echo(line)
            echo(page)
        for reason in failures:
            say(f"error: {reason}")
        if failures:
            say("the same command tries again what failed")
            raise typer.Exit(3 if page else 2)


@command
def compare(
    a: Annotated[str, typer.Argument(help="Results of degrade bench.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Other results.", metavar="B")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write JSON here.", metavar="FILE")
    ] = None,
) -> None:
    """Compare two results of `bench`, picture by picture.

    A and B are folders of `bench`, or FOLDER:METHOD, of the same observations.
    Each line has the means, the difference B - A and its interval of 95 %, from a
    paired bootstrap over pictures. Where that does not contain 0, the last column
    names the better one.

    \b
    degrade compare results:robust results:pulse
    degrade compare mine theirs -o difference.json
    """
    with user_errors():
        from . import comparing, files, tables

        one, other = comparing.entry_of(a), comparing.entry_of(b)
        if output is not None and output.is_dir():
            raise ValueError(f"{output} is a folder; give --output a file, such as {output}.json")
        differences = comparing.differences(one, other)
        unpaired = one.rows.keys() ^ other.rows.keys()
        if unpaired:
            say(f"note: {len(unpaired)} results are left out, which only one of A and B has")
        if output is not None:
            text = comparing.as_json(one, other, differences)
            files.write(output, text.encode())
        table = tables.columns("task", "metric", "A", "B", "B - A", "95 %", "results", "better")
        for difference in differences:
            table.add_row(*comparing.cells(difference))
        tables.show(table)


@command
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
        from . import tune as tuning
        from .bench import BenchSettings, methods_of, opened, priors_of
        from .tasks import tasks_of

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


@command
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
    steps: Annotated[int, training(help="Number of steps.", min=1, metavar="N")] = 40_000,
    batch: Annotated[int, training(help="Patches in each step.", min=1, metavar="N")] = 8,
    patch: Annotated[
        int, training(help="Side of a patch in pixels, a multiple of 8.", metavar="N")
    ] = 64,
    sigma: Annotated[
        str,
        training(
            help="Lowest and highest standard deviation of the noise; white is 1.",
            metavar="LOW..HIGH",
        ),
    ] = "0.005..1",
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
    degrade train --images scans -o scans.safetensors --channels grey
    """
    with user_errors():
        from .progress import TrainBar, starting

        starting(quiet)
        from invert.recipe import Recipe

        from .train import Train, channels_of, sigma_range

        recipe = Recipe(
            channels=channels_of(channels),
            steps=steps,
            batch=batch,
            patch=patch,
            sigma=sigma_range(sigma),
            learning_rate=learning_rate,
            seed=seed,
        )
        flow = Train(recipe, output, images, validation, device, overwrite)
        with TrainBar(quiet) as bar:
            code = flow.run(bar)
        if not quiet:
            echo(output)
            echo(flow.sheet)
        raise typer.Exit(code)


@command
def generators() -> None:
    """List the generators on this machine: the bundled ones, and downloaded ones.

    Downloads are kept in the user's cache folder, or in the folder that the
    environment variable DEGRADE_CACHE names.

    \b
    degrade generators
    """
    with user_errors():
        from . import generators as listing

        listing.show_all()


@command
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
        from . import files

        path = Path(what)
        if path.is_dir() or files.is_picture(path):
            if samples:
                raise ValueError(
                    f"--samples draws from a generator, but {what} holds pictures; leave it out"
                )
            from . import inspection

            raise typer.Exit(
                inspection.show_folder(path) if path.is_dir() else inspection.show(path)
            )

        from . import generators as description

        if samples:
            _refuse_input(output, what)
        model = description.load(what)
        description.describe(model)
        if samples:
            description.draw(model, samples, seed, output)
            echo(output)


@command
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


@command
def ops(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this operator in full.", metavar="NAME", autocompletion=operator_names
        ),
    ] = None,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """List the operators for --op, or show one in full.

    An operator is written as `name:value,parameter=value`. A chain joins
    operators with `>>`, in the order in which they are applied.

    \b
    degrade ops
    degrade ops blur
    degrade ops --plugin my_operators
    """
    with user_errors():
        from . import operators

        load(plugin)
        operators.show_all() if name is None else operators.show(name)


@command
def methods(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this method in full.", metavar="NAME", autocompletion=METHODS),
    ] = None,
) -> None:
    """List the methods of restoration, or show one with its phases, losses and constants.

    \b
    degrade methods
    degrade methods pulse
    """
    with user_errors():
        from . import methods as listing

        listing.show_all() if name is None else listing.show(name)


def _print_versions(wanted: bool) -> None:
    if wanted:
        from .versions import versions

        for line in versions():
            typer.echo(line)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of degrade and of the libraries that it computes with.",
        ),
    ] = False,
) -> None:
    pass
