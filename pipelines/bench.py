"""The papers' protocol: tasks × methods × pictures, each result a durable row."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import degrade
import invert
from degrade.rng import child_seed

from . import files, metrics
from .files import Source
from .results import Results, thinned

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


def methods_of(text: str) -> dict[str, invert.Method]:
    """Those of "robust,pulse" by name. Raises ValueError for one that is unknown, or needs no generator."""
    methods = {name: invert.methods.method_of(name) for name in map(str.strip, text.split(","))}
    for name, method in methods.items():
        if isinstance(method, invert.DDRM):
            raise ValueError(f"methods: {name} needs a diffusion model, which the benchmark cannot load")
    return methods


class Bench:
    """A folder of results: settings.json, results.jsonl, and pictures under images/."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.settings = folder, settings
        self.rows_path = folder / "results.jsonl"
        record = {"degrade": degrade.__version__, **asdict(settings)}
        before = files.read_json(folder / "settings.json", SETTINGS)
        if before is None:
            files.write_json(folder / "settings.json", SETTINGS, record)
        else:
            changed = [f"{k} {before.get(k)!r} → {v!r}" for k, v in record.items() if before.get(k) != v]
            if changed:
                raise ValueError(
                    f"{folder} holds results of other settings ({'; '.join(changed)}); choose another --output"
                )

    def rows(self) -> list[dict]:
        """All results; the last one counts where a picture has two, and a line that a kill cut off does not."""
        if not self.rows_path.exists():
            return []
        found = {}
        for line in self.rows_path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                found[row["task"], row["method"], row["image"]] = row
            except (ValueError, TypeError, KeyError):
                continue
        return list(found.values())

    def results(self) -> Results:
        s, rows = self.settings, self.rows()
        told = [f"Generator {s.generator}; {s.perceptual} in the loss; seed {s.seed}."]
        if s.steps is not None:
            told.append(f"Shortened: {s.steps} steps in all for every method.")
        if s.oracle_mask:
            told.append("Every method was told which pixels are dead.")
        return Results(self.folder, rows, self.picture, tuple(told))

    def picture(self, task: str | None, kind: str, image: str) -> Path:
        """Where a picture is kept: kind is "clean" (with no task), "observed" or a method."""
        return Path(self.folder, "images", *([] if task is None else [task.replace("/", "-")]), kind, f"{image}.png")

    def run(self, sources: list[Source], tasks: list[str], methods: dict[str, invert.Method],
            generator: invert.Generator,
            report: Callable[[int, int, str], None] = lambda done, total, what: None,
            step: Callable[[invert.Step], None] | None = None,
            identity: invert.Identity | None = None, batch: int = 4) -> None:  # fmt: skip
        """Compute every row that is not there yet, so many pictures at a time."""
        side = generator.resolution
        names = [str(source.relative.with_suffix("")).replace(os.sep, "~") for source in sources]
        digests = [files.digest(source.path) for source in sources]
        there = {(row["task"], row["method"], row["image"], row.get("source")) for row in self.rows()}
        total, done = len(tasks) * len(methods) * len(names), 0
        for source, name in zip(sources, names, strict=True):
            clean = prepared(source.path, side, generator.channels)
            files.write(self.picture(None, "clean", name), files.encode(files.to_pil(clean)))
        for task in tasks:
            for first in range(0, len(names), batch):  # batches are cut from the whole list, whatever is there
                some = [*zip(names, digests, strict=True)][first : first + batch]
                for label, method in methods.items():
                    report(done, total, f"{task} {label}")
                    if not all((task, label, *key) in there for key in some):
                        rows = self._batch(task, label, method, [name for name, _ in some], generator, step, identity)
                        self._append([row | {"source": key} for row, (_, key) in zip(rows, some, strict=True)])
                    done += len(some)
        report(done, total, "done")

    def _batch(self, task: str, label: str, method: invert.Method, names: list[str], generator: invert.Generator,
               step: Callable[[invert.Step], None] | None, identity: invert.Identity | None) -> list[dict]:  # fmt: skip
        device, channels = next(generator.parameters()).device, generator.channels
        clean = torch.cat([files.read_image(self.picture(None, "clean", name), channels) for name in names])
        seeds = [child_seed(self.settings.seed, task, name) for name in names]

        def streams() -> list[torch.Generator]:
            return [torch.Generator().manual_seed(seed) for seed in seeds]

        operator = degrade.tasks[task].sample(clean.shape, streams())
        observed = operator(clean, streams())
        for i, name in enumerate(names):
            files.write(self.picture(task, "observed", name), files.encode(files.to_pil(observed[i : i + 1])))
        assumed = invert.oracle_mask(operator) if self.settings.oracle_mask else operator.approx()
        started = time.perf_counter()
        solved, used = self._solve(observed.to(device), assumed, generator, method, seeds, step)
        seconds = (time.perf_counter() - started) / len(names)
        rows = []
        for name, (image, _, _) in zip(names, solved, strict=True):
            files.write(self.picture(task, label, name), files.encode(files.to_pil(image)))
        restored = torch.cat([files.read_image(self.picture(task, label, name), channels) for name in names])
        found = metrics.scores(restored, clean, operator(restored, streams()), observed, identity)
        for i, (name, (_, losses, finite)) in enumerate(zip(names, solved, strict=True)):
            row = {"task": task, "method": label, "image": name} | {key: values[i] for key, values in found.items()}
            row |= {"seconds": round(seconds, 3), "steps": len(losses), "finite": finite}
            row |= {"batch": used, "loss": thinned(losses)}
            rows.append(row)
        return rows

    def _solve(self, observed: Tensor, operator: degrade.Operator, generator: invert.Generator, method: invert.Method,
               seeds: list[int], step: Callable[[invert.Step], None] | None) -> tuple[list, int]:  # fmt: skip
        """Image, losses and whether they stayed finite, of each; and the batch size, halved until it fitted."""
        options = {"perceptual": self.settings.perceptual, "steps": self.settings.steps}
        if generator.c_dim:
            raise ValueError("this generator has classes; the benchmark knows none of its pictures'")
        size = len(seeds)
        while True:
            try:
                found = []
                for first in range(0, len(seeds), size):
                    rows = slice(first, first + size)
                    own = operator if size == len(seeds) else rows_of(operator, rows, len(seeds))
                    r = invert.restore(observed[rows], own, generator, method, seeds[rows], step, **options)
                    histories = r.history.T.tolist()
                    found += zip(r.image.split(1), histories, r.finite.tolist(), strict=True)
                return found, size
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size = -(-size // 2)
                torch.cuda.empty_cache()

    def _append(self, rows: list[dict]) -> None:
        """All rows of a batch, on the disk before anything else happens."""
        torn = self.rows_path.exists() and not self.rows_path.read_bytes().endswith(b"\n")
        with self.rows_path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + "".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())


def prepared(path: Path, side: int, channels: int) -> Tensor:
    """A picture as the ground truth: its central square, resized by area to the generator's side."""
    with Image.open(path) as image:
        image = image.convert("RGB" if channels == 3 else "L")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
    if short != side:
        square = square.resize((side, side), Image.BOX if short > side else Image.BICUBIC)
    return files.from_pil(square)


def rows_of(operator: degrade.Operator, rows: slice, batch: int) -> degrade.Operator:
    """What a part of the batch gets."""
    own = [operator.row(i, batch) for i in range(batch)[rows]]
    return own[0] if len(own) == 1 else degrade.PerImage(*own)
