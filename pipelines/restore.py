"""Restore degraded pictures: find the operator, solve, and write picture, sheet, latent and log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from PIL.Image import Image
from torch import Tensor

import degrade
from degrade.filter import Gray
from degrade.operator import Shape
from degrade.photofile import PhotoFile, read_photo
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, kept
from .apply import again
from .faces import Where
from .files import Source
from .history import check_clean, clean_of, note, what_happened
from .job import MOST_UNEXPLAINED, Drawn, Restored, RestoreJob, Restorer, RestoreSettings
from .photo import Photo
from .png import png
from .progress import SolveBar
from .report import remove_report
from .restored import LOG, is_of
from .results import Curve
from .sheet import SPREAD, details, sheet, spread
from .solver import Solved, Solver

if TYPE_CHECKING:
    import invert
    from invert.problem import Prior

LATENT = ".latent.safetensors"
MOST_SAMPLES = 1000
LARGE_PHOTO = 512  # the side that the realism metrics assume of photos of any size
RESULTS_OF_SEARCH = ("notes", "loss", "terms", "unexplained", "refused")  # keys of a log


@dataclass(frozen=True)
class Observation:
    """A damaged picture and what is known about it."""

    source: Source
    file: PhotoFile
    pixels: Tensor  # [1, C, h, w]
    operator: degrade.Operator
    manifest: dict | None
    photos: tuple[Photo, ...]  # the parts that a generator draws, if it does not draw the whole
    clean: Tensor | None  # the undamaged picture, for the sheet
    stays_grey: bool  # whether the result is written in grey

    def written(self, picture: Tensor) -> Tensor:
        """Round a result to the levels that its file holds."""
        levels = kept.levels_of(picture, self.file.bits)
        return kept.pixels_of(levels)


@dataclass(frozen=True)
class Images:
    """The images that a prior knows.

    name: of the prior, as the user gave it. side: None for any size.
    """

    name: str
    channels: int
    side: int | None

    @property
    def shape(self) -> Shape | None:
        if self.side is None:
            return None
        return (1, self.channels, self.side, self.side)


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

    images: what the prior draws. solver: makes the worker's solver. face_images and face_solver:
    the same for the face prior. clean: the undamaged picture or a folder of them, for the sheet
    only. init: a latent to start from, or a folder of them. where: which part of a photo. bar:
    shows the steps of solves in this process. force: whether what a generator drew is used even if
    it explains too little of the picture. prior: tries the alternatives of a guess; None takes the
    likeliest.
    """

    settings: RestoreSettings
    output: Path
    images: Images
    solver: Callable[..., Solver]
    face_images: Images | None = None
    face_solver: Callable[..., Solver] | None = None
    clean: Path | None = None
    init: Path | None = None
    where: Where = Where()
    bar: SolveBar | None = None
    overwrite: bool = False
    force: bool = False
    prior: invert.Generator | invert.Denoiser | None = None

    @property
    def drawn_images(self) -> Images:
        """What the prior draws that restores parts of photos."""
        return self.face_images or self.images

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
        suffixes = _suffixes(self.settings.samples, photo)
        suffixes.append(".sheet.png")
        has_faces = photo and self.face_images is not None
        if has_faces or self.images.side is not None:  # a denoiser has no latent
            suffixes.append(LATENT)
        suffixes.append(".json")
        return self._paths(source, suffixes)

    def _path(self, source: Source, suffix: str) -> Path:
        return source.target(self.output, suffix)

    def _paths(self, source: Source, suffixes: list[str]) -> list[Path]:
        return [self._path(source, suffix) for suffix in suffixes]

    def _earlier_log(self, source: Source) -> dict:
        """The log of an earlier result of this name; empty if there is none."""
        record = self._path(source, ".json")
        return files.earlier(record, LOG, self.targets(source)) or {}

    def changes(self, source: Source) -> list[str]:
        record = self._path(source, ".json")
        earlier_log = files.read_json(record, LOG)
        if earlier_log is None:
            return []
        expected = asdict(self.settings)
        expected["init"] = self._init_digest(source)
        return files.differences(earlier_log, expected)

    def plan(self, source: Source) -> tuple[Todo, RestoreJob | None]:
        observation = self._observation(source)
        whole, texts = self._assumptions(observation)
        if self.settings.keep_visible:
            self._note_uncertain(observation, whole)
        earlier_log = self._earlier_log(source)
        if files.another_source(earlier_log, "observation", source):
            note(f"{source.path}: the result of another picture of this name is replaced")
        expected = {
            "degrade": degrade.__version__,
            **texts,
            **asdict(self.settings),
            "observation": files.digest(source.path),
            "init": self._init_digest(source),
        }
        clean_path = self._clean_path(source, observation.manifest)
        clean_digest = earlier_log.get("clean")
        if clean_path is not None:
            clean_digest = files.digest(clean_path)
        log = dict(expected)
        log["clean"] = clean_digest
        log["happened"] = _text(observation.operator)
        if not self._is_solved(observation, earlier_log, expected):
            job = self._job(observation, whole)
            return Todo(source, log, observation), job
        if earlier_log.get("clean") == clean_digest:
            return Todo(source, log), None
        # only the sheet is drawn again
        for key in RESULTS_OF_SEARCH:
            if key in earlier_log:
                log[key] = earlier_log[key]
        return Todo(source, log, observation), None

    def _is_solved(self, observation: Observation, earlier_log: dict, expected: dict) -> bool:
        """Whether an earlier run wrote a complete result with the expected settings."""
        if self.force and earlier_log.get("refused"):
            return False
        has_parts = bool(observation.photos)
        targets = self._targets(observation.source, has_parts)
        is_complete = all(path.exists() for path in targets)
        return is_complete and is_of(earlier_log, expected)

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
        if self.images.side is None:
            whole = settings.model_with_filters(operator, observation.pixels)
            texts: dict[str, object] = {"assumed": _text(whole)}
            if self.face_images is not None:
                texts["faces"] = [list(photo.spot.matrix) for photo in photos]
            return whole, texts
        if not photos:
            whole = settings.model(operator)
            return whole, {"assumed": _text(whole)}
        _, operator_of_part = photos[0].problem(self.images.side)
        assumed = settings.model(operator_of_part)
        return None, {"assumed": _text(assumed)}

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

    def _observation(self, source: Source) -> Observation:
        manifest, operator = what_happened(source, self.settings.op, self.prior)
        file, pixels, stays_grey = self._read(source, operator)
        photos = self._photos(source, pixels, operator)
        clean_path = self._clean_path(source, manifest)
        clean = None
        if clean_path is not None:
            check_clean(clean_path, source, manifest, operator)
            clean = files.read_image(clean_path)
        return Observation(source, file, pixels, operator, manifest, photos, clean, stays_grey)

    def _read(self, source: Source, operator: degrade.Operator) -> tuple[PhotoFile, Tensor, bool]:
        """The file, its pixels with the prior's channels, and whether the result is to be grey.

        A grey file has a result in grey, unless the operator itself turns colours into grey: then
        the restoration brings the colours back.
        """
        channels = self.images.channels
        file = read_photo(source.path)
        pixels = kept.pixels_of(file.levels)
        if file.channels == 3 and channels == 1:
            note(f"{source.path}: its colours become grey, which is all that the prior knows")
            pixels = kept.in_grey(pixels)
        if pixels.shape[1] == channels:
            return file, pixels, channels == 1
        removes_colour = any(isinstance(stage, Gray) for stage in operator)
        takes_grey = self.images.side is None and self.face_images is None
        if takes_grey and not removes_colour:
            return file, pixels, True
        in_colour = pixels.repeat(1, channels, 1, 1)
        return file, in_colour, not removes_colour

    def _photos(
        self, source: Source, observed: Tensor, operator: degrade.Operator
    ) -> tuple[Photo, ...]:
        """The parts of a photo that a generator draws; none if the prior draws the whole."""
        shape = self.images.shape
        draws_faces = self.face_images is not None
        if shape is None and not draws_faces:
            return ()
        if shape is not None and not self.where:
            with suppress(ValueError):  # from a stage that does not fit the shape
                if operator.output_shape(shape) == tuple(observed.shape):
                    return ()
        picture = files.to_pil(observed)
        spots, message = self.where.spots(source.path, picture, several=draws_faces)
        if message:
            note(f"{source.path}: {message}")
        return tuple(Photo(observed, operator, spot) for spot in spots)

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
        if self.settings.samples > 1:
            return "random"
        return None

    def _clean_path(self, source: Source, manifest: dict | None) -> Path | None:
        if self.clean is None:
            return None
        return clean_of(source, manifest, self.clean)

    def finish(self, todo: Todo, restored: Restored | None) -> Path:
        source = todo.source
        log = todo.log
        observation = todo.observation
        target = self._path(source, ".png")
        if observation is None:
            return target
        made: dict[Path, bytes] = {}
        if restored is None:
            results = self._read_results(observation)
            drawn = self._read_drawn(observation)
        else:
            self._check(source, restored)
            log |= _search_log(restored)
            results = self._in_grey(restored.pictures, observation)
            drawn = _rows(restored)
            made = self._encoded(observation, results, drawn)
            self._say_how(observation, restored)
            if restored.drawn:
                latent_path = self._path(source, LATENT)
                made[latent_path] = _latent_bytes(restored)
        tiles = self._tiles(observation, results, drawn)
        sheet_path = self._path(source, ".sheet.png")
        made[sheet_path] = self._encoded_sheet(observation, tiles)
        record = self._path(source, ".json")
        files.write_together(record, LOG, log, made, self._stale(observation))
        return target

    def _check(self, source: Source, restored: Restored) -> None:
        """Raise ValueError for a result that is not to be written."""
        if not all(solution.finite for solution in restored.searches):
            raise ValueError(f"{source.path}: the loss became NaN or infinite; nothing was written")
        if restored.pictures:
            return
        (drawn,) = restored.drawn
        raise ValueError(
            f"{source.path}: refused, and nothing was written: {_too_little(drawn.unexplained)}. "
            f"The prior {self.drawn_images.name} hardly knows such pictures; --prior photo "
            "restores any, and --force writes what was drawn"
        )

    def _say_how(self, observation: Observation, restored: Restored) -> None:
        """Tell the user what restored the picture, and what a generator failed to explain."""
        path = observation.source.path
        if self.images.side is None:
            what = "everything else" if restored.drawn else "the whole photo"
            remarks = [
                f"method {self.settings.method}, prior {self.images.name}",
                f"assumed {observation.operator}",
                *restored.whole[0].notes,
            ]
            note(f"{path}: {what}: {'; '.join(remarks)}")
        count = len(restored.drawn)
        for number, drawn in enumerate(restored.drawn, 1):
            remarks = self._remarks(drawn)
            if remarks:
                is_face = self.face_images is not None
                what = _face_name(number, count) if is_face else "what was drawn"
                note(f"{path}: {what}: {'; '.join(remarks)}")

    def _remarks(self, drawn: Drawn) -> list[str]:
        """What the user must know of a picture or part that a generator drew."""
        remarks = []
        if self.face_images is not None:
            method = self.settings.search_method
            remarks.append(f"prior {self.face_images.name}, method {method}")
        too_little = _too_little(drawn.unexplained)
        if drawn.refused:
            remarks.append(f"refused: {too_little}; --force pastes it")
        elif self.force and drawn.unexplained > MOST_UNEXPLAINED:
            remarks.append(f"look at the result: {too_little}")
        return remarks

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

    def _result_paths(self, source: Source) -> list[Path]:
        """The files of the restored pictures, one for each sample."""
        suffixes = _numbered(self.settings.samples)
        return self._paths(source, suffixes)

    def _drawn_paths(self, source: Source) -> list[Path]:
        """The files of what a generator drew for a photo, one for each sample."""
        suffixes = _part_suffixes(self.settings.samples)
        return self._paths(source, suffixes)

    def _read_results(self, observation: Observation) -> list[Tensor]:
        """The restored pictures of an earlier run."""
        paths = self._result_paths(observation.source)
        return [kept.read_pixels(path) for path in paths]

    def _read_drawn(self, observation: Observation) -> list[Tensor]:
        """What a generator drew in an earlier run, for each sample all parts side by side."""
        if not observation.photos:
            return []
        channels = self.drawn_images.channels
        paths = self._drawn_paths(observation.source)
        return [files.read_image(path, channels) for path in paths]

    def _encoded(
        self, observation: Observation, results: list[Tensor], drawn: list[Tensor]
    ) -> dict[Path, bytes]:
        """The picture files: the results and, beside a photo, what the generator drew."""
        made: dict[Path, bytes] = {}
        result_paths = self._result_paths(observation.source)
        for path, result in zip(result_paths, results, strict=True):
            made[path] = kept.encode_like(result, observation.file)
        if observation.photos:
            drawn_paths = self._drawn_paths(observation.source)
            for path, row in zip(drawn_paths, drawn, strict=True):
                image = files.to_pil(row)
                made[path] = files.encode(image)
        return made

    def _encoded_sheet(self, observation: Observation, tiles: dict[str, Image]) -> bytes:
        """The sheet as PNG, with the colour profile of the photo."""
        image = sheet(tiles)
        file = observation.file
        if file.profile is None or file.channels == 1:
            return files.encode(image)
        levels = numpy.asarray(image)
        return png(levels, file.profile)

    def _stale(self, observation: Observation) -> list[Path]:
        """Pictures of an earlier result that are no part of this one."""
        source = observation.source
        count = 1
        earlier_samples = self._earlier_log(source).get("samples")
        if isinstance(earlier_samples, int):
            count = min(earlier_samples, MOST_SAMPLES)
        earlier_suffixes = _suffixes(count, photo=True)
        earlier_paths = self._paths(source, earlier_suffixes)
        targets = self._targets(source, bool(observation.photos))
        return sorted(set(earlier_paths) - set(targets))

    def _tiles(
        self, observation: Observation, results: list[Tensor], drawn: list[Tensor]
    ) -> dict[str, Image]:
        """The tiles of the sheet. drawn: see `_read_drawn`."""
        file = observation.file
        photos = observation.photos
        before = kept.over_white(observation.pixels, file)
        after = kept.over_white(results[0], file)
        tiles: dict[str, Tensor] = {}
        if observation.clean is not None:
            tiles["clean"] = observation.clean
        if photos and self.face_images is None:
            side = max(self.images.side or 0, round(photos[0].spot.side))
            tiles["photo"] = before
            tiles["the part"] = photos[0].aligned(side)
            tiles["restored"] = drawn[0]
            tiles["pasted back"] = after
        else:
            tiles["observed"] = before
            tiles["restored"] = after
        samples = drawn or results
        for number, image in enumerate(samples[1:], 2):
            tiles[f"sample {number}"] = image
        if self.images.side is None:
            tiles |= details(before, after)
        if self.face_images is not None:
            tiles |= self._face_tiles(photos, drawn)
        if len(samples) > 1:
            tiles[f"spread, white is {SPREAD}"] = spread(samples) / SPREAD
        if observation.manifest is not None:
            written = observation.written(results[0])
            degraded = again(written, observation.manifest, observation.operator)
            tiles["restored, degraded again"] = degraded
        images = {}
        for caption, tile in tiles.items():
            images[caption] = files.to_pil(tile)
        return images

    def _face_tiles(self, photos: tuple[Photo, ...], drawn: list[Tensor]) -> dict[str, Tensor]:
        """Each face of a photo, and what the face prior drew for it."""
        tiles = {}
        for index, photo in enumerate(photos):
            row = drawn[0]  # the faces side by side
            side = row.shape[2]
            left = index * side
            name = _face_name(index + 1, len(photos))
            tiles[name] = photo.aligned(max(side, round(photo.spot.side)))
            tiles[f"{name}, drawn"] = row[..., left : left + side]
        return tiles


