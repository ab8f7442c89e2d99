"""`degrade restore`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..console import echo, for_each, load, note_left_out, say, user_errors
from ..options import (
    METHODS,
    ClassLabel,
    DeviceOptions,
    Inputs,
    Output,
    Overwrite,
    PriorOptions,
    degradation,
    names,
    photos,
    search,
)


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
            help="Name from `degrade methods`. Default: pnp, or calibrated for a generator.",
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
        bool | None,
        degradation(
            "--keep-visible/--no-keep-visible",
            help="Keep what the degraded picture shows for certain (data consistency).",
            show_default="as the method does",
        ),
    ] = None,
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
        from ..progress import SolveBar, starting

        starting(run.quiet)
        import invert
        from invert.perceptual import check as check_network

        from .. import files
        from ..classes import Classes
        from ..engine import engine_of
        from ..faces import where_of
        from ..job import RestoreSettings, methods_of, refuse_useless_options
        from ..observation import Images, Observer
        from ..report import refuse_foreign, write
        from ..restore import LARGE_PHOTO, Restore
        from ..restored import results
        from ..solver import Solver, identity_text, prior_text

        load(run.plugin)
        sources = files.gather(inputs, output)
        check_network(options.perceptual)
        files.refuse_missing(("--clean", clean), ("--init", init))
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
        drawing = model if face_model is None else face_model
        classes.refuse_without(drawing.c_dim)
        where = where_of(align, landmarks, face, box)
        main_method, face_method = methods_of(method, model, face_model)
        refuse_useless_options(model, face_model, where, main_method, samples)
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
            note_left_out(flow, sources, inputs)
            workers = engine_of(run.engine, gpu=run.device != "cpu")
            code = for_each(flow, sources, workers, run.quiet, bar)
        summary = flow.summary()
        if summary is not None and not run.quiet:
            say(f"note: {summary}")
        if report and code != 2:
            side = model.resolution or LARGE_PHOTO
            page = write(results(sources, settings, output, clean), side)
            if not run.quiet:
                echo(page)
        raise typer.Exit(code)
