"""Pictures and records on disk: find them, read them, and write them atomically."""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from degrade import imagefile
from degrade.imagefile import FORMATS, NO_SAFETENSORS, contents, picture
from degrade.photofile import Levels

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: leftovers of killed runs are not removed
    fcntl = None

SUFFIXES = {suffix for suffixes in imagefile.SUFFIXES.values() for suffix in suffixes}
_PERCEPTUAL = 0  # the rendering intent, which PNG writes beside the name of sRGB
FORMAT = 1  # of the records written beside pictures
BYTES = "bytes"  # the key of a record that holds the sizes of the files it describes
TEMPORARY = ".degrade-*.tmp"

_is_durable = True  # whether writing waits for the disk


@dataclass(frozen=True)
class Source:
    """An input picture, and its path relative to the folder that was given."""

    path: Path
    relative: Path
    keep_suffix: bool = False  # in the names of results, because another input has the same stem

    def result_name(self, suffix: str) -> Path:
        """The relative path of a result: `a.json` for `a.jpg`.

        It is `a.jpg.json` if another input of the folder has the same stem, such as `a.png`.
        """
        if self.keep_suffix:
            return self.relative.with_name(self.relative.name + suffix)
        return self.relative.with_suffix(suffix)

    def target(self, folder: Path, suffix: str) -> Path:
        """The path of a result. Raises ValueError in the input's own folder, to protect inputs."""
        path = folder / self.result_name(suffix)
        if path.parent.exists() and path.parent.samefile(self.path.parent):
            raise ValueError(f"{path.parent} holds the input; choose another --output")
        return path


def gather(inputs: Iterable[Path], output: Path | None = None) -> list[Source]:
    """The pictures among files and folders, in a fixed order; folders are searched recursively.

    Pictures below `output` are left out. A picture that is given twice counts once. Raises
    ValueError for a missing input, and if there is no picture at all.
    """
    sources: dict[tuple[str, str], Source] = {}
    for given in inputs:
        for source in _sources_of(given, output):
            place = os.path.realpath(source.path)
            sources.setdefault((place, _text(source.relative)), source)
    if not sources:
        raise ValueError(f"no picture found; files may end in {' '.join(sorted(SUFFIXES))}")
    return _with_distinct_names(list(sources.values()))


def refuse_missing(*options: tuple[str, Path | None]) -> None:
    """Raise ValueError if the path of an option, as in ("--clean", path), does not exist."""
    for option, path in options:
        if path is not None and not path.exists():
            raise ValueError(f"{option} {path} does not exist; check the path")


