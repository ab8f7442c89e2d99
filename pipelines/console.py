"""How commands talk to a person.

An error is one line, the exit code tells the outcome, and Ctrl-C loses nothing that is finished.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

import typer

from . import atomic
from .engine import Engine, attempt

if TYPE_CHECKING:
    from .files import Source
    from .progress import SolveBar

# characters that a terminal would obey, without the tab
_CODES = {*range(32), *range(127, 160)} - {9}
_CONTROL = {chr(code): f"\\x{code:02x}" for code in _CODES}

LONGEST_LIST = 8  # numbers in a row that are still printed
_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_LONG_LIST = re.compile(rf"{_NUMBER}(?:(?:\||, ?){_NUMBER}){{{LONGEST_LIST},}}")

T = TypeVar("T")  # what `finish` needs to know about a picture
J = TypeVar("J")  # a job
R = TypeVar("R")  # its result


class Flow(Protocol[T, J, R]):
    """What a command does to each picture."""

    @property
    def output(self) -> Path:
        """The folder it writes to."""

    @property
    def overwrite(self) -> bool:
        """Whether results of other settings may be replaced."""

    def about(self) -> dict[str, object]:
        """The command and its settings, which runs that share an output folder have in common."""

    def forget(self) -> None:
        """Remove what describes earlier results as a whole, before some of them are replaced."""

    def targets(self, source: Source) -> list[Path]:
        """All files that may be written for a picture."""

    def changes(self, source: Source) -> list[str]:
        """The settings in which an earlier result differs, see `changes.differences`."""

    def plan(self, source: Source) -> tuple[T, J | None]:
        """What `finish` needs to know, and the job; None if the result is there already."""

    def setup(self) -> Callable[[J], R]:
        """Make a worker's function from jobs to results."""

    def finish(self, todo: T, result: R | None) -> Path:
        """Write the result and return the path of the picture."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a user's mistake into one line and exit code 2, and Ctrl-C into one line and 130.

    Any other exception is a bug and keeps its traceback. Notes of this project are printed once
    each; warnings of libraries are meant for programmers and are shown with `python -W` only.
    """
    _reopen_closed_streams()
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module="degrade|pipelines")
            warnings.showwarning = _show_note
        try:
            yield
        except (ValueError, OSError) as error:
            say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            say("interrupted; what is finished is kept, and the same command goes on")
            raise typer.Exit(130) from None


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    say(f"note: {message}")