def _face_name(number: int, count: int) -> str:
    """What a message and a caption call a face; only one of several has a number."""
    return f"face {number}" if count > 1 else "face"


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


def _drawn_solves(restored: Restored) -> list[Solved]:
    """The solves of a generator, of all parts and samples."""
    solves = []
    for drawn in restored.drawn:
        solves += drawn.solved
    return solves


def _latent_bytes(restored: Restored) -> bytes:
    """The file of the latents of all parts and samples."""
    latents = [solution.latent for solution in _drawn_solves(restored)]
    return files.latent_bytes(torch.cat(latents))


def _too_little(unexplained: float) -> str:
    """Words for a generator's image that explains too little of a picture."""
    share = f"leaves {unexplained:.0%} of what it shows unexplained"
    if unexplained >= 1:
        return f"a plain colour explains the picture better than what was drawn, which {share}"
    return f"what was drawn explains the picture little better than a plain colour, and {share}"


def _search_log(restored: Restored) -> dict[str, object]:
    """The log's part about the solves: notes, and the curves of the loss and of its terms.

    The curves are means over samples and parts. They are those of the generator, if there is one.
    """
    notes: dict[str, None] = {}
    for solution in restored.searches:
        notes |= dict.fromkeys(solution.notes)
    solves = _drawn_solves(restored) or restored.whole
    terms = {}
    for name in solves[0].terms:
        curves = [solution.terms[name] for solution in solves]
        terms[name] = _mean_curve(curves)
    losses = [solution.losses for solution in solves]
    log: dict[str, object] = {"notes": list(notes)}
    log["loss"] = _mean_curve(losses)
    log["terms"] = terms
    if restored.drawn:
        unexplained: list[float] = []
        refused: list[int] = []
        for number, drawn in enumerate(restored.drawn, 1):
            unexplained.append(round(drawn.unexplained, 4))
            if drawn.refused:
                refused.append(number)
        log["unexplained"] = unexplained
        log["refused"] = refused
    return log


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> Curve:
    """The mean at each step; curves of samples that stopped early go on with their last value."""
    longest = max(len(curve) for curve in curves)
    means: Curve = []
    for step in range(longest):
        known = []
        for curve in curves:
            last = len(curve) - 1
            value = curve[min(step, last)]
            if value is not None:
                known.append(value)
        mean = None
        if known:
            mean = round(sum(known) / len(known), 6)
        means.append(mean)
    return means


