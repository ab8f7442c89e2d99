"""One run at a time in an output folder, unless the runs have equal settings."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .files import differences, fcntl

RUN_LOCK = ".degrade-run.lock"  # locked by the runs that write to its folder


@contextmanager
def running(folder: Path, settings: dict[str, object]) -> Iterator[None]:
    """Keep runs with other settings out of a folder until this run ends.

    Runs with equal settings may share the folder. The file RUN_LOCK says which process runs with
    which settings; the operating system releases its lock when the process ends, even by a kill.
    Raises ValueError if a run with other settings is at work. There is no lock on Windows, in a
    folder that cannot be written to, and on network drives that do not support flock. A folder
    that was made for the lock and stayed empty is removed.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _joined(folder, settings)
        try:
            yield
        finally:
            if lock is not None:
                _leave(folder / RUN_LOCK, lock)
    finally:
        with suppress(OSError):  # not empty
            for path in new_folders:
                path.rmdir()


def _joined(folder: Path, settings: dict[str, object]) -> BinaryIO | None:
    """The locked RUN_LOCK of a folder, or None where files cannot be locked.

    The first run locks it exclusively, writes its settings, and then keeps a shared lock. A later
    run gets a shared lock, and compares the settings.
    """
    if fcntl is None:
        return None
    path = folder / RUN_LOCK
    record = {"process": os.getpid(), "settings": settings}
    while True:
        try:
            file = path.open("a+b", buffering=0)
        except OSError:
            return None
        try:
            if _locks(file, path, fcntl.LOCK_EX):
                with suppress(OSError):  # on a full disk; without text, others are refused
                    file.truncate(0)
                    file.write(json.dumps(record).encode())
                if _locks(file, path, fcntl.LOCK_SH):
                    return file
            elif _locks(file, path, fcntl.LOCK_SH):
                _refuse_other_run(folder, file, settings)
                return file
        except ValueError:
            file.close()
            raise
        except OSError:  # the file system has no locks
            file.close()
            return None
        file.close()
        time.sleep(0.01)  # another run begins or ends just now


def _locks(file: BinaryIO, path: Path, mode: int) -> bool:
    """Try to lock a file that is still the one at `path`; a run that ended may have removed it."""
    assert fcntl is not None
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _refuse_other_run(folder: Path, file: BinaryIO, settings: dict[str, object]) -> None:
    """Raise ValueError unless the run that wrote a lock file has the same settings."""
    file.seek(0)
    try:
        record = json.loads(file.read())
        other_settings, process = record["settings"], record["process"]
    except (ValueError, KeyError, TypeError):
        other_settings, process = {}, "unknown"
    own_settings = json.loads(json.dumps(settings))
    if other_settings == own_settings:
        return
    changes = "; ".join(differences(other_settings, own_settings)) or "another command"
    raise ValueError(
        f"another run (process {process}) writes to {folder} with other settings ({changes}); "
        "wait until it ends, or choose another --output"
    )


def _leave(path: Path, file: BinaryIO) -> None:
    """Release a lock. The last run removes the file."""
    assert fcntl is not None
    with suppress(OSError):
        if _locks(file, path, fcntl.LOCK_EX):
            path.unlink()
    file.close()