def _reopen_closed_streams() -> None:
    """Send output to nowhere where the shell closed a stream (`>&-`).

    Python has None for such a stream, and the next file that is opened would get its number.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def for_each(
    flow: Flow[T, J, R],
    sources: list[Source],
    engine: Engine,
    quiet: bool,
    bar: SolveBar | None = None,
) -> int:
    """Take every picture through a flow and return the exit code.

    A picture that fails is named on one line, and the others go on. Raises ValueError before the
    first picture if the output folder holds results of other settings and `overwrite` is not set,
    or if another run writes results of other settings into it now.
    """
    from . import run_lock

    with run_lock.running(flow.output, flow.about()):
        return _take_all(flow, sources, engine, quiet, bar)


def _take_all(
    flow: Flow[T, J, R], sources: list[Source], engine: Engine, quiet: bool, bar: SolveBar | None
) -> int:
    clashes = _clashes(flow, sources)
    if not flow.overwrite:
        _refuse_other_results(flow, sources)
    elif any(_changes_something(flow, source) for source in sources):
        flow.forget()
    failed = skipped = 0

    def write_result(source: Source, todo: T, result: R | None) -> Path:
        with atomic.locked(flow.output):
            if not flow.overwrite:  # another run may have written since this one began
                _refuse_changes(flow, flow.changes(source))
            return flow.finish(todo, result)

    def conclude(source: Source, path: Path | Exception) -> None:
        nonlocal failed
        if isinstance(path, Exception):
            failed += 1
            named = str(source.path) in str(path)
            say(f"error: {path}" if named else f"error: {source.path}: {path}")
        elif not quiet:
            echo(path)

    def jobs() -> Iterator[tuple[tuple[Source, T], J]]:
        nonlocal skipped
        for source in sources:
            plan: tuple[T, J | None] | Exception
            plan = clashes[source] if source in clashes else attempt(flow.plan, source)
            if isinstance(plan, Exception):
                conclude(source, plan)
                if bar is not None:
                    bar.skip()
                continue
            todo, job = plan
            if job is not None:
                yield (source, todo), job
                continue
            conclude(source, attempt(write_result, source, todo, None))
            skipped += 1
            if bar is not None:
                bar.skip()

    for (source, todo), result in engine.map(flow.setup, jobs()):
        if isinstance(result, Exception):
            conclude(source, result)
        else:
            conclude(source, attempt(write_result, source, todo, result))
        if bar is not None:
            bar.done()
    if skipped and not quiet:
        say(f"{skipped} already done, skipped")
    if not failed:
        return 0
    return 2 if failed == len(sources) else 3


def _clashes(flow: Flow[T, J, R], sources: list[Source]) -> dict[Source, ValueError]:
    """The pictures that would write a file that an earlier one writes too; sweep the folders."""
    owners: dict[str, Source] = {}  # a text takes a quarter of a path's memory
    folders = set()
    clashes: dict[Source, ValueError] = {}
    for source in sources:
        for path in flow.targets(source):
            folders.add(path.parent)
            owner = owners.setdefault(os.path.normcase(path), source)
            if owner is not source:
                both = f"{owner.path} and {source.path}"
                problem = f"{both} would share one result, {path.name}"
                mend = "rename one, or give each its own --output"
                clashes.setdefault(source, ValueError(f"{problem}; {mend}"))
    atomic.sweep(*folders)
    return clashes


def _changes_something(flow: Flow[T, J, R], source: Source) -> bool:
    """Whether an earlier result of other settings is replaced."""
    changes = attempt(flow.changes, source)
    return not isinstance(changes, Exception) and bool(changes)


def _refuse_other_results(flow: Flow[T, J, R], sources: list[Source]) -> None:
    for source in sources:
        changes = attempt(flow.changes, source)
        if not isinstance(changes, Exception):  # `plan` meets the same error and reports it
            _refuse_changes(flow, changes)


def _refuse_changes(flow: Flow[T, J, R], changes: list[str]) -> None:
    if changes:
        raise ValueError(
            f"{flow.output} holds results of other settings ({'; '.join(changes)}); "
            "add --overwrite to replace them, or choose another --output"
        )


def note_left_out(flow: Flow[T, J, R], sources: list[Source], inputs: Sequence[Path]) -> None:
    """Say how many pictures below the output are no sources; results of the flow do not count."""
    from .files import left_out

    pictures = set(left_out(inputs, flow.output, sources))
    if pictures:
        for source in sources:
            pictures.difference_update(flow.targets(source))
    say_left_out(pictures, flow.output)


def say_left_out(pictures: Collection[Path], output: Path) -> None:
    if pictures:
        say(
            f"note: --output is in the input, and pictures below it are left out: {len(pictures)} "
            f"in {output}; choose another --output to include them"
        )


def load(plugins: list[str]) -> None:
    """Import modules by name, as `python -m` would find them."""
    if plugins and "" not in sys.path:
        sys.path.insert(0, "")
    for name in plugins:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything
            mend = "; give the module's name, without .py" if name.endswith(".py") else ""
            raise ValueError(
                f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}{mend}"
            ) from error


def say(message: str) -> None:
    """Print one line to stderr. Control characters are escaped, long lists of numbers shortened."""
    _print(shortened(message), sys.stderr)


def echo(message: object) -> None:
    """Print one line to stdout; the work goes on if nobody reads it."""
    _print(str(message), sys.stdout)


def _print(message: str, stream: TextIO | None) -> None:
    if stream is None:  # closed by the shell
        return
    joined = " ".join(message.split("\n"))
    line = "".join(_CONTROL.get(character, character) for character in joined)
    encoding = stream.encoding or "utf-8"
    printable = line.encode(encoding, "backslashreplace").decode(encoding)
    with suppress(OSError, ValueError):  # a full disk, a closed pipe, a closed file
        print(printable, file=stream, flush=True)


def shortened(text: str) -> str:
    """Replace each long list of numbers by its first three and their count.

    >>> shortened("blur:kernel=" + "|".join("0123456789" * 2))
    'blur:kernel=0|1|2|… (20 numbers)'
    """

    def shorter(match: re.Match[str]) -> str:
        numbers = re.findall(_NUMBER, match[0])
        separator = "|" if "|" in match[0] else ", "
        return separator.join([*numbers[:3], f"… ({len(numbers)} numbers)"])

    return _LONG_LIST.sub(shorter, text)
