"""Restore degraded pictures: find the operator, solve, and write picture, sheet, latent and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

import degrade
from degrade.rng import child_seed
from invert.methods import method_of

from . import files, kept, records
from .changes import differences
from .classes import NO_CLASSES, Classes
from .comparison import encoded_sheet, face_name, tiles_of
from .files import Source
from .history import note
from .job import (
    MOST_UNEXPLAINED,
    QUICK_LOOK,
    Drawn,
    Restored,
    RestoreJob,
    Restorer,
    RestoreSettings,
)
from .log import LOG, RESULTS_OF_SEARCH, drawn_solves, is_of, operator_text, search_log
from .observation import Observation, Observer
from .progress import SolveBar
from .report import remove_report
from .result_files import LATENT, ResultFiles
from .solver import Solver

MOST_SAMPLES = 1000
LARGE_PHOTO = 512  # the side that the realism metrics assume of photos of any size


@dataclass(frozen=True)
class Todo:
    """What `Restore.finish` needs to know; there is no observation if the result is complete."""

    source: Source
    log: dict
    observation: Observation | None = None


@dataclass(frozen=True)
class Restore:
    """The flow of `degrade restore`.

    Writes <name>.png, <name>.sheet.png (clean | observed | restored | restored, degraded again),
    <name>.latent.safetensors and, last, <name>.json with settings and losses. Further samples are
    <name>.sample2.png and so on. If a generator draws parts of a photo, <name>.png is the photo
    with them, and <name>.part.png shows the drawn parts side by side. A picture whose log has the
    same settings and observation is not solved again.

    observer: reads a picture and finds out what happened to it. solver, face_solver: make the
    worker's solvers, of the prior and of the face prior. init: a latent to start from, or a folder
    of them. bar: shows the steps of solves in this process. force: whether what a generator drew is
    used even if it explains too little of the picture. classes: of the pictures, for a conditional
    generator. not_refused: what this run drew that explains too little, in too few steps to judge;
    the share that each leaves unexplained.
    """

    settings: RestoreSettings
    output: Path
    observer: Observer
    solver: Callable[..., Solver]
    face_solver: Callable[..., Solver] | None = None
    init: Path | None = None
    bar: SolveBar | None = None
    overwrite: bool = False
    force: bool = False
    classes: Classes = NO_CLASSES
    not_refused: list[float] = field(default_factory=list)

    def setup(self) -> Callable[[RestoreJob], Restored]:
        step = self.bar and self.bar.step
        solver = self.solver(step=step)
        face_solver = solver
        if self.face_solver is not None:
            face_solver = self.face_solver(step=step)
        return Restorer(self.settings, solver, face_solver, self.bar)

    def about(self) -> dict[str, object]:
        about: dict[str, object] = {"command": "restore"}
        about |= asdict(self.settings)
        about["init"] = None if self.init is None else str(self.init)
        return about

    def forget(self) -> None:
        if remove_report(self.output):
            note(
                f"{self.output}: its report described results that are replaced now, and is "
                "removed; --report writes a new one"
            )

    def targets(self, source: Source) -> list[Path]:
        return self._targets(source, photo=True)

    def _targets(self, source: Source, photo: bool) -> list[Path]:
        """The files of a result. photo: whether a generator draws parts of a photo."""
        has_faces = photo and self.observer.face_images is not None
        has_latent = has_faces or self.observer.images.side is not None
        return self._files(source).all(photo, has_latent)

    def _files(self, source: Source) -> ResultFiles:
        return ResultFiles(source, self.output, self.settings.samples)

    def _earlier_log(self, source: Source) -> dict:
        """The log of an earlier result of this name; empty if there is none."""
        record = self._files(source).record
        return records.earlier(record, LOG, self.targets(source)) or {}

    def changes(self, source: Source) -> list[str]:
        record = self._files(source).record
        earlier_log = records.read_json(record, LOG)
        if earlier_log is None:
            return []
        expected = asdict(self.settings)
        expected["init"] = self._init_digest(source)
        expected["class_label"] = self.classes.of(source)
        return differences(earlier_log, expected)

    def plan(self, source: Source) -> tuple[Todo, RestoreJob | None]:
        observation = self.observer.observe(source)
        whole, texts = self._assumptions(observation)
        if self.settings.keep_visible:
            self._note_uncertain(observation, whole)
        earlier_log = self._earlier_log(source)
        if records.another_source(earlier_log, "observation", source):
            note(f"{source.path}: the result of another picture of this name is replaced")
        expected = {
            "degrade": degrade.__version__,
            **texts,
            **asdict(self.settings),
            "observation": files.digest(source.path),
            "init": self._init_digest(source),
            "class_label": self.classes.of(source),
        }
        clean_path = self.observer.clean_path(source, observation.manifest)
        clean_digest = earlier_log.get("clean")
        if clean_path is not None:
            clean_digest = files.digest(clean_path)
        log = dict(expected)
        log["clean"] = clean_digest
        log["happened"] = operator_text(observation.operator)
        if not self._is_solved(observation, earlier_log, expected):
            job = self._job(observation, whole)
            return Todo(source, log, observation), job
        if earlier_log.get("clean") == clean_digest:
            return Todo(source, log), None
        # only the sheet is drawn again
        for key in (*RESULTS_OF_SEARCH, records.BYTES):
            if key in earlier_log:
                log[key] = earlier_log[key]
        return Todo(source, log, observation), None

    def _is_solved(self, observation: Observation, earlier_log: dict, expected: dict) -> bool:
        """Whether an earlier run wrote a complete result with the expected settings."""
        if self.force and earlier_log.get("refused"):
            return False
        has_parts = bool(observation.photos)
        record = self._files(observation.source).record
        made = [path for path in self._targets(observation.source, has_parts) if path != record]
        return records.are_whole(record, earlier_log, made) and is_of(earlier_log, expected)

    def _job(self, observation: Observation, whole: degrade.Operator | None) -> RestoreJob:
        """Describe an observation for the worker. whole: see `_assumptions`."""
        source = observation.source
        is_known = observation.manifest is not None or self.settings.op is not None
        return RestoreJob(
            name=source.relative.as_posix(),
            observed=observation.pixels,
            happened=observation.operator,
            assumed=whole,
            spots=tuple(photo.spot for photo in observation.photos),
            seeds=self._seeds(source),
            init=self._initial_latent(source),
            force=self.force,
            guessed=not is_known,
            class_label=self.classes.of(source),
        )

    def _assumptions(
        self, observation: Observation
    ) -> tuple[degrade.Operator | None, dict[str, object]]:
        """The operator that is assumed of the whole picture, and the log's text of all operators.

        The operator is None if only a part of the picture is restored.
        """
        settings = self.settings
        operator = observation.operator
        photos = observation.photos
        if self.observer.images.side is None:
            whole = settings.model_with_filters(operator, observation.pixels)
            texts: dict[str, object] = {"assumed": operator_text(whole)}
            if self.observer.face_images is not None:
                texts["faces"] = [list(photo.spot.matrix) for photo in photos]
            return whole, texts
        if not photos:
            whole = settings.model(operator)
            return whole, {"assumed": operator_text(whole)}
        _, operator_of_part = photos[0].problem(self.observer.images.side)
        assumed = settings.model(operator_of_part)
        return None, {"assumed": operator_text(assumed)}

    def _note_uncertain(self, observation: Observation, whole: degrade.Operator | None) -> None:
        """Say if --keep-visible has no effect, and which stages are the reason."""
        operator = whole
        if observation.photos:
            operator = observation.photos[0].happened.approx()
        if operator is None or operator.certain:
            return
        stages = [str(stage) for stage in operator if not stage.certain]
        reason = f"{', '.join(stages)} leaves nothing certain of what was before it"
        note(f"{observation.source.path}: nothing is kept, for {reason}")

    def _seeds(self, source: Source) -> list[int]:
        """A seed for each sample."""
        name = source.relative.as_posix()
        seed = self.settings.seed
        seeds = [child_seed(seed, name)]
        for number in range(1, self.settings.samples):
            seeds.append(child_seed(seed, name, number))
        return seeds

    def _init_path(self, source: Source) -> Path | None:
        """The file of the latent from which the search starts, if one was given."""
        path = self.init
        if path is None:
            return None
        if path.is_dir():
            path = path / source.result_name(LATENT)
        targets = [target.resolve() for target in self.targets(source)]
        if path.resolve() in targets:
            raise ValueError(f"init={path} would be written over; choose another --output")
        return path

    def _init_digest(self, source: Source) -> str | None:
        path = self._init_path(source)
        if path is None:
            return None
        return files.digest(path)

    def _initial_latent(self, source: Source) -> Tensor | str | None:
        """The latent from which the search starts; several samples start at random ones."""
        path = self._init_path(source)
        if path is not None:
            return files.read_latent(path)
        takes_latent = "init" in method_of(self.settings.search_method).options
        if self.settings.samples > 1 and takes_latent:
            return "random"
        return None

    def finish(self, todo: Todo, restored: Restored | None) -> Path:
        source = todo.source
        log = todo.log
        observation = todo.observation
        paths = self._files(source)
        target = paths.pictures[0]
        if observation is None:
            return target
        made: dict[Path, bytes] = {}
        if restored is None:
            results = self._read_results(observation)
            drawn = self._read_drawn(observation)
        else:
            self._check(source, restored)
            log |= search_log(restored)
            results = self._in_grey(restored.pictures, observation)
            drawn = _rows(restored)
            made = self._encoded(observation, results, drawn)
            self._say_how(observation, restored)
            if restored.drawn:
                made[paths.latent] = _latent_bytes(restored)
        tiles = tiles_of(self.observer, observation, results, drawn)
        made[paths.sheet] = encoded_sheet(observation, tiles)
        records.write_result(paths.record, LOG, log, made, self._stale(observation))
        return target

    def _check(self, source: Source, restored: Restored) -> None:
        """Raise ValueError for a result that is not to be written."""
        if not all(solution.finite for solution in restored.searches):
            raise ValueError(f"{source.path}: the loss became NaN or infinite; nothing was written")
        if restored.pictures:
            return
        (drawn,) = restored.drawn
        prior = self.observer.drawn_images.name
        raise ValueError(
            f"{source.path}: refused, and nothing was written: {_too_little(drawn.unexplained)}. "
            f"The prior {prior} hardly knows such pictures; --prior photo "
            "restores any, and --force writes what was drawn"
        )

    def _say_how(self, observation: Observation, restored: Restored) -> None:
        """Tell the user what restored the picture, and what a generator failed to explain."""
        path = observation.source.path
        if self.observer.images.side is None:
            what = "everything else" if restored.drawn else "the whole photo"
            remarks = [
                f"method {self.settings.method}, prior {self.observer.images.name}",
                f"assumed {observation.operator}",
                *restored.whole[0].notes,
            ]
            note(f"{path}: {what}: {'; '.join(remarks)}")
        count = len(restored.drawn)
        for number, drawn in enumerate(restored.drawn, 1):
            remarks = self._remarks(drawn)
            if remarks:
                is_face = self.observer.face_images is not None
                what = face_name(number, count) if is_face else "what was drawn"
                note(f"{path}: {what}: {'; '.join(remarks)}")

    def _remarks(self, drawn: Drawn) -> list[str]:
        """What the user must know of a picture or part that a generator drew."""
        remarks = []
        if self.observer.face_images is not None:
            method = self.settings.search_method
            remarks.append(f"prior {self.observer.face_images.name}, method {method}")
        too_little = _too_little(drawn.unexplained)
        if drawn.refused:
            remarks.append(f"refused: {too_little}; --force pastes it")
        elif drawn.unexplained > MOST_UNEXPLAINED:
            if self.force:
                remarks.append(f"look at the result: {too_little}")
            else:
                self.not_refused.append(drawn.unexplained)
        return remarks

    def summary(self) -> str | None:
        """What the user must know of the whole run: results that only a quick look lets pass."""
        count = len(self.not_refused)
        if not count:
            return None
        return (
            f"drawn images that leave more than {MOST_UNEXPLAINED:.0%} of what their picture shows "
            f"unexplained: {count}; they were not refused, since fewer than {QUICK_LOOK} --steps "
            "are a quick look"
        )

    def _in_grey(self, images: list[Tensor], observation: Observation) -> list[Tensor]:
        """The results with the channels that are written."""
        if not observation.stays_grey:
            return images
        if images[0].shape[1] == 1:
            return [image.clamp(0, 1) for image in images]
        note(
            f"{observation.source.path}: it is grey, and so is the result; the prior "
            "draws in colour, of which the luma is kept"
        )
        return [kept.in_grey(image) for image in images]

    def _read_results(self, observation: Observation) -> list[Tensor]:
        """The restored pictures of an earlier run."""
        paths = self._files(observation.source).pictures
        return [kept.read_pixels(path) for path in paths]

    def _read_drawn(self, observation: Observation) -> list[Tensor]:
        """What a generator drew in an earlier run, for each sample all parts side by side."""
        if not observation.photos:
            return []
        channels = self.observer.drawn_images.channels
        paths = self._files(observation.source).drawn
        return [files.read_image(path, channels) for path in paths]

    def _encoded(
        self, observation: Observation, results: list[Tensor], drawn: list[Tensor]
    ) -> dict[Path, bytes]:
        """The picture files: the results and, beside a photo, what the generator drew."""
        made: dict[Path, bytes] = {}
        paths = self._files(observation.source)
        for path, result in zip(paths.pictures, results, strict=True):
            made[path] = kept.encode_like(result, observation.file)
        if observation.photos:
            for path, row in zip(paths.drawn, drawn, strict=True):
                image = files.to_pil(row)
                made[path] = files.encode(image)
        return made

    def _stale(self, observation: Observation) -> list[Path]:
        """Pictures of an earlier result that are no part of this one."""
        source = observation.source
        count = 1
        earlier_samples = self._earlier_log(source).get("samples")
        if isinstance(earlier_samples, int):
            count = min(earlier_samples, MOST_SAMPLES)
        earlier = replace(self._files(source), samples=count)
        earlier_paths = [*earlier.pictures, *earlier.drawn]
        targets = self._targets(source, bool(observation.photos))
        return sorted(set(earlier_paths) - set(targets))


def _rows(restored: Restored) -> list[Tensor]:
    """What a generator drew for parts of a photo, for each sample all parts side by side."""
    parts = []
    for drawn in restored.drawn:
        if drawn.solved is not restored.whole:
            parts.append(drawn.solved)
    rows = []
    for sample in zip(*parts, strict=True):
        images = [solution.image for solution in sample]
        rows.append(torch.cat(images, 3))
    return rows


def _latent_bytes(restored: Restored) -> bytes:
    """The file of the latents of all parts and samples."""
    latents = [solution.latent for solution in drawn_solves(restored)]
    return files.latent_bytes(torch.cat(latents))


def _too_little(unexplained: float) -> str:
    """Words for a generator's image that explains too little of a picture."""
    share = f"leaves {unexplained:.0%} of what it shows unexplained"
    if unexplained >= 1:
        return f"a plain colour explains the picture better than what was drawn, which {share}"
    return f"what was drawn explains the picture little better than a plain colour, and {share}"
