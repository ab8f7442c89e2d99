"""The papers' protocol: tasks × methods × pictures, each result a durable row."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
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
from degrade.rng import child_seed

from . import files, metrics
from .engine import Engine, attempt, engine_of
from .files import Source
from .progress import BenchBar
from .results import Results, is_curve, thinned
from .solver import Solver

SETTINGS = "benchmark"


@dataclass(frozen=True)
class Settings:
    """What decides a row besides task, method and picture."""

    generator: str = "avatars-128"
    perceptual: str = "vgg"
    steps: int | None = None
    seed: int = 0
    oracle_mask: bool = False
    identity: str | None = None  # digest of the embedding that measures it


def methods_of(text: str) -> dict[str, invert.RestorationMethod]:
    """Those of "robust,pulse" by name. Raises ValueError for one that is unknown, or needs no generator."""
    methods = {name: invert.methods.method_of(name) for name in map(str.strip, text.split(","))}
    for name, method in methods.items():
        if method.prior_kind != "generator":
            raise ValueError(
                f"methods: {name} needs a diffusion model, which the benchmark cannot load"
            )
    return methods


@dataclass(frozen=True)
class Cell:
    """A method on a task: its name in the tables, and what else a reader must know of it."""

    task: str
    label: str
    method: invert.RestorationMethod
    note: str = ""


class Failed(ValueError):
    """Some pictures or batches could not be done, each for a reason in `args`; all others are."""

    def __str__(self) -> str:
        return "\n".join(self.args)


@dataclass(frozen=True)
class Job:
    """A batch of pictures for one method on one task."""

    cell: Cell
    names: list[str]
    clean: Tensor  # [B, C, R, R]


class Bench:
    """A folder of results: settings.json, results.jsonl, and pictures under images/."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.settings = folder, settings
        self.rows_path = folder / "results.jsonl"
        files.sweep(folder)
        record = {"degrade": degrade.__version__, **asdict(settings)}
        before = files.read_json(folder / "settings.json", SETTINGS)
        if before is None:
            files.write_json(folder / "settings.json", SETTINGS, record)
        else:
            changed = [
                f"{k} {before.get(k)!r} → {v!r}" for k, v in record.items() if before.get(k) != v
            ]
            if changed:
                raise ValueError(
                    f"{folder} holds results of other settings ({'; '.join(changed)}); choose another --output"
                )

    def rows(self) -> list[dict]:
        """All results; the last one counts where a picture has two, and a line that a kill cut off does not."""
        if not self.rows_path.exists():
            return []
        found = {}
        for line in contents(self.rows_path).decode(errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                row = json.loads(line)
                if is_curve(row["loss"]):
                    found[row["task"], row["method"], row["image"]] = row
        return list(found.values())

    def results(self) -> Results:
        s, rows = self.settings, self.rows()
        told = [f"Generator {s.generator}; {s.perceptual} in the loss; seed {s.seed}."]
        if s.steps is not None:
            told.append(f"Shortened: {s.steps} steps in all for every method.")
        if s.oracle_mask:
            told.append("Every method was told which pixels are dead.")
        told += sorted(
            {
                f"{row['method']} on {row['task']} is {row['note']}."
                for row in rows
                if row.get("note")
            }
        )
        told += sorted({text for row in rows for text in row.get("told", ())})
        return Results(self.folder, rows, self.picture, tuple(told))

    def picture(self, task: str | None, kind: str, image: str) -> Path:
        """Where a picture is kept: kind is "clean" (with no task), "observed" or a method."""
        return Path(
            self.folder,
            "images",
            *([] if task is None else [task.replace("/", "-")]),
            kind,
            f"{image}.png",
        )

    def run(
        self,
        sources: list[Source],
        cells: list[Cell],
        engine: Engine,
        solver: Callable[[], Solver],
        side: int,
        channels: int = 3,
        batch: int = 4,
        report: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> list[dict]:
        """The rows of these cells and pictures; those that are not there are computed, so many pictures at a time.

        side, channels: of the generator's images. Raises Failed, in the end, if some could not be read or computed.
        """
        names = [str(source.relative.with_suffix("")).replace(os.sep, "~") for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two pictures would be called {max(names, key=names.count)}; rename one"
            )
        there = {
            (r["task"], r["method"], r["image"], r.get("source"), r.get("note", "")): r
            for r in self.rows()
        }
        digests, found, failures = {}, [], []
        for source, name in zip(sources, names, strict=True):
            clean = attempt(prepared, source.path, side, channels)
            if isinstance(clean, Exception):
                failures.append(str(clean))
                continue
            digests[name] = files.digest(source.path)
            files.write(self.picture(None, "clean", name), files.encode(files.to_pil(clean)))
        total = len(cells) * len(digests)

        def jobs() -> Iterator[tuple[Job, Job]]:
            for cell in cells:
                for first in range(
                    0, len(names), batch
                ):  # batches are cut from the whole list, whatever is there
                    some = [name for name in names[first : first + batch] if name in digests]
                    rows = [
                        there.get((cell.task, cell.label, name, digests[name], cell.note))
                        for name in some
                    ]
                    kept = [
                        self.picture(cell.task, kind, name)
                        for kind in (cell.label, "observed")
                        for name in some
                    ]
                    if all(rows) and all(path.exists() for path in kept):
                        found.extend(rows)
                        continue
                    report(len(found), total, f"{cell.task} {cell.label}")
                    clean = torch.cat(
                        [
                            files.read_image(self.picture(None, "clean", name), channels)
                            for name in some
                        ]
                    )
                    yield (job := Job(cell, some, clean)), job

        for job, outcome in engine.map(partial(Runner, self.settings, solver), jobs()):
            if isinstance(outcome, Exception):
                failures.append(
                    f"{job.cell.task}, {job.cell.label}, {', '.join(job.names)}: {outcome}"
                )
                continue
            rows, pictures = outcome
            for place, data in pictures.items():
                files.write(self.picture(*place), data)
            rows = [row | {"source": digests[row["image"]], "note": job.cell.note} for row in rows]
            self._append(rows)
            found += rows
            report(len(found), total, f"{job.cell.task} {job.cell.label}")
        report(len(found), total, "done")
        if failures:
            raise Failed(*failures)
        return found

    def _append(self, rows: list[dict]) -> None:
        """All rows of a batch, in one write where the disk has room, and on it before anything else happens."""
        with self.rows_path.open("a+b", buffering=0) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read(1) not in (b"", b"\n")
            data = ("\n" * torn + "".join(json.dumps(row) + "\n" for row in rows)).encode()
            while data:  # a disk that gets full takes a part, and says so at the next
                data = data[file.write(data) :]
            os.fsync(file.fileno())


@contextmanager
def opened(
    images: Path,
    limit: int | None,
    folder: Path,
    settings: Settings,
    generator: str,
    device: str,
    engine: str,
    batch: int,
    quiet: bool,
    embedding: Path | None = None,
) -> Iterator[tuple[Bench, Callable[[list[Cell]], list[dict]], int]]:
    """A benchmark under a progress bar: its folder, what gives the rows of cells, and the generator's side."""
    if images.resolve() == folder.resolve():
        raise ValueError(f"{folder} holds the pictures; choose another --output")
    sources = files.gather([images], folder)[:limit]
    invert.perceptual.check(settings.perceptual)
    model = invert.load_generator(generator)
    bench, workers = Bench(folder, settings), engine_of(engine, gpu=device != "cpu")
    with BenchBar(quiet) as bar:
        # steps are seen in this process only
        solver = partial(
            Solver, model, device, embedding, step=bar.step if engine == "local" else None
        )

        def run(cells: list[Cell]) -> list[dict]:
            return bench.run(
                sources, cells, workers, solver, model.resolution, model.channels, batch, bar.report
            )

        yield bench, run, model.resolution


def prepared(path: Path, side: int, channels: int) -> Tensor:
    """A picture as the ground truth: its central square, resized by area to the generator's side."""
    image = picture(contents(path), str(path), channels)
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short))
    if short != side:
        square = square.resize((side, side), Image.BOX if short > side else Image.BICUBIC)
    return files.from_pil(square)