def _sources_of(given: Path, output: Path | None) -> list[Source]:
    if given.is_file():
        return [Source(given, Path(given.name))]
    if not given.is_dir():
        problem = "is neither a file nor a folder" if given.exists() else "does not exist"
        raise ValueError(f"{given} {problem}; check the path")
    results = None
    if output is not None and given.resolve() in output.resolve().parents:
        results = output.resolve()
    sources = []
    for path in sorted(given.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if results is None or results not in path.resolve().parents:
            sources.append(Source(path, path.relative_to(given)))
    return sources


def _with_distinct_names(sources: list[Source]) -> list[Source]:
    """Keep the suffix in result names wherever two pictures of one folder share a stem."""
    while True:
        shared = _shared_names(sources)
        if not shared:
            return sources
        renamed = []
        for source in sources:
            is_shared = _text(source.result_name("")) in shared
            renamed.append(replace(source, keep_suffix=True) if is_shared else source)
        sources = renamed  # a.jpg may now share its name with a.jpg.png


def _shared_names(sources: Iterable[Source]) -> set[str]:
    """The names of results, without a suffix, that inputs of different names have in common."""
    owners: dict[str, str] = {}
    shared = set()
    for source in sources:
        name = _text(source.result_name(""))
        relative = _text(source.relative)
        if owners.setdefault(name, relative) != relative:
            shared.add(name)
    return shared


def _text(path: Path) -> str:
    """A text that is equal for equal paths; it takes a quarter of their memory."""
    return os.path.normcase(path)


def read_image(path: Path, channels: int | None = 3, deep: bool = False) -> Tensor:
    """The picture in a file, [1, C, H, W] in [0, 1]; for the arguments see `imagefile.picture`."""
    return from_pil(picture(contents(path), str(path), channels, deep))


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture, or begins as one does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    with suppress(Exception), Image.open(path, formats=FORMATS):  # Pillow raises almost anything
        return True
    return False


def from_pil(image: Image.Image) -> Tensor:
    """[1, C, H, W] in [0, 1] of a picture of 8 bits a channel, or of grey of 16 bits."""
    array = numpy.atleast_3d(numpy.array(image))
    pixels = torch.from_numpy(array.astype(numpy.float32))
    largest = 65535 if image.mode.startswith("I;16") else 255
    return pixels.permute(2, 0, 1)[None] / largest


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return sha256(contents(path)).hexdigest()


def levels_of(picture: Tensor, bits: int = 8) -> Levels:
    """Convert a picture [1, C, h, w] to levels [h, w, C] of 8 or 16 bits.

    Values are clamped to [0, 1] and rounded half to even. Raises ValueError if the picture holds
    NaN.
    """
    planes = picture.detach().cpu()[0]
    channels, height, width = planes.shape
    highest = 2**bits - 1
    level_type = numpy.uint8 if bits == 8 else numpy.uint16
    levels: Levels = numpy.empty((height, width, channels), level_type)
    for channel, plane in enumerate(planes):  # one at a time, since photos are large
        if plane.isnan().any():
            raise ValueError("the picture holds NaN and cannot be written")
        if bits > 8:
            plane = plane.double()  # float32 has too few digits for a product of 16 bits
        rounded = plane.clamp(0, 1).mul_(highest).round_()
        levels[:, :, channel] = rounded.numpy()
    return levels


def to_pil(x: Tensor, bits: int = 8) -> Image.Image:
    """The picture of x [1, C, H, W], as `levels_of` rounds it.

    bits: 8, or 16 for grey (C = 1). Raises ValueError if x holds NaN.
    """
    levels = levels_of(x, bits)
    is_grey = levels.shape[2] == 1
    return Image.fromarray(levels[:, :, 0] if is_grey else levels)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file. A PNG is marked as sRGB, so that viewers agree on its colours."""
    buffer = io.BytesIO()
    if format == "PNG":
        marks = PngInfo()
        marks.add(b"sRGB", bytes([_PERCEPTUAL]))
        options["pnginfo"] = marks
    image.save(buffer, format, **options)
    return buffer.getvalue()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An atomic write: yields a temporary file, and renames it to `path` if nothing was raised.

    The content is on the disk before the rename, and the rename before this returns.
    """
    with _staged(path, b"") as temporary:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def write(path: Path, data: bytes) -> None:
    """Write `data` atomically."""
    with _staged(path, data) as temporary:
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def write_together(
    record: Path, kind: str, about: dict, made: dict[Path, bytes], stale: Iterable[Path] = ()
) -> None:
    """Write the files of one result and, last, its record; remove the `stale` files it replaces.

    Nothing that exists is touched before all new content is on the disk. While files are being
    renamed the record is marked `begun`: a run that is killed meanwhile leaves files that are known
    to be results, and that nobody takes for finished. Where an earlier result is replaced, and
    where a file is in another folder than the record, folders are flushed between these steps, so
    that a power loss keeps their order, too. The record gets the sizes of the files.
    """
    sizes = {_beside(record, path): len(data) for path, data in made.items()}
    about = about | {BYTES: about.get(BYTES, {}) | sizes}
    folders = {path.parent for path in made}
    with ExitStack() as stack:
        marked = _json(kind, about | {"begun": True})
        begun = stack.enter_context(_staged(record, marked))
        final = stack.enter_context(_staged(record, _json(kind, about)))
        staged = {}
        for path, data in made.items():
            staged[path] = stack.enter_context(_staged(path, data))
        for temporary in (begun, final, *staged.values()):
            _sync(temporary)
        needs_order = record.exists() or folders != {record.parent}
        for path in stale:
            path.unlink(missing_ok=True)
        os.replace(begun, record)
        if needs_order:
            _sync_folder(record.parent)
        for path, temporary in staged.items():
            os.replace(temporary, path)
        if needs_order:
            for folder in folders:
                _sync_folder(folder)
        os.replace(final, record)
        _sync_folder(record.parent)


def are_whole(record: Path, about: dict, made: Iterable[Path]) -> bool:
    """Whether files have the sizes with which they were written, by the content of their record.

    Something else may have cut or emptied a file since, such as a copy that was stopped.
    """
    sizes = about.get(BYTES)
    if not isinstance(sizes, dict):
        return False
    for path in made:
        try:
            size = path.stat().st_size
        except OSError:
            return False
        if size != sizes.get(_beside(record, path)):
            return False
    return True


def _beside(record: Path, path: Path) -> str:
    """The path of a file relative to the folder of its record, such as ../HQ/a.png."""
    if path.parent == record.parent:
        return path.name
    return Path(os.path.relpath(path, record.parent)).as_posix()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises ValueError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        is_file = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = ", since a file is in its place" if is_file else f": {error.strerror}"
        raise ValueError(f"{folder} cannot be made{reason}; choose another --output") from error


@contextmanager
def _staged(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside `path` that holds `data`; removed unless it was renamed."""
    make_folder(path.parent)
    temporary, file = _temporary(path.parent)
    try:
        file.write(data)
        file.flush()
        if fcntl is None:
            file.close()  # Windows renames no open file
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        file.close()


def _temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file, open and, where files can be locked, locked; the lock ends with the process."""
    while True:
        path = folder / f".degrade-{secrets.token_hex(8)}.tmp"
        try:
            file = path.open("xb")
        except OSError as error:
            raise ValueError(
                f"{folder} cannot be written to: {error.strerror}; choose another --output"
            ) from error
        if fcntl is None:
            return path, file
        with suppress(OSError):  # some network drives have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # another process may have swept it before it was locked
            return path, file
        file.close()


def forgo_durability() -> None:
    """From now on, do not wait until files are on the disk: a temporary folder needs no waiting."""
    global _is_durable
    _is_durable = False


def _sync(path: Path) -> None:
    if not _is_durable:
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Wait until renames in a folder are on the disk, where the system can tell."""
    if not _is_durable:
        return
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time read and replace results in a folder; others wait here.

    The lock is on the folder itself: it leaves no file, and ends with the process. Where folders
    cannot be locked (Windows, some network drives) there is none.
    """
    make_folder(folder)
    with ExitStack() as stack:
        if fcntl is not None:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def sweep(*folders: Path) -> None:
    """Remove the temporary files that killed processes left directly in these folders.

    Files of living processes are locked and stay.
    """
    if fcntl is None:
        return
    for folder in folders:
        for path in folder.glob(TEMPORARY):
            if not path.is_file():
                continue
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)


def latent_bytes(latent: Tensor) -> bytes:
    """A safetensors file that holds a latent."""
    from safetensors.torch import save

    return save({"latent": latent.cpu().contiguous()})


def read_latent(path: Path) -> Tensor:
    """The latent in a file of `latent_bytes`. Raises ValueError for any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(contents(path))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} holds no latent of degrade's: {NO_SAFETENSORS}") from error
    if "latent" not in tensors:
        raise ValueError(f"{path} holds no latent of degrade's: it has no tensor of this name")
    latent = tensors["latent"]
    if not latent.is_floating_point():
        raise ValueError(f"{path} holds a latent of {latent.dtype}; save it as float32")
    return latent


def earlier(record: Path, kind: str, targets: Iterable[Path]) -> dict | None:
    """The record of an earlier result, or None.

    Raises ValueError if a target exists without a record: such a file is no result, and writing
    would destroy it.
    """
    before = read_json(record, kind)
    if before is not None:
        return before
    for path in targets:
        # a run beside this one may have begun a result meanwhile, whose record comes first
        if path.exists() and not record.exists():
            raise ValueError(
                f"{path} is there, and no {kind} says that it is a result; choose another --output"
            )
    return None


def another_source(before: dict | None, key: str, source: Source) -> list[str]:
    """What to say if a record holds, at `key`, the digest of another picture than the source's."""
    if before is None or before.get(key) in (None, digest(source.path)):
        return []
    return [f"of another picture than {source.path}"]


def write_json(path: Path, kind: str, record: dict) -> None:
    write(path, _json(kind, record))


def _json(kind: str, record: dict) -> bytes:
    whole = {"kind": kind, "format": FORMAT, **record}
    text = json.dumps(whole, indent=2) + "\n"
    return text.encode()


def _is_of_kind(record: dict, kind: str) -> bool:
    return record.get("kind") == kind and record.get("format") == FORMAT


def read_json(path: Path, kind: str) -> dict | None:
    """A record of `write_json`, or None without a file. Raises ValueError for other content."""
    if not path.exists():
        return None
    try:
        record = json.loads(contents(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split("\n"))
        raise ValueError(f"{path} is not a {kind} of degrade's: {reason}; move it away") from error
    if not isinstance(record, dict) or not _is_of_kind(record, kind):
        raise ValueError(
            f"{path} is not a {kind} of degrade's, format {FORMAT}; move it away, or make it again"
        )
    return record
