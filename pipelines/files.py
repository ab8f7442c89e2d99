"""Pictures and manifests on disk: found, read, and written under a temporary name, then renamed."""

from __future__ import annotations

import io
import json
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from degrade.imagefile import opened

try:
    import fcntl
except ImportError:  # not on Windows, where what a killed run leaves is not swept
    fcntl = None

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
        elif given.is_file():
            found.append(Source(given, Path(given.name)))
        else:
            problem = "is neither a file nor a folder" if given.exists() else "does not exist"
            raise ValueError(f"{given} {problem}; check the path")
    if not found:
        raise ValueError(f"no picture found; files may end in {' '.join(sorted(SUFFIXES))}")
    taken: dict[Path, Path] = {}
    for source in found:
        first = taken.setdefault(source.relative.with_suffix(""), source.path)
        if first != source.path:
            raise ValueError(f"{first} and {source.path} would share one result; rename one, or run them apart")
    return found


def read_image(path: Path, channels: int = 3) -> Tensor:
    """The picture in a file, [1, C, H, W] in [0, 1], see `picture`."""
    return from_pil(picture(contents(path), path, channels))


def contents(path: Path) -> bytes:
    """All of a file. Raises ValueError, which begins with the path, where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def picture(data: bytes, path: Path, channels: int = 3) -> Image.Image:
    """What the file of these bytes shows: upright, over white, in sRGB, 8 bits; RGB, or grey of 1 channel.

    Raises ValueError, which begins with the path, for what is no picture, damaged or too large.
    """
    with opened(data, str(path)) as image:
        return _shown(image).convert("RGB" if channels == 3 else "L")


def _shown(image: Image.Image) -> Image.Image:
    if getattr(image, "is_animated", False) and image.format != "MPO":  # phones keep a small copy as a second frame
        _note("animated or of several pages; of such pictures the first is taken")
    profile, image = image.info.get("icc_profile"), ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _in_8_bits(image)
    if image.has_transparency_data:
        _note("transparent; such pictures are laid over white")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("P", "1"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    return _in_srgb(image, profile) if profile else image


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, or of integers that could be: 0 … 65535 becomes 0 … 255."""
    grey = numpy.asarray(image)
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("its numbers have no known range; save it with 8 or 16 bits")
    return Image.fromarray(numpy.rint(grey / 257).astype(numpy.uint8))


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        image = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, ImageCms.PyCMSError):
        _note("of a broken colour profile; it is left out, and sRGB assumed")
        return image
    _note("of another colour space; by its profile it is converted to sRGB")
    return image


class Note(UserWarning):
    """Something that was done to a picture to show it; each kind is said once."""


def _note(text: str) -> None:
    warnings.warn(f"a picture is {text}", Note, stacklevel=2)


def from_pil(image: Image.Image) -> Tensor:
    """[1, C, H, W] in [0, 1] of an 8-bit picture."""
    return torch.from_numpy(numpy.atleast_3d(numpy.array(image))).permute(2, 0, 1)[None].float() / 255


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock = _temporary(path.parent)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        lock.close()


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
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


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
