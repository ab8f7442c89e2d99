"""Pictures and manifests on disk: found, read, and written under a temporary name, then renamed."""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import numpy
import torch
from PIL import Image
from torch import Tensor

from degrade import imagefile
from degrade.imagefile import FORMATS, contents, picture

try:
    import fcntl
except ImportError:  # not on Windows, where what a killed run leaves is not swept
    fcntl = None

SUFFIXES = {suffix for of_format in imagefile.SUFFIXES.values() for suffix in of_format}
FORMAT = 1  # of the records written beside pictures


@dataclass(frozen=True)
class Source:
    """An input picture and its place below the folder it was given by."""

    path: Path
    relative: Path

    def target(self, folder: Path, suffix: str) -> Path:
        """Where this picture's result of that kind goes; never beside the input, which might be overwritten."""
        path = folder / self.relative.with_suffix(suffix)
        if path.parent.exists() and path.parent.samefile(self.path.parent):
            raise ValueError(f"{path.parent} holds the input; choose another --output")
        return path


def gather(inputs: Iterable[Path], output: Path | None = None) -> list[Source]:
    """The pictures among files and, recursively, folders, in a fixed order; but for results below `output`.

    Raises ValueError for a missing input, and for none at all.
    """
    found: list[Source] = []
    for given in inputs:
        if given.is_dir():
            files = sorted(
                p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if output is not None and given.resolve() in output.resolve().parents:
                files = [p for p in files if output.resolve() not in p.resolve().parents]
            found += [Source(p, p.relative_to(given)) for p in files]
        elif given.is_file():
            found.append(Source(given, Path(given.name)))
        else:
            problem = "is neither a file nor a folder" if given.exists() else "does not exist"
            raise ValueError(f"{given} {problem}; check the path")
    if not found:
        raise ValueError(f"no picture found; files may end in {' '.join(sorted(SUFFIXES))}")
    return found


def read_image(path: Path, channels: int = 3) -> Tensor:
    """The picture in a file, [1, C, H, W] in [0, 1], see `imagefile.picture`."""
    return from_pil(picture(contents(path), str(path), channels))


def is_picture(path: Path) -> bool:
    """Whether it is named as a picture, or begins as one does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():  # a pipe would be waited for
        return False
    with suppress(Exception), Image.open(path, formats=FORMATS):  # Pillow raises almost anything
        return True
    return False


def from_pil(image: Image.Image) -> Tensor:
    """[1, C, H, W] in [0, 1] of an 8-bit picture."""
    return (
        torch.from_numpy(numpy.atleast_3d(numpy.array(image))).permute(2, 0, 1)[None].float() / 255
    )


def digest(path: Path) -> str:
    """What tells the file's content from any other."""
    return sha256(contents(path)).hexdigest()


def to_pil(x: Tensor) -> Image.Image:
    """The 8-bit picture of x [1, C, H, W], clamped and rounded half to even."""
    pixels = (x.detach().cpu()[0].clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write, which becomes `path` if all goes well and vanishes if not."""
    with _staged(path, b"") as temporary:
        yield temporary
        os.replace(temporary, path)


def _temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file, open and locked: with the process, the lock ends."""
    while True:
        path = folder / f".degrade-{secrets.token_hex(8)}.tmp"
        file = path.open("xb")
        if fcntl is None:
            file.close()
            return path, file
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # else somebody swept before it was locked
            return path, file
        file.close()


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that were killed; those of living ones are locked."""
    for path in folder.rglob(".degrade-*.tmp") if fcntl else ():
        if not path.is_file():
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """All of `data` under `path`, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def latent_bytes(latent: Tensor) -> bytes:
    from safetensors.torch import save

    return save({"latent": latent.cpu().contiguous()})


def read_latent(path: Path) -> Tensor:
    """What `latent_bytes` made. Raises ValueError for any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        latent = load(contents(path))["latent"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} holds no latent of degrade's: {error}") from error
    if not latent.is_floating_point():
        raise ValueError(f"{path} holds a latent of {latent.dtype}; save it as float32")
    return latent


def write_together(
    record: Path, kind: str, about: dict, made: dict[Path, bytes], stale: Iterable[Path] = ()
) -> None:
    """The files of one result and, last, the record of it, in the place of an earlier result, whose `stale` files go.

    Nothing that was there is touched before all is on the disk. While the files get their names, the
    record says that it is `begun`: so they are known to be ours, though of no run in particular.
    """
    with ExitStack() as stack:
        first, last = (
            stack.enter_context(_staged(record, _json(kind, r)))
            for r in (about | {"begun": True}, about)
        )
        staged = {path: stack.enter_context(_staged(path, data)) for path, data in made.items()}
        for path in stale:
            path.unlink(missing_ok=True)
        os.replace(first, record)
        for path, temporary in staged.items():
            os.replace(temporary, path)
        os.replace(last, record)


@contextmanager
def _staged(path: Path, data: bytes) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock = _temporary(path.parent)
    try:
        temporary.write_bytes(data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        lock.close()


def earlier(record: Path, kind: str, targets: Iterable[Path]) -> dict | None:
    """The record of an earlier result, if any. Raises ValueError where files would be overwritten that are of none."""
    before = read_json(record, kind)
    for path in targets if before is None else ():
        if (
            path.exists() and not record.exists()
        ):  # another run may have begun meanwhile, its record first
            raise ValueError(
                f"{path} is there, and no {kind} says that it is a result; choose another --output"
            )
    return before


def write_json(path: Path, kind: str, record: dict) -> None:
    write(path, _json(kind, record))


def _json(kind: str, record: dict) -> bytes:
    return (json.dumps({"kind": kind, "format": FORMAT, **record}, indent=2) + "\n").encode()


def read_json(path: Path, kind: str) -> dict | None:
    """A record of `write_json`, or None where there is none. Raises ValueError for any other content."""
    if not path.exists():
        return None
    try:
        record = json.loads(contents(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split("\n"))
        raise ValueError(f"{path} is not a {kind} of degrade's: {reason}; move it away") from error
    if not isinstance(record, dict) or (record.get("kind"), record.get("format")) != (kind, FORMAT):
        raise ValueError(
            f"{path} is not a {kind} of degrade's, format {FORMAT}; move it away, or make it again"
        )
    return record
