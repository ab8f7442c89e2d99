"""How the commands meet a person: an error is one line, the exit code tells, Ctrl-C loses nothing finished."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import typer

from .engine import Engine, attempt

# what a terminal would obey
_CONTROL = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9}


@contextmanager
def user_errors() -> Iterator[None]:
    """A user's mistake is a line and exit code 2, Ctrl-C a line and 130; all else is our bug and keeps its traceback.

    Our notes are a line each, said once; warnings of libraries to programmers are not shown, but with -W.
    """
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module="degrade|pipelines")
            warnings.showwarning = lambda message, *_: say(f"note: {message}")
        try:
            yield
        except (ValueError, OSError) as error:
            say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            say("interrupted; what is finished is kept, and the same command goes on")
            raise typer.Exit(130) from None


def for_each(flow, sources: list, engine: Engine, quiet: bool) -> int:
    """Take every source through a flow; one that fails is named and does not stop the others. The exit code.

    A flow's `output` is the folder it writes to, `targets(source)` all files of a picture. Its
    `plan(source)` says what is to do: (what `finish` must know, a job or None). `setup` makes a worker's
    function from jobs to results. `finish(known, result)` writes, and gives the path.
    """
    from .files import sweep

    sweep(flow.output)
    taken: dict = {}
    for source in sources:
        for path in flow.targets(source):
            first = taken.setdefault(path, source)
            if first is not source:
                both = f"{first.path} and {source.path}"
                raise ValueError(
                    f"{both} would share one result, {path.name}; rename one, or run them apart"
                )
    failed = 0

    def conclude(source, known, result) -> None:
        nonlocal failed
        try:
            for outcome in (known, result):
                if isinstance(outcome, Exception):
                    raise outcome
            path = flow.finish(known, result)
        except (ValueError, OSError) as error:
            failed += 1
            named = str(source.path) in str(error)
            say(f"error: {error}" if named else f"error: {source.path}: {error}")
        else:
            if not quiet:
                echo(path)

    def jobs() -> Iterator:
        for source in sources:
            planned = attempt(flow.plan, source)
            known, job = (planned, None) if isinstance(planned, Exception) else planned
            if job is None:
                conclude(source, known, None)
            else:
                yield (source, known), job

    for (source, known), result in engine.map(flow.setup, jobs()):
        conclude(source, known, result)
    return 0 if not failed else 2 if failed == len(sources) else 3


def load(plugins: list[str]) -> None:
    """Import the modules, found as `python -m` would find them."""
    if plugins and "" not in sys.path:
        sys.path.insert(0, "")
    for name in plugins:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a stranger's module raises
            mend = "; give the module's name, without .py" if name.endswith(".py") else ""
            raise ValueError(
                f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}{mend}"
            ) from error


def say(message: str) -> None:
    """A line to stderr, whatever is in it."""
    _print(message, sys.stderr)


def echo(message: object) -> None:
    """A line to stdout; that nobody reads it any more does not stop the work."""
    _print(str(message), sys.stdout)


def _print(message: str, stream: TextIO) -> None:
    line = "".join(_CONTROL.get(c, c) for c in " ".join(message.split("\n")))
    with suppress(OSError):
        known = line.encode(stream.encoding or "utf-8", "backslashreplace").decode(
            stream.encoding or "utf-8"
        )
        print(known, file=stream, flush=True)
