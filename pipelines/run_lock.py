"""One run at a time in an output folder, unless the runs have equal settings."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from .atomic import fcntl, make_folder
from .changes import differences

RUN_LOCK = ".degrade-run.lock"  # locked by the runs that write to its folder
RUN_FILE = ".degrade-run-{machine}-{process}-{settings}-{token}.lock"  # of one run, without locks
RUN_FILES = ".degrade-run-*-*-*-*.lock"
_RUN_FILE = re.compile(r"\.degrade-run-(\w+)-([1-9]\d{0,8})-(\w+)-\w+\.lock", re.ASCII)

Settings = dict[str, object]
Leave = Callable[[], None]  # ends what a run has joined


@contextmanager
def running(folder: Path, settings: Settings) -> Iterator[None]:
    """Keep runs with other settings out of a folder until this run ends.

    Runs with equal settings may share the folder. The file RUN_LOCK says which process runs with
    which settings; the operating system releases its lock when the process ends, even by a kill.
    On Windows, and on network drives that do not support flock, each run has a file RUN_FILE
    instead, and the file of a process that ended does not count. Raises ValueError if a run with
    other settings is at work. There is no lock in a folder that cannot be written to. A folder
    that was made for the lock and stayed empty is removed.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        leave = _join(folder, settings)
        try:
            yield
        finally:
            leave()
    finally:
        with suppress(OSError):  # not empty
            for path in new_folders:
                path.rmdir()


def _join(folder: Path, settings: Settings) -> Leave:
    if fcntl is None:
        return _join_by_file(folder, settings)
    path = folder / RUN_LOCK
    try:
        file = _locked_file(path, folder, settings)
    except OSError:  # the file system has no locks, or the folder cannot be written to
        return _join_by_file(folder, settings)
    return partial(_leave, path, file)


def _locked_file(path: Path, folder: Path, settings: Settings) -> BinaryIO:
    """The locked RUN_LOCK of a folder.

    The first run locks it exclusively, writes its settings, and then keeps a shared lock. A later
    run gets a shared lock, and compares the settings.
    """
    assert fcntl is not None
    while True:
        file = path.open("a+b", buffering=0)
        try:
            if _locks(file, path, fcntl.LOCK_EX):
                with suppress(OSError):  # on a full disk; without text, others are refused
                    file.truncate(0)
                    file.write(_record(settings))
                if _locks(file, path, fcntl.LOCK_SH):
                    return file
            elif _locks(file, path, fcntl.LOCK_SH):
                file.seek(0)
                _refuse_other_run(folder, file.read(), settings)
                return file
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and path.exists() and not path.stat().st_size:
                path.unlink()  # made here, in a file system without locks
            raise
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


def _leave(path: Path, file: BinaryIO) -> None:
    """Release a lock. The last run removes the file."""
    assert fcntl is not None
    with suppress(OSError):
        if _locks(file, path, fcntl.LOCK_EX):
            path.unlink()
    file.close()


def _join_by_file(folder: Path, settings: Settings) -> Leave:
    """Join by a file of this run alone, and then look for the files of other runs.

    The name says everything that decides, so that no run meets a file that is half written. Of two
    runs that begin at the same moment with other settings both may be refused, but never none.
    """
    own_digest = _digest(json.dumps(settings, sort_keys=True))
    machine = _digest(platform.node())
    name = RUN_FILE.format(
        machine=machine, process=os.getpid(), settings=own_digest, token=secrets.token_hex(4)
    )
    path = folder / name
    try:
        file = path.open("xb", buffering=0)
    except OSError:  # the folder cannot be written to
        return lambda: None
    leave = partial(_remove, path, file)
    try:
        with suppress(OSError):  # on a full disk
            file.write(_record(settings))
        for other in folder.glob(RUN_FILES):
            parts = _RUN_FILE.fullmatch(other.name)
            if parts is None:  # no file of degrade's
                continue
            on_this_machine, process = parts[1] == machine, int(parts[2])
            if parts[3] == own_digest or not _lives(other, process, on_this_machine):
                continue
            with suppress(FileNotFoundError):  # it ended just now
                record = other.read_bytes()
                _refuse_other_run(folder, record, settings, f"or remove {other.name}")
    except BaseException:
        leave()
        raise
    return leave


def _lives(path: Path, process: int, on_this_machine: bool) -> bool:
    """Whether the run with a file may be at work; the file of a run that ended is removed.

    A run on another machine counts as living, since nothing here can tell.
    """
    if not on_this_machine:
        return True
    try:
        if os.name == "posix":
            os.kill(process, 0)
            return True
    except ProcessLookupError:
        pass
    except OSError:  # the process of another user
        return True
    try:
        path.unlink(missing_ok=True)
    except OSError:  # Windows removes no file that a process has open
        return True
    return False


def _remove(path: Path, file: BinaryIO) -> None:
    file.close()
    with suppress(OSError):
        path.unlink()


def _record(settings: Settings) -> bytes:
    return json.dumps({"process": os.getpid(), "settings": settings}).encode()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


def _refuse_other_run(folder: Path, record: bytes, settings: Settings, mend: str = "") -> None:
    """Raise ValueError unless the run that wrote a record has the same settings.

    mend: what to do if no such run is at work, where that cannot be told for sure.
    """
    try:
        content = json.loads(record)
        other_settings, process = content["settings"], content["process"]
    except (ValueError, KeyError, TypeError):
        other_settings, process = {}, "unknown"
    own_settings = json.loads(json.dumps(settings))
    if other_settings == own_settings:
        return
    changes = "; ".join(differences(other_settings, own_settings)) or "another command"
    mends = ", ".join(filter(None, ["wait until it ends", mend, "or choose another --output"]))
    raise ValueError(
        f"another run (process {process}) writes to {folder} with other settings ({changes}); "
        f"{mends}"
    )
