"""Files are written whole or not at all, also if a run is killed or the power fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: leftovers of killed runs are not removed
    fcntl = None

TEMPORARY = ".degrade-*.tmp"

_is_durable = True  # whether writing waits for the disk


def write(path: Path, data: bytes) -> None:
    """Write `data` atomically."""
    with _staged(path, data) as temporary:
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


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


def write_together(
    record: Path, begun: bytes, final: bytes, made: Mapping[Path, bytes], stale: Iterable[Path] = ()
) -> None:
    """Write the files `made` and, last, the record that describes them; remove the `stale` files.

    Nothing that exists is touched before all new content is on the disk. While files are being
    renamed the record holds `begun`, and at the end `final`. Where an earlier record is replaced,
    and where a file is in another folder than the record, folders are flushed between these steps,
    so that a power loss keeps their order, too.
    """
    folders = {path.parent for path in made}
    with ExitStack() as stack:
        marked = stack.enter_context(_staged(record, begun))
        ended = stack.enter_context(_staged(record, final))
        staged = {}
        for path, data in made.items():
            staged[path] = stack.enter_context(_staged(path, data))
        for temporary in (marked, ended, *staged.values()):
            _sync(temporary)
        needs_order = record.exists() or folders != {record.parent}
        for path in stale:
            path.unlink(missing_ok=True)
        os.replace(marked, record)
        if needs_order:
            _sync_folder(record.parent)
        for path, temporary in staged.items():
            os.replace(temporary, path)
        if needs_order:
            for folder in folders:
                _sync_folder(folder)
        os.replace(ended, record)
        _sync_folder(record.parent)


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
