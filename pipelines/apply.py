"""Degrade pictures exactly, and write down what was done to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from degrade import JPEG, Clamp, Operator, Quantize, __version__
from degrade.imagefile import contents, picture
from degrade.rng import child_seed
from degrade.serial import collect

from . import files
from .files import Source

MANIFEST = "manifest"


@dataclass(frozen=True)
class Job:
    """A picture to degrade."""

    source: Source
    data: bytes  # of the file
    operator: Operator
    seed: int


@dataclass(frozen=True)
class Degraded:
    """A picture, degraded: what to write."""

    suffix: str
    data: bytes
    operator: str
    arrays: dict[str, bytes]  # files that the operator names
    source_size: list[int]
    size: list[int]


@dataclass(frozen=True)
class Apply:
    """The flow of `degrade apply`.

    Writes <name>.png, or <name>.jpg with the codec's real bytes where the chain ends in jpeg, and
    <name>.json: the sampled operator, sizes, seed and version.
    """

    operator: Operator
    output: Path
    seed: int

    def setup(self) -> Callable[[Job], Degraded]:
        return degraded

    def targets(self, source: Source) -> list[Path]:
        """All that could be written for a picture."""
        return [source.target(self.output, suffix) for suffix in (".png", ".jpg", ".json")]

    def plan(self, source: Source) -> tuple[Source, Job]:
        files.read_json(
            source.target(self.output, ".json"), MANIFEST
        )  # refuses a file of someone else's
        return source, Job(source, contents(source.path), for_file(self.operator), self.seed)

    def finish(self, source: Source, result: Degraded) -> Path:
        manifest, target = (
            source.target(self.output, ".json"),
            source.target(self.output, result.suffix),
        )
        before = files.earlier(manifest, MANIFEST, [target]) or {}
        other = target.with_suffix(".png" if target.suffix == ".jpg" else ".jpg")
        about = {
            "degrade": __version__,
            "image": target.name,
            "operator": result.operator,
            "seed": self.seed,
            "source": source.relative.as_posix(),
            "source_size": result.source_size,
            "size": result.size,
        }
        made = {manifest.with_name(name): data for name, data in result.arrays.items()} | {
            target: result.data
        }
        files.write_together(
            manifest, MANIFEST, about, made, [other] if before.get("image") == other.name else []
        )
        return target


def degraded(job: Job) -> Degraded:
    """Do the job."""
    x, stream = (
        files.from_pil(picture(job.data, str(job.source.path))),
        (job.seed, job.source.relative),
    )
    operator = job.operator.row(0, 1).sample(x.shape, _generator(*stream))
    last = operator[-1]
    if isinstance(last, JPEG):
        y = operator[:-1](x, _generator(*stream)) if len(operator) > 1 else x
        suffix, data = ".jpg", files.encode(files.to_pil(y), "JPEG", **_codec_options(last))
    else:
        y = operator(x, _generator(*stream))
        suffix, data = ".png", files.encode(files.to_pil(y))
    arrays: dict[str, bytes] = {}
    written = collect(operator, arrays.__setitem__)
    return Degraded(suffix, data, str(written), arrays, list(x.shape[2:]), list(y.shape[2:]))


def again(x: Tensor, manifest: dict, operator: Operator) -> Tensor:
    """The manifest's operator on x [1, 3, H, W], with the very draws that made the observation."""
    return operator(x, _generator(manifest["seed"], Path(manifest["source"])))


def for_file(operator: Operator) -> Operator:
    """What reaches a file is 8 bits: clamped and rounded, unless a codec does it last."""
    ends = (operator[-1],) if len(operator) == 1 else (operator[-2], operator[-1])
    if isinstance(operator[-1], JPEG) or ends == (Clamp(), Quantize()):
        return operator
    return operator >> Clamp() >> Quantize()


def _codec_options(stage: JPEG) -> dict:
    """What makes Pillow write the file whose pixels `stage` computes."""
    tables = (
        {"quality": stage.quality}
        if stage.tables is None
        else {"qtables": [list(t) for t in stage.tables]}
    )
    return tables | {"subsampling": stage.subsampling}


def _generator(seed: int, relative: Path) -> torch.Generator:
    """The stream of one file: it depends on the seed and the file's place, not on the other files."""
    return torch.Generator().manual_seed(child_seed(seed, relative.as_posix()))
