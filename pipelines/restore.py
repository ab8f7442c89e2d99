"""Restore degraded pictures: operator from the manifest, solve, picture, sheet and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import degrade
import invert
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, metrics
from .apply import MANIFEST, again
from .files import Source
from .progress import SolveBar
from .results import Results, is_curve, thinned
from .sheet import sheet
from .solver import Solved, Solver

LOG = "log"
LATENT = ".latent.safetensors"
MOST_SAMPLES = 1000
TASK = "restored"  # in the tables of a report


@dataclass(frozen=True)
class Settings:
    """What decides a restoration besides the observation; kept in its log."""

    generator: str = "avatars-128"
    method: str = "robust"
    perceptual: str = "vgg"
    seed: int = 0
    steps: int | None = None
    op: str | None = None
    class_label: int | None = None
    samples: int = 1
    oracle_mask: bool = False
    identity: str | None = None  # digests of the embedding and of the reference photo


@dataclass(frozen=True)
class Job:
    """A picture to restore."""

    name: str
    observed: Tensor  # [1, C, h, w]
    operator: degrade.Operator  # as it is assumed
    seeds: list[int]  # one for each answer
    init: Tensor | str | None


@dataclass(frozen=True)
class Todo:
    """What the results of a picture are written with; `observed` is None where all is there."""

    source: Source
    pictures: list[Path]  # to be written, one for each answer
    log: dict
    observed: Tensor | None = None
    operator: degrade.Operator | None = None
    manifest: dict | None = None
    clean: Path | None = None
    samples_before: int = 1  # of which there may be more than now


@dataclass(frozen=True)
class Restore:
    """The flow of `degrade restore`.

    Writes <name>.png, <name>.sheet.png (clean | observed | restored | restored, degraded again),
    <name>.latent.safetensors and, last, <name>.json with settings and losses; further samples are
    <name>.sample2.png and so on. A picture whose log already says the same settings and observation
    is not solved again. `clean`: the undamaged picture or a folder of them, for the sheet only.
    `init`: a latent to go on from, or a folder of them. `bar` is told what happens in this process.
    """

    settings: Settings
    output: Path
    channels: int
    solver: Callable[..., Solver]
    clean: Path | None = None
    init: Path | None = None
    bar: SolveBar | None = None

    def setup(self) -> Callable[[Job], list[Solved]]:
        solver = self.solver(step=self.bar and self.bar.step)
        return partial(restored, solver=solver, settings=self.settings, bar=self.bar)

    def targets(self, source: Source) -> list[Path]:
        """All that is written for a picture."""
        suffixes = [*self._suffixes(self.settings.samples), ".sheet.png", LATENT, ".json"]
        return [source.target(self.output, suffix) for suffix in suffixes]

    @staticmethod
    def _suffixes(samples: int) -> list[str]:
        return [".png", *(f".sample{i}.png" for i in range(2, samples + 1))]

    def plan(self, source: Source) -> tuple[Todo, Job | None]:
        s, manifest, operator = self.settings, *what_happened(source, self.settings.op)
        assumed = invert.oracle_mask(operator) if s.oracle_mask else operator.approx()
        log = {"degrade": degrade.__version__, "assumed": _text(assumed), **asdict(s)}
        log["observation"] = files.digest(source.path)
        folder = self.init is not None and self.init.is_dir()
        init = self.init / source.relative.with_suffix(LATENT) if folder else self.init
        log["init"] = None if init is None else files.digest(init)
        pictures = [source.target(self.output, suffix) for suffix in self._suffixes(s.samples)]
        if init is not None and init.resolve() in (path.resolve() for path in self.targets(source)):
            raise ValueError(f"init={init} would be written over; choose another --output")
        before = files.earlier(source.target(self.output, ".json"), LOG, self.targets(source)) or {}
        clean = None if self.clean is None else _clean_of(source, manifest, self.clean)
        log["clean"] = before.get("clean") if clean is None else files.digest(clean)
        same = _says(before, {key: value for key, value in log.items() if key != "clean"})
        solved = same and all(path.exists() for path in self.targets(source))
        if solved and before.get("clean") == log["clean"]:
            return Todo(source, pictures, log), None
        observed, job = files.read_image(source.path, self.channels), None
        if solved:
            log |= {key: before[key] for key in ("told", "loss") if key in before}
        else:
            name = source.relative.as_posix()
            seeds = [child_seed(s.seed, name, *([i] if i else [])) for i in range(len(pictures))]
            begin = files.read_latent(init) if init is not None else "random" if len(pictures) > 1 else None
            job = Job(name, observed, assumed, seeds, begin)
        earlier = before.get("samples") if isinstance(before.get("samples"), int) else 1
        return Todo(source, pictures, log, observed, operator, manifest, clean, min(earlier, MOST_SAMPLES)), job

    def finish(self, todo: Todo, solved: list[Solved] | None) -> Path:
        source, target, log = todo.source, todo.pictures[0], todo.log
        if todo.observed is None:
            return target
        made: dict[Path, bytes] = {}
        if solved is None:
            images = [files.to_pil(files.read_image(path, self.channels)) for path in todo.pictures]
        else:
            if not all(one.finite for one in solved):
                raise ValueError(f"{source.path}: the loss became NaN or infinite; nothing was written")
            log["told"] = list(solved[0].told)
            longest = max(len(one.losses) for one in solved)
            losses = [one.losses + one.losses[-1:] * (longest - len(one.losses)) for one in solved]
            log["loss"] = [round(sum(step) / len(step), 6) for step in zip(*losses, strict=True)]
            images = [files.to_pil(one.image) for one in solved]
            made = {path: files.encode(image) for path, image in zip(todo.pictures, images, strict=True)}
            latents = torch.cat([one.latent for one in solved])
            made[source.target(self.output, LATENT)] = files.latent_bytes(latents)
        tiles = {} if todo.clean is None else {"clean": files.to_pil(files.read_image(todo.clean))}
        tiles |= {"observed": files.to_pil(todo.observed), "restored": images[0]}
        tiles |= {f"sample {i}": image for i, image in enumerate(images[1:], 2)}
        if todo.manifest is not None:
            degraded = again(files.from_pil(images[0]), todo.manifest, todo.operator)
            tiles["restored, degraded again"] = files.to_pil(degraded)
        made[source.target(self.output, ".sheet.png")] = files.encode(sheet(tiles))
        stale = [source.target(self.output, suffix) for suffix in self._suffixes(todo.samples_before)]
        record = source.target(self.output, ".json")
        files.write_together(record, LOG, log, made, [path for path in stale if path not in todo.pictures])
        return target


def restored(job: Job, solver: Solver, settings: Settings, bar: SolveBar | None) -> list[Solved]:
    """Do the job."""
    if bar is not None:
        bar.start(job.name)
    solved = solver.solve(
        job.observed.expand(len(job.seeds), -1, -1, -1), job.operator, settings.method, job.seeds,
        perceptual=settings.perceptual, steps=settings.steps, class_label=settings.class_label, init=job.init,
        identity=solver.identity,
    )  # fmt: skip
    if bar is not None:
        bar.done()
    return solved


def results(sources: list[Source], settings: Settings, output: Path, clean: Path | None) -> Results:
    """What was restored into `output`, for a report: fidelity always, accuracy where the clean pictures are known."""
    rows, pictures = [], {}
    for source in sources:
        target, log = source.target(output, ".png"), files.read_json(source.target(output, ".json"), LOG) or {}
        if not _says(log, asdict(settings)) or not target.exists():
            continue  # it failed, or what is there is of another run
        manifest, operator = what_happened(source, settings.op)
        name = source.relative.with_suffix("").as_posix()
        observed, restored = files.read_image(source.path), files.read_image(target)
        pictures[TASK, "observed", name], pictures[TASK, settings.method, name] = source.path, target
        reference = None
        if clean is not None:
            pictures[None, "clean", name] = _clean_of(source, manifest, clean)
            reference = files.read_image(pictures[None, "clean", name])
            reference = reference if reference.shape == restored.shape else None
        if manifest is None:
            degraded = operator(restored, torch.Generator().manual_seed(settings.seed))
        else:
            degraded = again(restored, manifest, operator)
        found = {key: value[0] for key, value in metrics.scores(restored, reference, degraded, observed).items()}
        row = {"task": TASK, "method": settings.method, "image": name, "loss": thinned(log["loss"])}
        rows.append(row | found)
    told = f"Generator {settings.generator}; {settings.perceptual} in the loss; seed {settings.seed}."
    shortened = () if settings.steps is None else (f"Shortened: {settings.steps} steps in all.",)
    missing = output / "none"
    return Results(output, rows, lambda *key: pictures.get(key, missing), (told, *shortened))


def _says(log: dict, wanted: dict) -> bool:
    """Whether it is the log of a run that came to its end, with all that is wanted."""
    ended = not log.get("begun") and is_curve(log.get("loss"))
    return ended and all(log.get(key) == value for key, value in wanted.items())


def _text(operator: degrade.Operator) -> str:
    """The operator, with files named by their content: no path of this machine, and other content is another text."""
    return str(collect(operator, lambda name, data: None))


def what_happened(source: Source, op: str | None) -> tuple[dict | None, degrade.Operator]:
    """The manifest beside a picture, if any, and the operator: `op` where given, else the manifest's."""
    if op is not None:
        return None, degrade.parse(op)
    path = source.path.with_suffix(".json")
    manifest = files.read_json(path, MANIFEST)
    if manifest is None:
        raise ValueError(f"{source.path} has no manifest beside it; say what happened to it with --op")
    if manifest.get("begun"):
        raise ValueError(f"{path} says that apply was stopped here; run it again, or say what happened with --op")
    for key, kind in (("operator", str), ("seed", int), ("source", str)):
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{path} has no {key} that can be used; say what happened with --op")
    if manifest.get("image") != source.path.name:
        raise ValueError(f"{path} describes {manifest.get('image')!r}, not this picture; say what happened with --op")
    return manifest, degrade.parse(manifest["operator"], folder=path.parent)


def _clean_of(source: Source, manifest: dict | None, clean: Path) -> Path:
    if not clean.is_dir():
        return clean
    path = clean / (manifest["source"] if manifest else source.relative)
    if not path.resolve().is_relative_to(clean.resolve()):
        raise ValueError(f"the manifest's source {manifest['source']!r} lies outside {clean}")
    return path
