"""`degrade restore` in a thread, whose image can be watched while it emerges."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

import invert
from degrade.forensics import guess
from invert import Step
from invert.methods import METHODS

from .. import files, kept
from ..faces import Where
from ..files import Source
from ..inspection import file_facts
from ..job import RestoreSettings, methods_of, refuse_samples
from ..observation import Images, Observer
from ..options import PriorOptions
from ..progress import SolveBar
from ..restore import Restore
from ..sheet import SPREAD, spread
from ..solver import Solver, prior_text
from .notes import noting

PRIORS = (*invert.load.BUNDLED_DENOISERS, *invert.generator.BUNDLED)
SECONDS = 0.3  # between two images that are shown


class Cancelled(Exception):
    """The visitor has stopped the restoration."""


@dataclass(frozen=True)
class Wish:
    """What a visitor wants to be restored.

    picture: a file; a manifest beside it says what happened to it. op: what happened, if the
    visitor says it. Without both it is guessed from the file. steps: None for as many as the method
    was published with. answers: how many, each with its own seed.
    """

    picture: Path
    prior: str
    method: str
    op: str | None = None
    steps: int | None = None
    seed: int = 0
    answers: int = 1


@dataclass
class Frame:
    """How far a restoration is.

    answers: pictures with their captions, if there are several answers: each of them, and where
    they differ.
    """

    words: str = "loading the prior"
    image: Path | None = None
    terms: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    answers: list[tuple[Path, str]] = field(default_factory=list)
    sheet: Path | None = None
    log: Path | None = None
    is_done: bool = False


class Film(SolveBar):
    """Keeps the latest image and the loss terms of a search, in the place of a progress bar."""

    def __init__(self, folder: Path):
        super().__init__(quiet=True)
        self.folder = folder
        self.frame = Frame()
        self.is_cancelled = threading.Event()
        self._next_image = 0.0

    def start(self, name: str, solves: Sequence[int] = (1,)) -> None:
        self.frame.words = f"{name}: the first of {sum(solves)} steps"

    def next_solve(self) -> None:
        """The curves go on with the next part of a photo."""

    def step(self, state: Step) -> None:
        if self.is_cancelled.is_set():
            raise Cancelled
        frame = self.frame
        losses = {"loss": state.loss, **state.terms}
        for name, values in losses.items():
            frame.terms.setdefault(name, []).append(values.mean().item())
        frame.words = f"phase {state.phase.name}: step {state.step} of {state.total}"
        if time.monotonic() >= self._next_image:
            image = torch.nan_to_num(state.image[:1].detach())
            path = self.folder / f"step-{state.step % 2}.png"  # the other one may be read just now
            files.to_pil(image).save(path, compress_level=1)
            frame.image = path
            self._next_image = time.monotonic() + SECONDS


class Restoration:
    """One restoration, in a thread of its own. It waits for those that began before it."""

    running: ClassVar[weakref.WeakSet[Restoration]] = weakref.WeakSet()  # and finished ones
    in_line: ClassVar[list[Restoration]] = []  # the first one computes, the others wait

    def __init__(self, wish: Wish, parent: Path):
        self.folder = Path(tempfile.mkdtemp(prefix="restoration-", dir=parent))
        self.film = Film(self.folder)
        self.error: str | None = None
        self._observed_in = f"{wish.picture.parent}/"  # of no use to a visitor in a message
        self._thread = threading.Thread(target=self._run, args=(wish,), daemon=True)
        self.running.add(self)
        self.in_line.append(self)
        self._thread.start()

    def frames(self) -> Iterator[Frame]:
        """The state from time to time, and at last the result.

        Raises ValueError, in one line, if the restoration fails. Who stops reading cancels it.
        """
        try:
            while self._thread.is_alive():
                yield self.film.frame
                self._thread.join(SECONDS)
        finally:
            self.cancel()
        if self.error is not None:
            raise ValueError(self.error)
        yield self.film.frame

    def cancel(self) -> None:
        """Stop waiting, or before the next step. One that is finished stays as it is."""
        self.film.is_cancelled.set()

    def _run(self, wish: Wish) -> None:
        frame = self.film.frame
        try:
            self._wait()
            with noting() as notes:
                path = self._restore(wish)
        except Cancelled:
            frame.words = "cancelled"
        except (ValueError, OSError) as error:
            self.error = str(error).replace(self._observed_in, "")
        except Exception as error:  # a defect must not leave the page waiting
            self.error = f"this is a defect of degrade: {type(error).__name__}: {error}"
        else:
            frame.notes = [note.replace(self._observed_in, "") for note in notes]
            frame.image = path
            frame.answers = self._answers(path, wish.answers)
            frame.sheet = path.with_suffix(".sheet.png")
            frame.log = path.with_suffix(".json")
            frame.words = "restored"
            frame.is_done = True
        finally:
            self.in_line.remove(self)

    def _wait(self) -> None:
        """Wait for the restorations that began before. Raises Cancelled if the visitor stops it."""
        while self.in_line[0] is not self:
            self.film.frame.words = "waiting for the restoration of another visitor"
            if self.film.is_cancelled.wait(SECONDS):
                raise Cancelled
        self.film.frame.words = "loading the prior"

    def _restore(self, wish: Wish) -> Path:
        """Run the flow of `degrade restore`, and return the path of the picture."""
        model = invert.load_prior(wish.prior)
        method, _ = methods_of(wish.method, model, None)
        refuse_samples(method, wish.answers)
        options = PriorOptions(prior=prior_text(wish.prior), steps=wish.steps, seed=wish.seed)
        where = Where()
        settings = RestoreSettings(
            **asdict(options), method=method, op=wish.op, samples=wish.answers, where=str(where)
        )
        observer = Observer(
            images=Images(wish.prior, model.channels, model.resolution),
            op=wish.op,
            where=where,
            prior=model,
        )
        flow = Restore(
            settings, self.folder / "restored", observer, partial(Solver, model), bar=self.film
        )
        todo, job = flow.plan(Source(wish.picture, Path(wish.picture.name)))
        assert job is not None  # the folder is new, so nothing is restored already
        restored = flow.setup()(job)
        if self.film.is_cancelled.is_set():
            raise Cancelled
        return flow.finish(todo, restored)

    def _answers(self, path: Path, count: int) -> list[tuple[Path, str]]:
        """The pictures of several answers, and one of their standard deviation."""
        if count == 1:
            return []
        paths = [path]
        for number in range(2, count + 1):
            paths.append(path.with_suffix(f".sample{number}.png"))
        answers = [(each, f"answer {number}") for number, each in enumerate(paths, 1)]
        deviation = spread([kept.read_pixels(each) for each in paths])
        spread_path = self.folder / "spread.png"
        files.to_pil(deviation / SPREAD).save(spread_path)
        return [*answers, (spread_path, f"spread, white is {SPREAD}")]


def cancel_all() -> None:
    """Cancel every restoration of this process, so that none writes any more."""
    for restoration in list(Restoration.running):
        restoration.cancel()


def methods_for(prior: str) -> list[str]:
    """The methods that a prior suits, by name."""
    is_denoiser = prior in invert.load.BUNDLED_DENOISERS
    kind = "denoiser" if is_denoiser else "generator"
    return [name for name, method in METHODS.items() if method.prior_kind == kind]


def copied(picture: Path, manifest: Path | None, parent: Path) -> Path:
    """A copy of a picture in a folder of its own, with its manifest if one is given."""
    folder = Path(tempfile.mkdtemp(prefix="observed-", dir=parent))
    shutil.copy(picture, folder)
    if manifest is not None:
        shutil.copy(manifest, folder)
    return folder / picture.name


def inspected(path: Path) -> list[tuple[str, str]]:
    """What `degrade inspect` finds in a picture's file, as rows (what, why)."""
    result = guess(path)
    rows = list(file_facts(path).items())
    for finding in result.findings:
        what = f"{finding.stage} ({finding.confidence:.2f})" if finding.stage else "remark"
        rows.append((what, finding.why))
    rows.append(("what happened", str(result.operator)))
    for alternative in result.alternatives:
        rows.append(
            (f"or, {alternative.likelihood:.2f} times as likely", str(alternative.operator))
        )
    return rows
