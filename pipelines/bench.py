"""`degrade bench`: every method restores every picture of every task, and each result is a row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import degrade
import invert
from degrade.imagefile import contents, picture

from . import atomic, files, foreign, png, records, run_lock
from .bench_job import BatchResult, BenchJob, BenchSettings, Cell
from .changes import change
from .classes import NO_CLASSES, Classes
from .console import say_left_out
from .engine import Engine, attempt, engine_of
from .files import Source
from .given_tasks import folder_of
from .options import CompareOptions, DeviceOptions, GeneratorOptions
from .progress import BenchBar
from .results import Results, Row, is_curve
from .runner import Runner
from .solver import Solver, Solvers

SETTINGS = "benchmark"  # the kind of record that settings.json holds

Report = Callable[[int, int, str], None]  # results done, results in all, what is computed now
RowIdentity = tuple[str | int | None, ...]
# task, method, image, source, class, operator, assumed operator, note


def methods_of(text: str) -> dict[str, invert.RestorationMethod]:
    """Look up the methods in a text such as "robust,pulse,my_module:solve": label → method.

    "none" is no method. Raises ValueError for an unknown method.
    """
    methods: dict[str, invert.RestorationMethod] = {}
    if text == "none":
        return methods
    for part in text.split(","):
        name = part.strip()
        if ":" in name:
            label = name.replace(":", ".")
            methods[label] = foreign.solver_of(name)
        else:
            methods[name] = invert.methods.method_of(name)
    return methods


def priors_of(
    options: GeneratorOptions, methods: Iterable[invert.RestorationMethod]
) -> dict[str, invert.Generator | invert.Denoiser]:
    """Load the generator, which decides the size of the images, and a denoiser if one is needed.

    Raises ValueError for a denoiser of another size or of other channels.
    """
    generator = invert.load_generator(options.generator)
    if all(method.prior_kind == "generator" for method in methods):
        return {"generator": generator}
    denoiser = invert.load_prior(options.denoiser)
    if denoiser.prior_kind != "denoiser":
        raise ValueError(f"denoiser={options.denoiser} is a generator; --generator takes it")
    side = denoiser.resolution or generator.resolution
    same_side = side == generator.resolution
    same_channels = denoiser.channels == generator.channels
    if not (same_side and same_channels):
        raise ValueError(
            f"denoiser={options.denoiser} takes {denoiser.channels} channels of {side}², and the "
            f"generator's images have {generator.channels} of {generator.resolution}²; "
            "choose priors of one size"
        )
    return {"generator": generator, "denoiser": denoiser}


class Failed(ValueError):
    """Some pictures or batches failed, each with a reason in `args`; all others were computed."""

    def __str__(self) -> str:
        return "\n".join(self.args)


class Bench:
    """A folder of results: settings.json, results.jsonl, and pictures under images/."""

    def __init__(self, folder: Path, settings: BenchSettings):
        self.folder = folder
        self.settings = settings
        self.rows_path = folder / "results.jsonl"
        images = folder / "images"
        image_folders = [path for path in images.rglob("*") if path.is_dir()]
        atomic.sweep(folder, *image_folders)
        record = {"degrade": degrade.__version__, **asdict(settings)}
        settings_path = folder / "settings.json"
        earlier_record = records.read_json(settings_path, SETTINGS)
        if earlier_record is None:
            records.write_json(settings_path, SETTINGS, record)
            return
        changes = []
        for key, value in record.items():
            earlier_value = earlier_record.get(key)
            if earlier_value != value:
                changes.append(change(key, earlier_value, value))
        if changes:
            raise ValueError(
                f"{folder} holds results of other settings ({'; '.join(changes)}); "
                "choose another --output"
            )

    def rows(self) -> list[Row]:
        """Read all results, see `stored_rows`."""
        return stored_rows(self.rows_path)

    def results(self) -> Results:
        """All rows, with notes for the readers of their tables."""
        rows = self.rows()
        return Results(self.folder, rows, self.picture, tuple(self._notes(rows)))

    def _notes(self, rows: list[Row]) -> list[str]:
        settings = self.settings
        notes = [
            f"Generator {settings.generator}; {settings.perceptual} in the loss; "
            f"seed {settings.seed}."
        ]
        uses_denoiser = any(row.get("prior") == "denoiser" for row in rows)
        if uses_denoiser:
            notes.append(f"Methods that need a denoiser had {settings.denoiser}.")
        if settings.steps is not None:
            notes.append(f"Shortened: {settings.steps} steps in all for every method.")
        if settings.samples is not None:
            notes.append(f"Coverage is that of {settings.samples} answers.")
        if settings.oracle_mask:
            notes.append("Every method was told which pixels are dead.")
        remarks = set()
        warnings = set()
        for row in rows:
            if row.get("note"):
                remarks.add(f"{row['method']} on {row['task']} is {row['note']}.")
            warnings.update(row.get("notes", ()))
        return notes + sorted(remarks) + sorted(warnings)

    def picture(self, task: str | None, kind: str, image: str) -> Path:
        """The path of a picture; kind is "clean" (with no task), "observed" or a method."""
        folder = self.folder / "images"
        if task is not None:
            folder /= folder_of(task)
        return folder / kind / f"{image}.png"

    def run(
        self,
        sources: list[Source],
        cells: list[Cell],
        engine: Engine,
        solvers: Callable[[str], Solver],
        side: int,
        channels: int = 3,
        batch: int = 4,
        report: Report = lambda done, total, what: None,
        classes: Classes = NO_CLASSES,
    ) -> list[Row]:
        """Return the rows of these cells and pictures; compute the missing ones in batches.

        solvers: makes the solver for a kind of prior. side, channels: of the images. classes: of
        the pictures, for conditional priors. Raises Failed at the end if some pictures could not
        be read or computed.
        """
        names = _names_of(sources)
        digests, failures = self._write_clean(sources, names, side, channels)
        class_of = dict(zip(names, map(classes.of, sources), strict=True))
        total = len(cells) * len(digests)
        rows: list[Row] = []

        def jobs() -> Iterator[tuple[BenchJob, BenchJob]]:
            finished_rows = {_identity_of(row): row for row in self.rows()}
            for cell, part in _batches(cells, names, batch):
                readable = [name for name in part if name in digests]
                if not readable:
                    continue
                wanted: list[RowIdentity] = []
                known_classes: list[int | str] = []
                for name in readable:
                    number = class_of[name]
                    digest = digests[name]
                    identity = {"task": cell.task, "method": cell.label, "image": name}
                    about = {"source": digest, "class": number, "note": cell.note}
                    wanted.append(_identity_of(identity | about | cell.given_texts))
                    if number is not None:
                        known_classes.append(number)
                finished = self._finished(cell, wanted, finished_rows)
                if finished is not None:
                    rows.extend(finished)
                    continue
                report(len(rows), total, f"{cell.task} {cell.label}")
                clean = self._read_clean(readable, channels)
                job = BenchJob(cell, readable, clean, known_classes or None)
                yield job, job

        setup = partial(Runner, self.settings, solvers)
        for job, outcome in engine.map(setup, jobs()):
            cell = job.cell
            if isinstance(outcome, Exception):
                where = f"{cell.task}, {cell.label}, {', '.join(job.names)}"
                failures.append(f"{where}: {outcome}")
                continue
            rows += self._write(cell, outcome, digests)
            if outcome.failure:
                failures.append(f"{cell.task}, {cell.label}: {outcome.failure}")
            report(len(rows), total, f"{cell.task} {cell.label}")
        report(len(rows), total, "done")
        if failures:
            raise Failed(*failures)
        return rows

    def _write(self, cell: Cell, outcome: BatchResult, digests: dict[str, str]) -> list[Row]:
        """Write the pictures and rows of a batch; return the rows as they are written."""
        for (task, kind, name), data in outcome.pictures.items():
            path = self.picture(task, kind, name)
            atomic.write(path, data)
        for (task, kind, name), data in outcome.arrays.items():
            path = self.picture(task, kind, name)
            atomic.write(path.with_suffix(".npy"), data)
        rows = []
        for row in outcome.rows:
            digest = digests[row["image"]]
            rows.append(row | {"source": digest, "note": cell.note} | cell.given_texts)
        self._append(rows)
        return rows

    def _write_clean(
        self, sources: list[Source], names: list[str], side: int, channels: int
    ) -> tuple[dict[str, str], list[str]]:
        """Write the clean pictures; return (name → digest of its source, reasons of failures)."""
        digests: dict[str, str] = {}
        failures: list[str] = []
        for source, name in zip(sources, names, strict=True):
            clean = attempt(prepared, source.path, side, channels)
            if isinstance(clean, Exception):
                failures.append(str(clean))
                continue
            digests[name] = files.digest(source.path)
            image = files.to_pil(clean)
            path = self.picture(None, "clean", name)
            atomic.write(path, files.encode(image))
        return digests, failures

    def _read_clean(self, names: list[str], channels: int) -> Tensor:
        """The clean pictures as they were written, [B, C, R, R]."""
        pictures = []
        for name in names:
            path = self.picture(None, "clean", name)
            pictures.append(files.read_image(path, channels))
        return torch.cat(pictures)

    def _finished(
        self, cell: Cell, identities: list[RowIdentity], rows: dict[RowIdentity, Row]
    ) -> list[Row] | None:
        """The rows of a batch if they exist, and their pictures are whole; otherwise None."""
        if cell.given is not None:
            return None  # somebody may have changed the pictures, and to score them takes no search
        finished = []
        for identity in identities:
            row = rows.get(identity)
            if row is None:
                return None
            name = row["image"]
            restored = self.picture(cell.task, cell.label, name)
            observed = self.picture(cell.task, "observed", name)
            if not (png.is_whole(restored) and png.is_whole(observed)):
                return None
            finished.append(row)
        return finished

    def _append(self, rows: list[Row]) -> None:
        """Append the rows of a batch in one write, and wait until they are on the disk.

        If a killed run left half a line, the rows begin on a new one.
        """
        lines = [json.dumps(row) + "\n" for row in rows]
        text = "".join(lines)
        with self.rows_path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            ends_in_half_line = file.read(1) not in (b"", b"\n")
            if ends_in_half_line:
                text = "\n" + text
            data = text.encode()
            while data:  # a disk that is nearly full takes a part; the next write raises
                written = file.write(data)
                data = data[written:]
            os.fsync(file.fileno())


def stored_rows(path: Path) -> list[Row]:
    """Read the rows in a results.jsonl. If a picture has two, the last one counts.

    A line that is not a whole row is skipped: a killed run may leave one.
    """
    if not path.exists():
        return []
    text = contents(path).decode(errors="replace")
    rows: dict[tuple[str, str, str], Row] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            row = json.loads(line)
            key = (row["task"], row["method"], row["image"])
            are_names = all(isinstance(name, str) for name in key)
            if are_names and is_curve(row["loss"]):
                rows[key] = row
    return list(rows.values())


def _names_of(sources: list[Source]) -> list[str]:
    """A name for each picture, which is also a file name. Raises ValueError if two are equal.

    Pictures of one folder that share a stem keep their suffixes.
    """
    names = []
    for source in sources:
        name = str(source.result_name(""))
        names.append(name.replace(os.sep, "~"))
    if len(set(names)) < len(names):
        duplicate = max(names, key=names.count)
        raise ValueError(f"two pictures would be called {duplicate}; rename one")
    return names


def _identity_of(row: Row) -> RowIdentity:
    """The values that must agree for a row to count as a result of this run."""
    names = ("task", "method", "image", "source", "class", "operator", "assume")
    return (*[row.get(name) for name in names], row.get("note", ""))


def _batches(cells: list[Cell], names: list[str], batch: int) -> Iterator[tuple[Cell, list[str]]]:
    """Cut the list of all pictures into batches, so that finished ones do not move the cuts."""
    for cell in cells:
        for first in range(0, len(names), batch):
            yield cell, names[first : first + batch]


@dataclass(frozen=True)
class OpenBench:
    """A benchmark that is ready to run. run: computes the rows of cells. side: of the images."""

    bench: Bench
    run: Callable[[list[Cell]], list[Row]]
    side: int


@contextmanager
def opened(
    compare: CompareOptions,
    settings: BenchSettings,
    priors: Mapping[str, invert.Generator | invert.Denoiser],
    running: DeviceOptions,
    embedding: Path | None = None,
    classes: Classes = NO_CLASSES,
) -> Iterator[OpenBench]:
    """Open the folder of a benchmark under a progress bar. priors: see `priors_of`."""
    if classes.given and not any(prior.c_dim for prior in priors.values()):
        raise ValueError("class: no prior of this benchmark has classes; leave --class out")
    if compare.images.resolve() == compare.output.resolve():
        raise ValueError(f"{compare.output} holds the pictures; choose another --output")
    sources = files.gather([compare.images], compare.output)
    _note_left_out(compare, sources)
    sources = sources[: compare.limit]
    invert.perceptual.check(settings.perceptual)
    side = priors["generator"].resolution
    assert side is not None  # every generator has a size
    workers = engine_of(running.engine, gpu=running.device != "cpu")
    about = {"command": "bench", **asdict(settings)}
    lock = run_lock.running(compare.output, about)
    with lock, BenchBar(running.quiet) as bar:
        bench = Bench(compare.output, settings)
        # Only a local engine runs in this process, where steps can be shown.
        step = bar.step if running.engine == "local" else None
        solvers = Solvers(priors, running.device, embedding, step)

        def run(cells: list[Cell]) -> list[Row]:
            return bench.run(
                sources,
                cells,
                workers,
                solvers,
                side,
                priors["generator"].channels,
                compare.batch,
                bar.report,
                classes,
            )

        yield OpenBench(bench, run, side)


def _note_left_out(compare: CompareOptions, sources: list[Source]) -> None:
    """Say how many pictures below the output are no sources; those of a benchmark do not count."""
    results = compare.output / "images"
    pictures = files.left_out([compare.images], compare.output, sources)
    say_left_out([path for path in pictures if results not in path.parents], compare.output)


def prepared(path: Path, side: int, channels: int) -> Tensor:
    """Read a picture as ground truth: its central square, resized by area to side × side."""
    image = picture(contents(path), str(path), channels)
    short = min(image.size)
    left = (image.width - short) // 2
    top = (image.height - short) // 2
    right = left + short
    bottom = top + short
    square = image.crop((left, top, right, bottom))
    if short > side:
        square = square.resize((side, side), Image.Resampling.BOX)
    elif short < side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return files.from_pil(square)
