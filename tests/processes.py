"""Functions, commands and scripts in processes of their own that start in milliseconds.

A new Python spends some seconds on importing torch. Here a server process imports everything once,
and each run is forked from it. Signals, exit codes, limits and streams are those of a real process.
Its environment and folder are those in which the first process of a session was started.
Tests of the start itself use `pipelines.shell.COMMAND`.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.preloaded"])
_numbers = count(1)


class Forked:
    """A call of a function in a process of its own.

    folder: an existing folder for what it prints. function: a function of a module, which is best a
    small one, since the process imports it.
    """

    def __init__(self, folder: Path, function: Callable[..., None], *arguments):
        number = next(_numbers)
        self.printed = folder / f".stdout-{number}"
        self.errors = folder / f".stderr-{number}"
        outputs = (str(self.printed), str(self.errors))
        self.process = _SERVER.Process(target=_run, args=(outputs, function, arguments))
        self.process.start()

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process ended before."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def wait(self, seconds: float = 300) -> tuple[int, str]:
        """Wait until it ends; return its exit code, and what it printed to stderr."""
        self.process.join(seconds)
        if not self.ended:
            self.process.kill()
            raise TimeoutError(f"it did not end within {seconds} s")
        return self.process.exitcode, _text(self.errors)

    @property
    def output(self) -> str:
        """What it printed to stdout."""
        return _text(self.printed)


class Started(Forked):
    """A `degrade` command that runs in a process of its own.

    before: a function of a module that the process calls first, for example to set a limit.
    """

    def __init__(self, folder: Path, *arguments, before: Callable[[], None] | None = None):
        texts = [str(argument) for argument in arguments]
        super().__init__(folder, _command, texts, before)


def start(folder: Path, *arguments, before=None, seconds: float = 300) -> tuple[int, str]:
    """Run a command until it ends; return its exit code, and what it printed to stderr."""
    return Started(folder, *arguments, before=before).wait(seconds)


def run_script(path: Path, *arguments: str) -> None:
    """Run a Python file as `python path arguments` would, in its own folder."""
    os.chdir(path.parent)
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _run(outputs: tuple[str, str], function: Callable[..., None], arguments: tuple) -> None:
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    # like those of a new Python, which in the C locale writes names that are not text as they are
    sys.stdout = os.fdopen(1, "w", closefd=False, errors=sys.stdout.errors)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1, errors="backslashreplace")
    function(*arguments)


def _command(arguments: list[str], before: Callable[[], None] | None) -> None:
    # a job in the background of a shell begins with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()
    sys.argv = ["degrade", *arguments]
    from pipelines.__main__ import main

    main()
