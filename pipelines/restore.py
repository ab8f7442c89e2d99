"""Restore degraded pictures: operator from the manifest, solve, picture, sheet and log."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

import degrade
import invert
from degrade.forensics import guess
from degrade.imagefile import Note
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, metrics
from .apply import MANIFEST, again
from .faces import Where
from .files import Source
from .photo import Photo
from .progress import SolveBar
from .results import Results, is_curve, thinned
from .sheet import sheet
from .solver import Solved, Solver

LOG = "log"
LATENT = ".latent.safetensors"
MOST_SAMPLES = 1000
SPREAD = 0.25  # the standard deviation of answers that is drawn white
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
    where: str = ""  # of a photo, see `faces.Where`
    keep_visible: bool = False


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
    log: dict
    observed: Tensor | None = None
    operator: degrade.Operator | None = None
    photo: Photo | None = None  # of which the picture that is solved is a part
    manifest: dict | None = None
    clean: Path | None = None
    samples_before: int = 1  # of which there may be more than now


@dataclass(frozen=True)
class Restore:
    """The flow of `degrade restore`.

    Writes <name>.png, <name>.sheet.png (clean | observed | restored | restored, degraded again),
    <name>.latent.safetensors and, last, <name>.json with settings and losses; further samples are
    <name>.sample2.png and so on. Of a photo that is not what the generator's pictures become,
    <name>.png is the photo with its restored part, and <name>.part.png what the generator drew.
    A picture whose log already says the same settings and observation is not solved again.

    shape: [1, C, R, R] of the generator's images. `clean`: the undamaged picture or a folder of
    them, for the sheet only. `init`: a latent to go on from, or a folder of them. `where`: which
    part of a photo. `bar` is told what happens in this process.
    """

    settings: Settings
    output: Path
    shape: tuple[int, ...]
    solver: Callable[..., Solver]
    clean: Path | None = None
    init: Path | None = None
    where: Where = Where()
    bar: SolveBar | None = None

    def setup(self) -> Callable[[Job], list[Solved]]:
        solver = self.solver(step=self.bar and self.bar.step)
        return partial(restored, solver=solver, settings=self.settings, bar=self.bar)

    def targets(self, source: Source) -> list[Path]:
        """All that may be written for a picture."""
        return self._targets(source, photo=True)

    def _targets(self, source: Source, photo: bool) -> list[Path]:
        suffixes = [*_suffixes(self.settings.samples, photo), ".sheet.png", LATENT, ".json"]
        return [source.target(self.output, suffix) for suffix in suffixes]

    def plan(self, source: Source) -> tuple[Todo, Job | None]:
        s, (manifest, operator) = self.settings, what_happened(source, self.settings.op)
        observed = files.read_image(source.path, self.shape[1])
        photo = self._photo(source, observed, operator)
        taken, happened = (observed, operator) if photo is None else photo.problem(self.shape[2])
        assumed = invert.oracle_mask(happened) if s.oracle_mask else happened.approx()
        kept = assumed if photo is None else photo.happened.approx()
        if s.keep_visible and not kept.certain:
            silent = ", ".join(str(stage) for stage in kept if not stage.certain)
            _note(
                f"{source.path}: nothing is kept, for {silent} leaves nothing certain of what was before it"
            )
        log = {"degrade": degrade.__version__, "assumed": _text(assumed), **asdict(s)}
        log["observation"] = files.digest(source.path)
        folder = self.init is not None and self.init.is_dir()
        init = self.init / source.relative.with_suffix(LATENT) if folder else self.init
        log["init"] = None if init is None else files.digest(init)
        if init is not None and init.resolve() in (path.resolve() for path in self.targets(source)):
            raise ValueError(f"init={init} would be written over; choose another --output")
        before = files.earlier(source.target(self.output, ".json"), LOG, self.targets(source)) or {}
        clean = None if self.clean is None else _clean_of(source, manifest, self.clean)
        log["clean"] = before.get("clean") if clean is None else files.digest(clean)
        same = _says(before, {key: value for key, value in log.items() if key != "clean"})
        solved = same and all(path.exists() for path in self._targets(source, photo is not None))
        job = None
        if solved and before.get("clean") == log["clean"]:
            return Todo(source, log), None
        if solved:
            log |= {key: before[key] for key in ("told", "loss") if key in before}
        else:
            name = source.relative.as_posix()
            seeds = [child_seed(s.seed, name, *([i] if i else [])) for i in range(s.samples)]
            begin = (
                files.read_latent(init) if init is not None else "random" if s.samples > 1 else None
            )
            job = Job(name, taken, assumed, seeds, begin)
        earlier = before.get("samples") if isinstance(before.get("samples"), int) else 1
        return Todo(
            source, log, observed, operator, photo, manifest, clean, min(earlier, MOST_SAMPLES)
        ), job

    def _photo(self, source: Source, observed: Tensor, operator: degrade.Operator) -> Photo | None:
        """The photo of which a part is restored; None for a picture of which all of it can be."""
        if not self.where:
            with suppress(ValueError):  # of a stage that does not fit
                if operator.output_shape(self.shape) == tuple(observed.shape):
                    return None
        spot, told = self.where.spot(source.path, files.to_pil(observed))
        if told:
            _note(f"{source.path}: {told}")
        return Photo(observed, operator, spot)

    def finish(self, todo: Todo, solved: list[Solved] | None) -> Path:
        source, log, photo, samples = todo.source, todo.log, todo.photo, self.settings.samples
        target = source.target(self.output, ".png")
        if todo.observed is None:
            return target
        made: dict[Path, bytes] = {}
        drawn = [
            source.target(self.output, suffix) for suffix in _drawn(samples, photo is not None)
        ]
        if solved is None:
            images = [files.read_image(path, self.shape[1]) for path in drawn]
            result = files.read_image(target, self.shape[1])
        else:
            if not all(one.finite for one in solved):
                raise ValueError(
                    f"{source.path}: the loss became NaN or infinite; nothing was written"
                )
            log["told"] = list(solved[0].told)
            longest = max(len(one.losses) for one in solved)
            losses = [one.losses + one.losses[-1:] * (longest - len(one.losses)) for one in solved]
            log["loss"] = [round(sum(step) / len(step), 6) for step in zip(*losses, strict=True)]
            results = images = [one.image for one in solved]
            made = {
                path: files.encode(files.to_pil(image))
                for path, image in zip(drawn, images, strict=True)
            }
            if photo is not None:
                results = [photo.pasted(image, self.settings.keep_visible) for image in images]
                for suffix, whole in zip(_numbered(samples), results, strict=True):
                    made[source.target(self.output, suffix)] = files.encode(files.to_pil(whole))
            result = results[0]
            latents = torch.cat([one.latent for one in solved])
            made[source.target(self.output, LATENT)] = files.latent_bytes(latents)
        made[source.target(self.output, ".sheet.png")] = files.encode(
            sheet(self._tiles(todo, images, result))
        )
        before = _suffixes(todo.samples_before, photo=True)
        stale = {source.target(self.output, suffix) for suffix in before} - {
            *self._targets(source, photo is not None)
        }
        record = source.target(self.output, ".json")
        files.write_together(record, LOG, log, made, sorted(stale))
        return target

    def _tiles(self, todo: Todo, images: list[Tensor], result: Tensor) -> dict[str, Image]:
        """What the sheet shows; `result` is the whole photo with the first image in it, or that image."""
        photo, tiles = todo.photo, {}
        if todo.clean is not None:
            tiles["clean"] = files.read_image(todo.clean)
        if photo is None:
            tiles |= {"observed": todo.observed, "restored": images[0]}
        else:
            part = photo.aligned(max(self.shape[2], round(photo.spot.side)))
            tiles |= {
                "photo": todo.observed,
                "the part": part,
                "restored": images[0],
                "pasted back": result,
            }
        tiles |= {f"sample {i}": image for i, image in enumerate(images[1:], 2)}
        if len(images) > 1:
            spread = (
                torch.cat([image.clamp(0, 1) for image in images]).std(0, correction=0).mean(0)
                / SPREAD
            )
            tiles[f"spread, white is {SPREAD}"] = spread[None, None]
        if todo.manifest is not None:
            tiles["restored, degraded again"] = again(
                files.from_pil(files.to_pil(result)), todo.manifest, todo.operator
            )
        return {caption: files.to_pil(tile) for caption, tile in tiles.items()}


def _numbered(samples: int) -> list[str]:
    return [".png", *(f".sample{i}.png" for i in range(2, samples + 1))]


def _drawn(samples: int, photo: bool) -> list[str]:
    """Of what the generator drew."""
    return (
        [suffix.replace(".png", ".part.png") for suffix in _numbered(samples)]
        if photo
        else _numbered(samples)
    )


def _suffixes(samples: int, photo: bool) -> list[str]:
    """Of all pictures of a result."""
    return list(dict.fromkeys([*_numbered(samples), *_drawn(samples, photo)]))


def restored(job: Job, solver: Solver, settings: Settings, bar: SolveBar | None) -> list[Solved]:
    """Do the job."""
    if bar is not None:
        bar.start(job.name)
    solved = solver.solve(
        job.observed.expand(len(job.seeds), -1, -1, -1),
        job.operator,
        settings.method,
        job.seeds,
        perceptual=settings.perceptual,
        steps=settings.steps,
        class_label=settings.class_label,
        init=job.init,
        identity=solver.identity,
        consistency=settings.keep_visible,
    )
    if bar is not None:
        bar.done()
    return solved


def results(sources: list[Source], settings: Settings, output: Path, clean: Path | None) -> Results:
    """What was restored into `output`, for a report: fidelity always, accuracy where the clean pictures are known."""
    rows, pictures = [], {}
    for source in sources:
        target, log = (
            source.target(output, ".png"),
            files.read_json(source.target(output, ".json"), LOG) or {},
        )
        if not _says(log, asdict(settings)) or not target.exists():
            continue  # it failed, or what is there is of another run
        manifest, operator = what_happened(source, settings.op)
        name = source.relative.with_suffix("").as_posix()
        observed, restored = files.read_image(source.path), files.read_image(target)
        pictures[TASK, "observed", name], pictures[TASK, settings.method, name] = (
            source.path,
            target,
        )
        reference = None
        if clean is not None:
            pictures[None, "clean", name] = _clean_of(source, manifest, clean)
            reference = files.read_image(pictures[None, "clean", name])
            reference = reference if reference.shape == restored.shape else None
        if manifest is None:
            degraded = operator(restored, torch.Generator().manual_seed(settings.seed))
        else:
            degraded = again(restored, manifest, operator)
        found = {
            key: value[0]
            for key, value in metrics.scores(restored, reference, degraded, observed).items()
        }
        row = {"task": TASK, "method": settings.method, "image": name, "loss": thinned(log["loss"])}
        rows.append(row | found)
    told = (
        f"Generator {settings.generator}; {settings.perceptual} in the loss; seed {settings.seed}."
    )
    shortened = () if settings.steps is None else (f"Shortened: {settings.steps} steps in all.",)
    missing = output / "none"
    return Results(output, rows, lambda *key: pictures.get(key, missing), (told, *shortened))


def _says(log: dict, wanted: dict) -> bool:
    """Whether it is the log of a run that came to its end, with all that is wanted."""
    ended = not log.get("begun") and is_curve(log.get("loss"))
    return ended and all(log.get(key) == value for key, value in wanted.items())


def _note(text: str) -> None:
    warnings.warn(text, Note, stacklevel=2)


def _text(operator: degrade.Operator) -> str:
    """The operator, with files named by their content: no path of this machine, and other content is another text."""
    return str(collect(operator, lambda name, data: None))


def what_happened(source: Source, op: str | None) -> tuple[dict | None, degrade.Operator]:
    """The manifest beside a picture, if any, and the operator: `op` where given, else the manifest's, else a guess."""
    if op is not None:
        return None, degrade.parse(op)
    path = source.path.with_suffix(".json")
    manifest = files.read_json(path, MANIFEST)
    if manifest is None:
        operator = guess(source.path).operator
        _note(
            f"{source.path}: taken to have happened: {operator}; `degrade inspect` tells why, --op says better"
        )
        return None, operator
    if manifest.get("begun"):
        raise ValueError(
            f"{path} says that apply was stopped here; run it again, or say what happened with --op"
        )
    for key, kind in (("operator", str), ("seed", int), ("source", str)):
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{path} has no {key} that can be used; say what happened with --op")
    if manifest.get("image") != source.path.name:
        raise ValueError(
            f"{path} describes {manifest.get('image')!r}, not this picture; say what happened with --op"
        )
    return manifest, degrade.parse(manifest["operator"], folder=path.parent)


def _clean_of(source: Source, manifest: dict | None, clean: Path) -> Path:
    if not clean.is_dir():
        return clean
    path = clean / (manifest["source"] if manifest else source.relative)
    if not path.resolve().is_relative_to(clean.resolve()):
        raise ValueError(f"the manifest's source {manifest['source']!r} lies outside {clean}")
    return path
