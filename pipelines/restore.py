"""Restore degraded pictures: operator from the manifest, solve, picture, sheet and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import degrade
import invert
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, metrics
from .apply import MANIFEST, again
from .files import Source
from .results import Results, thinned
from .sheet import sheet

LOG = "log"
LATENT = ".latent.safetensors"
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


def restore(source: Source, generator, settings: Settings, output: Path, clean: Path | None = None,
            callback: Callable[[invert.Step], None] | None = None, *, init: Path | None = None,
            identity: invert.Identity | None = None) -> Path:  # fmt: skip
    """Restore one picture into `output`; returns the path of the restored picture.

    Writes <name>.png, <name>.sheet.png (clean | observed | restored | restored, degraded again),
    <name>.latent.safetensors and, last, <name>.json with settings and losses; further samples are
    <name>.sample2.png and so on. A picture whose log already says the same settings and observation
    is not solved again. `clean`: the undamaged picture or a folder of them, for the sheet only.
    `init`: a latent to go on from, or a folder of them.
    """
    manifest, operator = what_happened(source, settings.op)
    assumed = invert.oracle_mask(operator) if settings.oracle_mask else operator.approx()
    log = {"degrade": degrade.__version__, "assumed": _text(assumed), **asdict(settings)}
    log["observation"] = files.digest(source.path)
    init = init / source.relative.with_suffix(LATENT) if init is not None and init.is_dir() else init
    log["init"] = None if init is None else files.digest(init)
    target, target_log = source.target(output, ".png"), source.target(output, ".json")
    targets = [target, *(source.target(output, f".sample{i}.png") for i in range(2, settings.samples + 1))]
    before = files.read_json(target_log, LOG) or {}
    reference = None if clean is None else _clean_of(source, manifest, clean)
    log["clean"] = before.get("clean") if reference is None else files.digest(reference)
    there = all(path.exists() for path in targets)
    solved = there and all(before.get(key) == log[key] for key in log if key != "clean")
    if solved and before["clean"] == log["clean"]:
        return target

    y = files.read_image(source.path, generator.channels)
    tiles = {} if reference is None else {"clean": files.to_pil(files.read_image(reference))}
    if solved:
        log |= {key: before[key] for key in ("told", "loss") if key in before}
    else:
        seeds = [
            child_seed(settings.seed, source.relative.as_posix(), *([i] if i else [])) for i in range(len(targets))
        ]
        begin = files.read_latent(init) if init is not None else "random" if len(targets) > 1 else None
        result = invert.restore(
            y.to(next(generator.parameters()).device).expand(len(targets), -1, -1, -1), assumed, generator,
            settings.method, seeds, callback, perceptual=settings.perceptual, steps=settings.steps,
            class_label=settings.class_label, init=begin, identity=identity,
        )  # fmt: skip
        if not result.finite.all():
            raise ValueError(f"{source.path}: the loss became NaN or infinite; nothing was written")
        log["told"] = list(result.told)
        log["loss"] = [round(v, 6) for v in result.history.mean(1).tolist()]
        target_log.unlink(missing_ok=True)  # so that a log never lies beside a picture of another run
        for path, image in zip(targets, result.image, strict=True):
            files.write(path, files.encode(files.to_pil(image[None])))
        files.write_latent(source.target(output, LATENT), result.latent)
    restored = files.read_image(target, generator.channels)
    tiles |= {"observed": files.to_pil(y), "restored": files.to_pil(restored)}
    tiles |= {f"sample {i}": files.to_pil(files.read_image(p)) for i, p in enumerate(targets[1:], 2)}
    if manifest is not None:
        tiles["restored, degraded again"] = files.to_pil(again(restored, manifest, operator))
    files.write(source.target(output, ".sheet.png"), files.encode(sheet(tiles)))
    files.write_json(target_log, LOG, log)
    return target


def results(sources: list[Source], settings: Settings, output: Path, clean: Path | None) -> Results:
    """What was restored into `output`, for a report: fidelity always, accuracy where the clean pictures are known."""
    rows, pictures = [], {}
    for source in sources:
        target, log = source.target(output, ".png"), files.read_json(source.target(output, ".json"), LOG)
        if log is None or not target.exists():
            continue  # it failed
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


def _text(operator: degrade.Operator) -> str:
    """The operator, with files named by their content: no path of this machine, and other content is another text."""
    return str(collect(operator, lambda name, data: None))


def generator_text(name_or_path: str) -> str:
    """A bundled generator's name, or a digest of the file: another file of the same name is another generator."""
    if name_or_path in invert.generator.BUNDLED:
        return name_or_path
    return f"sha256:{files.digest(invert.generator.find(name_or_path))}"


def identity_of(embedding: Path, person: Path | None, device: str) -> tuple[invert.Identity, str]:
    """An embedding's file and a photo as an identity, and a text that tells it from others."""
    module = invert.load_embedding(embedding).to(device)
    photo = None if person is None else files.read_image(person).to(device)
    return invert.Identity(module, photo), " ".join(files.digest(p) for p in (embedding, person) if p is not None)


def what_happened(source: Source, op: str | None) -> tuple[dict | None, degrade.Operator]:
    """The manifest beside a picture, if any, and the operator: `op` where given, else the manifest's."""
    if op is not None:
        return None, degrade.parse(op)
    path = source.path.with_suffix(".json")
    manifest = files.read_json(path, MANIFEST)
    if manifest is None:
        raise ValueError(f"{source.path} has no manifest beside it; say what happened to it with --op")
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
