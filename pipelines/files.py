"""Pictures and manifests on disk: found, read, and written under a temporary name, then renamed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
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


def gather(inputs: Iterable[Path]) -> list[Source]:
    """The pictures among files and, recursively, folders, in a fixed order.

    Raises ValueError for a missing input, for none at all and for two that would share a result.
    """
    found: list[Source] = []
    for given in inputs:
        if given.is_dir():
            files = sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found += [Source(p, p.relative_to(given)) for p in files]
        elif given.exists():
            found.append(Source(given, Path(given.name)))
        else:
            raise ValueError(f"{given} does not exist; check the path")
    if not found:
        raise ValueError(f"no picture found; files may end in {' '.join(sorted(SUFFIXES))}")
    taken: dict[Path, Path] = {}
    for source in found:
        first = taken.setdefault(source.relative.with_suffix(""), source.path)
        if first != source.path:
            raise ValueError(f"{first} and {source.path} would share one result; rename one, or run them apart")
    return found


def read_image(path: Path, channels: int = 3) -> Tensor:
    """The picture in a file, see `decode`."""
    return decode(path.read_bytes(), path, channels)


def decode(data: bytes, path: Path, channels: int = 3) -> Tensor:
    """[1, C, H, W] in [0, 1], float32, on the 8-bit grid: RGB, or grey of 1 channel.

    Raises ValueError for what is not an image, which names the path it is from.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return from_pil(image.convert("RGB" if channels == 3 else "L"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image that can be read; convert it to PNG") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def from_pil(image: Image.Image) -> Tensor:
    """[1, C, H, W] in [0, 1] of an 8-bit picture."""
    return torch.from_numpy(numpy.atleast_3d(numpy.array(image))).permute(2, 0, 1)[None].float() / 255


def digest(path: Path) -> str:
    """What tells the file's content from any other."""
    return sha256(path.read_bytes()).hexdigest()


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """All of `data` under `path`, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_latent(path: Path, latent: Tensor) -> None:
    from safetensors.torch import save

    write(path, save({"latent": latent.cpu().contiguous()}))


def read_latent(path: Path) -> Tensor:
    """What `write_latent` wrote. Raises ValueError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("latent")
    except SafetensorError as error:
        raise ValueError(f"{path} holds no latent of degrade's: {error}") from error


def write_json(path: Path, kind: str, record: dict) -> None:
    write(path, (json.dumps({"kind": kind, "format": FORMAT, **record}, indent=2) + "\n").encode())


def read_json(path: Path, kind: str) -> dict | None:
    """A record of `write_json`, or None where there is none. Raises ValueError for any other content."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not a {kind} of degrade's: {error}; move it away") from error
    if not isinstance(record, dict) or (record.get("kind"), record.get("format")) != (kind, FORMAT):
        raise ValueError(f"{path} is not a {kind} of degrade's, format {FORMAT}; move it away, or make it again")
    return record