class Runner:
    """Does batches: all that it needs to know is in the job, and it writes nothing."""

    def __init__(self, settings: Settings, solver: Callable[[], Solver]):
        self.settings, self.solver = settings, solver()
        if self.solver.generator.c_dim:
            raise ValueError(
                "this generator has classes; the benchmark knows none of its pictures'"
            )

    def __call__(self, job: Job) -> tuple[list[dict], dict[tuple[str, str, str], bytes]]:
        """A row for each picture, and the files of observed and restored pictures by task, kind and name."""
        s, clean, names, cell = self.settings, job.clean, job.names, job.cell
        seeds = [child_seed(s.seed, cell.task, name) for name in names]

        def streams() -> list[torch.Generator]:
            return [torch.Generator().manual_seed(seed) for seed in seeds]

        operator = degrade.tasks[cell.task].sample(clean.shape, streams())
        observed = operator(clean, streams())
        assumed = invert.oracle_mask(operator) if s.oracle_mask else operator.approx()
        started = time.perf_counter()
        solved = self.solver.solve(
            observed, assumed, cell.method, seeds, perceptual=s.perceptual, steps=s.steps
        )
        seconds = (time.perf_counter() - started) / len(names)
        pictures, written = {}, []
        for name, one, seen in zip(names, solved, observed.split(1), strict=True):
            image = files.to_pil(one.image)
            pictures[cell.task, "observed", name] = files.encode(files.to_pil(seen))
            pictures[cell.task, cell.label, name] = files.encode(image)
            written.append(files.from_pil(image))  # what is measured is what was written, in 8 bits
        restored = torch.cat(written)
        shown = (restored, clean, operator(restored, streams()), observed)
        found = metrics.scores(*(x.to(self.solver.device) for x in shown), self.solver.identity)
        rows = []
        for i, (name, one) in enumerate(zip(names, solved, strict=True)):
            row = {"task": cell.task, "method": cell.label, "image": name}
            row |= {key: values[i] for key, values in found.items()}
            row |= {"seconds": round(seconds, 3), "steps": len(one.losses), "finite": one.finite}
            rows.append(
                row | {"batch": one.batch, "told": list(one.told), "loss": thinned(one.losses)}
            )
        return rows, pictures
