"""The progress bar of a solve: phase, step, loss, time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from invert import Step

console = Console(stderr=True)


class SolveBar:
    """One bar per picture; `step` is the solver's callback."""

    def __init__(self, quiet: bool):
        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[phase]:>4}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet,
        )
        self._task = None

    def __enter__(self) -> SolveBar:
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def start(self, name: str) -> None:
        self._task = self._progress.add_task(name, total=None, phase="", loss="")

    def step(self, state: Step) -> None:
        loss = f"{state.loss.mean().item():.4f}"
        self._progress.update(
            self._task, completed=state.step, total=state.total, phase=state.phase.name, loss=loss
        )

    def done(self) -> None:
        task = self._progress.tasks[self._task]
        total = task.total or 1  # a picture that was there already never stepped
        self._progress.update(
            self._task, total=total, completed=total, phase=task.fields["phase"] or "done"
        )


class BenchBar:
    """Results done of all, and the step of the batch at work."""

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

    def __enter__(self) -> BenchBar:
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def report(self, done: int, total: int, what: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=what, now="")

    def step(self, state: Step) -> None:
        self._progress.update(self._task, now=f"step {state.step} of {state.total}")
