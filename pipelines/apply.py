"""Degrade pictures exactly, and write down what was done to each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from degrade import JPEG, Clamp, Operator, Quantize, __version__
from degrade.rng import child_seed
from degrade.serial import collect

from . import files
from .files import Source

MANIFEST = "manifest"


def apply(source: Source, operator: Operator, output: Path, seed: int) -> Path:
    """Degrade one picture into `output`; returns the path of the degraded picture.

    Writes <name>.png, or <name>.jpg with the codec's real bytes where the chain ends in jpeg, and
    <name>.json: the sampled operator, sizes, seed and version.
    """
    x = files.read_image(source.path)
    manifest = source.target(output, ".json")
    before = files.read_json(manifest, MANIFEST)
    operator = for_file(operator).row(0, 1).sample(x.shape, _generator(seed, source.relative))
    last = operator[-1]
    if isinstance(last, JPEG):
        y = operator[:-1](x, _generator(seed, source.relative)) if len(operator) > 1 else x
        target = manifest.with_suffix(".jpg")
        data = files.encode(files.to_pil(y), "JPEG", **_codec_options(last))
    else:
        y = operator(x, _generator(seed, source.relative))
        target = manifest.with_suffix(".png")
        data = files.encode(files.to_pil(y))
    written = collect(operator, lambda name, data: files.write(manifest.with_name(name), data))
    if before is not None:  # a manifest never lies beside a picture of another run, not even after a kill
        manifest.unlink()
        other = manifest.with_suffix(".png" if target.suffix == ".jpg" else ".jpg")
        if before.get("image") == other.name:
            other.unlink(missing_ok=True)
    files.write(target, data)
    files.write_json(
        manifest,
        MANIFEST,
        {
            "degrade": __version__,
            "image": target.name,
            "operator": str(written),
            "seed": seed,
            "source": source.relative.as_posix(),
            "source_size": list(x.shape[2:]),
            "size": list(y.shape[2:]),
        },
    )
    return target


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
    tables = {"quality": stage.quality} if stage.tables is None else {"qtables": [list(t) for t in stage.tables]}
    return tables | {"subsampling": stage.subsampling}


def _generator(seed: int, relative: Path) -> torch.Generator:
    """The stream of one file: it depends on the seed and the file's place, not on the other files."""
    return torch.Generator().manual_seed(child_seed(seed, relative.as_posix()))
