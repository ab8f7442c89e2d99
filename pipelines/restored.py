"""The restorations in a folder, read back and measured for a report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import files, metrics, records
from .apply import again
from .files import Source
from .history import clean_of, read_manifest, what_happened
from .log import LOG, is_of
from .results import Results, thinned, thinned_terms

if TYPE_CHECKING:
    from .job import RestoreSettings

TASK = "restored"  # its name in the tables of a report


def results(
    sources: list[Source], settings: RestoreSettings, output: Path, clean: Path | None
) -> Results:
    """The restorations in `output`, measured for a report.

    Fidelity is always measured, accuracy where the clean pictures are known. Pictures that failed
    and results of other settings are left out.
    """
    rows: list[dict] = []
    pictures: dict[tuple[str | None, str, str], Path] = {}
    for source in sources:
        target = source.target(output, ".png")
        log = records.read_json(source.target(output, ".json"), LOG) or {}
        if not is_of(log, asdict(settings)) or not target.exists():
            continue
        op = settings.op
        if op is None and read_manifest(source) is None:
            op = log.get("happened")  # what was guessed and refined for the restoration
        manifest, operator = what_happened(source, op)
        name = source.result_name("").as_posix()
        observed = files.read_image(source.path)
        restoration = files.read_image(target)
        pictures[TASK, "observed", name] = source.path
        pictures[TASK, settings.method, name] = target
        reference = None
        if clean is not None:
            clean_path = clean_of(source, manifest, clean)
            pictures[None, "clean", name] = clean_path
            reference = files.read_image(clean_path)
            if reference.shape != restoration.shape:
                reference = None
        if manifest is None:
            degraded = operator(restoration, torch.Generator().manual_seed(settings.seed))
        else:
            degraded = again(restoration, manifest, operator)
        row: dict[str, object] = {"task": TASK, "method": settings.method, "image": name}
        row["loss"] = thinned(log["loss"])
        row["terms"] = thinned_terms(log.get("terms"))
        scores = metrics.scores(restoration, reference, degraded, observed)
        for metric, values in scores.items():
            row[metric] = values[0]
        rows.append(row)
    described = f"{settings.perceptual} in the loss; seed {settings.seed}"
    notes = [f"Prior {settings.prior}; {described}."]
    if settings.face_prior is not None:
        notes.append(f"Faces by {settings.face_prior}, method {settings.face_method}.")
    if settings.steps is not None:
        notes.append(f"Shortened: {settings.steps} steps in all.")
    missing = output / "none"

    def picture(task: str | None, kind: str, image: str) -> Path:
        return pictures.get((task, kind, image), missing)

    return Results(output, rows, picture, tuple(notes))
