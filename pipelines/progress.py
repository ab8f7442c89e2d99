"""Progress bars on stderr: pictures done, the step of the solve, its loss, and the time left."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import TaskID

    from invert import Step

console = Console(stderr=True)
SPEED_PERIOD = 600.0  # seconds over which speed is averaged; one picture takes minutes


def starting(quiet: bool) -> None:
    """Say, on a terminal, that the command has begun: PyTorch takes seconds to load."""
    if console.is_terminal and not quiet:
        console.print("loading PyTorch …", style="dim")


class _Bar:
    """A progress bar shown during a `with` block; work goes on where stderr cannot be written."""

    _progress: Progress

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._progress.stop()


class SolveBar(_Bar):
    """One bar for all pictures of a run; `step` is the solver's callback."""

    def __init__(self, quiet: bool, pictures: int = 1):
        self._pictures, self._finished, self._skipped = pictures, 0, 0
        self._solves: Sequence[int] = (1,)
        self._solve = 0
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[phase]:>4}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet,
            speed_estimate_period=SPEED_PERIOD,
        )

    def start(self, name: str, solves: Sequence[int] = (1,)) -> None:
        """The work on a picture begins. The bar appears with the first.

        solves: the number of steps of each solve of the picture.
        """
        self._solves, self._solve = solves, 0
        if self._task is None:
            self._task = self._progress.add_task(name, count="", phase="", steps="", loss="")
        count = f"{self._finished + self._skipped + 1} of {self._pictures}"
        self._progress.update(self._task, description=name, count=count, total=self._total)

    def next_solve(self) -> None:
        """A solve of the current picture has ended, and another one begins."""
        self._solve += 1

    def step(self, state: Step) -> None:
        """A step of the current solve was made."""
        if self._task is None:
            return
        steps_before = sum(self._solves[: self._solve])
        steps_now = self._solves[self._solve] * state.step / state.total
        share = (steps_before + steps_now) / sum(self._solves)
        self._progress.update(
            self._task,
            completed=self._finished + share,
            steps=f"{state.step}/{state.total}",
            phase=state.phase.name,
            loss=f"{state.loss.mean().item():.4f}",
        )

    def done(self) -> None:
        """The solve of a picture is finished, or failed."""
        self._finished += 1
        if self._task is not None:
            self._progress.update(self._task, completed=self._finished, total=self._total)

    def skip(self) -> None:
        """A picture needs no solve, or cannot have one: the others decide the time left."""
        self._skipped += 1
        if self._task is not None:
            self._progress.update(self._task, total=self._total)

    @property
    def _total(self) -> int:
        """Pictures to solve, as far as known."""
        return self._pictures - self._skipped


class TrainBar(_Bar):
    """Pictures that were read; then the step of a training, its loss and its last validation."""

    def __init__(self, quiet: bool):
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[now]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet,
            speed_estimate_period=SPEED_PERIOD,
        )

    def begin(self, what: str, total: int, completed: int = 0) -> None:
        """Another kind of work begins; `completed` is what an earlier run did of it."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total, completed=completed, now="")

    def update(self, completed: int, now: str = "") -> None:
        """So much is done. now: how it stands, in a few words."""
        if self._task is not None:
            self._progress.update(self._task, completed=completed, now=now)


class BenchBar(_Bar):
    """Results finished of all results, and the step of the current batch."""

    def __init__(self, quiet: bool):
        self._progress = Progress(
            TextColumn("{task.description:30}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet,
        )
        self._task = self._progress.add_task("", total=None, now="")

    def report(self, done: int, total: int, what: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=what, now="")

    def step(self, state: Step) -> None:
        self._progress.update(self._task, now=f"step {state.step} of {state.total}")
