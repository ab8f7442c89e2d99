"""Runs of the command in processes of their own that start in milliseconds.

A new Python spends some seconds on importing torch. Here a server process imports everything once,
and each run is forked from it. Signals, exit codes, limits and streams are those of a real process.
Tests of the start itself use `shell.COMMAND`.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.pipelines.preloaded"])


class Started:
    """A `degrade` command that runs in a process of its own.

    folder: an existing folder for what it prints. before: a function of a module that the process
    calls first, for example to set a limit.
    """

    count = 0

    def __init__(self, folder: Path, *arguments, before: Callable[[], None] | None = None):
        Started.count += 1
        self.printed = folder / f".stdout-{Started.count}"
        self.errors = folder / f".stderr-{Started.count}"
        texts = [str(argument) for argument in arguments]
        outputs = (str(self.printed), str(self.errors))
        self.process = _SERVER.Process(target=_main, args=(texts, outputs, before))
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
        errors = self.errors.read_text(errors="replace") if self.errors.exists() else ""
        return self.process.exitcode, errors


def start(folder: Path, *arguments, before=None, seconds: float = 300) -> tuple[int, str]:
    """Run a command until it ends; return its exit code, and what it printed to stderr."""
    return Started(folder, *arguments, before=before).wait(seconds)


def _main(
    arguments: list[str], outputs: tuple[str, str], before: Callable[[], None] | None
) -> None:
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)
    # a job in the background of a shell begins with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()
    sys.argv = ["degrade", *arguments]
    from pipelines.__main__ import main

    main()