def _numbered(samples: int) -> list[str]:
    """Suffixes of the restored pictures, one for each sample."""
    suffixes = [".png"]
    for number in range(2, samples + 1):
        suffixes.append(f".sample{number}.png")
    return suffixes


def _part_suffixes(samples: int) -> list[str]:
    """Suffixes of what a generator drew for a photo, one for each sample."""
    return [suffix.replace(".png", ".part.png") for suffix in _numbered(samples)]


def _suffixes(samples: int, photo: bool) -> list[str]:
    """Suffixes of all pictures of a result. photo: whether a generator draws parts of a photo."""
    suffixes = _numbered(samples)
    if photo:
        suffixes += _part_suffixes(samples)
    return suffixes


def _text(operator: degrade.Operator) -> str:
    """The operator as text, with files named by their content instead of their paths."""
    return str(collect(operator, lambda name, data: None))


def refuse_useless_options(
    prior: Prior, face_prior: Prior | None, where: Where, samples: int
) -> None:
    """Raise ValueError for options that nothing would use, and for priors of the wrong kind."""
    if face_prior is not None:
        _check_face_prior(prior, face_prior, where)
        return
    if prior.prior_kind == "generator":
        return
    if where:
        raise ValueError(
            "--align and --box choose the part of a photo that a generator draws; leave them out, "
            "or name a generator with --prior or --face-prior"
        )
    if samples > 1:
        raise ValueError(
            f"--samples {samples}: a denoiser gives one answer; leave it out, or name a generator "
            "with --prior"
        )


def _check_face_prior(prior: Prior, face_prior: Prior, where: Where) -> None:
    """Raise ValueError unless a denoiser and a generator of as many channels know where to work."""
    if prior.prior_kind != "denoiser" or face_prior.prior_kind != "generator":
        raise ValueError(
            "--face-prior names a generator of faces, and --prior a denoiser for the rest of "
            "the photo, such as photo; with one prior for both, leave --face-prior out"
        )
    if prior.channels != face_prior.channels:
        raise ValueError(
            f"--face-prior draws {face_prior.channels} channels and --prior knows "
            f"{prior.channels}; both must be for grey, or both for colours"
        )
    if not where:
        raise ValueError(
            "--face-prior needs to know where the face is; add --align ffhq, or --box X,Y,W,H"
        )
