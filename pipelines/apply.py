"""Degrade pictures exactly, and write down what was done to each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from degrade import JPEG, Clamp, Operator, PerImage, Quantize, __version__, parse
from degrade.imagefile import Note, contents, picture
from degrade.images import shows_picture
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, records
from .changes import differences
from .files import Source

MANIFEST = "manifest"
SUFFIXES = (".png", ".jpg", ".json")  # of everything that is written for a picture


@dataclass(frozen=True)
class ApplyJob:
    """A picture to degrade."""

    source: Source
    data: bytes  # content of the file
    operator: Operator
    seed: int
    as_pair: bool = False  # the clean picture is written too, and both are PNG


@dataclass(frozen=True)
class Degraded:
    """A degraded picture, ready to be written."""

    suffix: str
    data: bytes
    operator: str
    arrays: dict[str, bytes]  # files that the operator refers to
    source_digest: str  # SHA-256 of the input's bytes
    source_size: list[int]
    size: list[int]
    note: str | None  # what a user must know
    clean: bytes | None = None  # the clean picture of a pair


@dataclass(frozen=True)
class Apply:
    """The flow of `degrade apply`.

    Writes <name>.png, or <name>.jpg with the codec's own bytes if the chain ends in jpeg, and the
    manifest <name>.json: the sampled operator, sizes, seed and version. Grey pictures stay grey.
    Grey of 16 bits keeps them unless a stage works in 8 bits.

    pairs: the number of training pairs for each picture, in the layout of BasicSR: the degraded
        pictures are in the folder LQ of the output, with their manifests, and the clean ones in HQ,
        all PNG and of equal names; give `numbered` sources. 0: degraded pictures only.
    """

    operator: Operator
    output: Path
    seed: int
    overwrite: bool = False
    pairs: int = 0

    @property
    def degraded_folder(self) -> Path:
        """The folder of the degraded pictures and the manifests."""
        return self.output / "LQ" if self.pairs else self.output

    @cached_property
    def spec(self) -> str:
        """The operator as it was given; files are named by their content."""
        return str(collect(self.operator, lambda name, data: None))

    def setup(self) -> Callable[[ApplyJob], Degraded]:
        return degraded

    def about(self) -> dict[str, object]:
        return {"command": "apply", "spec": self.spec, "seed": self.seed}

    def forget(self) -> None:
        """Nothing describes degraded pictures as a whole."""

    def targets(self, source: Source) -> list[Path]:
        targets = [source.target(self.degraded_folder, suffix) for suffix in SUFFIXES]
        if self.pairs:
            source.target(self.output, ".png")  # refuses the input's own folder
            targets.append(self.clean_target(source))
        return targets

    def clean_target(self, source: Source) -> Path:
        """The clean picture of a pair."""
        return source.target(self.output / "HQ", ".png")

    def changes(self, source: Source) -> list[str]:
        before = records.read_json(source.target(self.degraded_folder, ".json"), MANIFEST)
        changed = differences(before, {"spec": self.spec, "seed": self.seed})
        return changed + records.another_source(before, "source_digest", source)

    def plan(self, source: Source) -> tuple[Source, ApplyJob | None]:
        if not self.overwrite and self._is_done(source):
            return source, None
        data = contents(source.path)
        return source, ApplyJob(source, data, self.operator, self.seed, bool(self.pairs))

    def _is_done(self, source: Source) -> bool:
        """Whether this version made this picture, and all files of the result are there, whole.

        `changes` compares the settings. Raises ValueError for a file that is no manifest, before
        any work is done.
        """
        manifest = source.target(self.degraded_folder, ".json")
        before = records.read_json(manifest, MANIFEST)
        if before is None or before.get("begun") or before.get("degrade") != __version__:
            return False
        made = [manifest.with_name(before["image"])]
        if self.pairs:
            made.append(self.clean_target(source))
        if not records.are_whole(manifest, before, made):
            return False
        try:
            operator = parse(before["operator"], folder=manifest.parent)
            with_digests = collect(operator, lambda name, data: None)  # reads the operator's files
        except ValueError:
            return False
        is_same: bool = str(with_digests) == before["operator"]
        return is_same

    def finish(self, source: Source, result: Degraded | None) -> Path:
        manifest = source.target(self.degraded_folder, ".json")
        if result is None:  # it is done
            before = records.read_json(manifest, MANIFEST) or {}
            return manifest.with_name(before["image"])
        target = source.target(self.degraded_folder, result.suffix)
        made = {target: result.data}
        if result.clean is not None:
            made[self.clean_target(source)] = result.clean
        before = records.earlier(manifest, MANIFEST, made) or {}
        other = target.with_suffix(".png" if target.suffix == ".jpg" else ".jpg")
        about = {
            "degrade": __version__,
            "image": target.name,
            "operator": result.operator,
            "spec": self.spec,
            "seed": self.seed,
            "source": source.relative.as_posix(),
            "source_digest": result.source_digest,
            "source_size": result.source_size,
            "size": result.size,
        }
        if before.get("source_digest", result.source_digest) != result.source_digest:
            replaced = "the result of another picture of this name is replaced"
            warnings.warn(f"{source.path}: {replaced}", Note, stacklevel=2)
        for name, data in result.arrays.items():
            made[manifest.with_name(name)] = data
        stale = [other] if before.get("image") == other.name else []
        records.write_result(manifest, MANIFEST, about, made, stale)
        if result.note is not None:
            warnings.warn(f"{source.path}: {result.note}", Note, stacklevel=2)
        return target


def degraded(job: ApplyJob) -> Degraded:
    """Degrade one picture."""
    image = picture(job.data, str(job.source.path), channels=None, deep=True)
    x = files.from_pil(image)
    drawn = _drawn(job, x)
    if job.as_pair:
        x = _whole_multiple(x, drawn)
        drawn = _drawn(job, x)
    bits = 16 if image.mode.startswith("I;16") else 8
    note = None
    if bits == 16:
        eight_bit_stage = _eight_bit_stage(drawn, x, job)
        if eight_bit_stage is not None:
            bits = 8
            note = f"16 bits become 8, because {eight_bit_stage} works in 8 bits"
    operator = for_file(drawn, bits)
    last = operator[-1]
    if isinstance(last, JPEG) and not job.as_pair:
        y = _prefix(operator, len(operator) - 1, x, job)
        _refuse_channels(operator, x, y)
        suffix = ".jpg"
        data = last.coefficients(y).encode()[0]
    else:
        y = _prefix(operator, len(operator), x, job)
        _refuse_channels(operator, x, y)
        suffix = ".png"
        data = files.encode(files.to_pil(y, bits))
    if shows_picture(x.shape) and not shows_picture(y.shape):
        note = f"the result is one row of numbers; {suffix} keeps them within [0, 1] only"
    arrays: dict[str, bytes] = {}
    text = str(collect(operator, arrays.__setitem__))
    return Degraded(
        suffix=suffix,
        data=data,
        operator=text,
        arrays=arrays,
        source_digest=sha256(job.data).hexdigest(),
        source_size=list(x.shape[2:]),
        size=list(y.shape[2:]),
        note=note,
        clean=files.encode(files.to_pil(x, bits)) if job.as_pair else None,
    )


def operator_of_option(op: str) -> Operator:
    """The operator of --op, for pictures that are taken one by one.

    Raises ValueError if it has a value, or an operator, for each image of a batch.
    """
    operator = parse(op)
    for stage in _all_stages(operator):
        if isinstance(stage, PerImage) and len(stage.operators) > 1:
            raise ValueError(
                f"--op {stage} has an operator for each image of a batch, but pictures are taken "
                "one by one; give one, or oneof(… ; …), which draws one for each"
            )
        for name, kind in stage.kinds.items():
            value = getattr(stage, name)
            if kind.per_image and isinstance(value, tuple):
                raise ValueError(
                    f"--op {stage} has a {name} for each image of a batch, but pictures are taken "
                    f"one by one; give one {name}, or a range low..high, which is drawn for each"
                )
    return operator


def _all_stages(operator: Operator) -> Iterator[Operator]:
    """The stages of a chain, and those within their parentheses."""
    for stage in operator:
        yield stage
        for nested in stage.nested:
            yield from _all_stages(nested)


def numbered(sources: Sequence[Source], pairs: int) -> list[Source]:
    """Every source `pairs` times, as NAME_1, NAME_2, …: another name draws other numbers.

    A single pair keeps the name. A larger number adds to the pairs of a smaller one.
    """
    if pairs < 2:
        return list(sources)
    result = []
    for source in sources:
        path = source.relative
        for number in range(1, pairs + 1):
            relative = path.with_name(f"{path.stem}_{number}{path.suffix}")
            result.append(replace(source, relative=relative))
    return result


def _drawn(job: ApplyJob, x: Tensor) -> Operator:
    """The operator of one picture, with everything drawn but noise."""
    stream = _generator(job.seed, job.source.relative)
    return job.operator.row(0, 1).sample(x.shape, stream)


def _whole_multiple(x: Tensor, drawn: Operator) -> Tensor:
    """The clean picture cut to a whole multiple of the degraded one's size, as loaders ask for."""
    height, width = x.shape[2:]
    *_, low_height, low_width = drawn.output_shape(x.shape)
    factor = min(height // low_height, width // low_width)
    if factor < 1:
        return x
    return x[..., : factor * low_height, : factor * low_width]


def again(x: Tensor, manifest: dict, operator: Operator) -> Tensor:
    """The manifest's operator on x [1, C, H, W], with the random draws of the observation."""
    return operator(x, _generator(manifest["seed"], Path(manifest["source"])))


def for_file(operator: Operator, bits: int = 8) -> Operator:
    """The operator followed by what a file does to pixels: clamp, and round to 8 or 16 bits.

    It stays as it is if it ends so, or in a codec.
    """
    ending = (Clamp(), Quantize(2**bits))
    if isinstance(operator[-1], JPEG) or operator.stages[-2:] == ending:
        return operator
    clamp, quantize = ending
    return operator >> clamp >> quantize


def _prefix(operator: Operator, stages: int, x: Tensor, job: ApplyJob) -> Tensor:
    """The first stages of a chain on x, with the same random draws as the whole chain."""
    if stages == 0:
        return x
    stream = _generator(job.seed, job.source.relative)
    return operator[:stages](x, stream)


def _refuse_channels(operator: Operator, x: Tensor, y: Tensor) -> None:
    """Raise ValueError, which names the stage, unless y has the channels of a picture file."""
    channels = y.shape[1]
    if channels in (1, 3):
        return
    makers = []
    shape = tuple(x.shape)
    for stage in operator:
        before, shape = shape, stage.output_shape(shape)
        if shape[1] == channels != before[1]:
            makers.append(stage)
    names = ", ".join(map(str, makers)) or str(operator)
    raise ValueError(f"{names} makes {channels} channels, and a picture has 1 (grey) or 3 (RGB)")


def _eight_bit_stage(operator: Operator, x: Tensor, job: ApplyJob) -> Operator | None:
    """The first stage that leaves nothing of a 16-bit picture but values of 8 bits."""
    if _is_8_bit(x):
        return None
    for index, stage in enumerate(operator):
        if _is_8_bit(_prefix(operator, index + 1, x, job)):
            return stage
    return None


def _is_8_bit(x: Tensor) -> bool:
    levels = x * 255
    distance = (levels - levels.round()).abs()
    return bool(distance.max() < 1e-4)


def _generator(seed: int, relative: Path) -> torch.Generator:
    """The random stream of one file: it depends on the seed and the relative path only."""
    return torch.Generator().manual_seed(child_seed(seed, relative.as_posix()))
