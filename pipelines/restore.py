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
from degrade.photofile import PhotoFile, read_photo
from degrade.rng import child_seed
from degrade.serial import collect

from . import files, kept
from .apply import again
from .faces import Where
from .files import Source
from .history import check_clean, clean_of, note, what_happened
from .job import MOST_UNEXPLAINED, Restored, RestoreJob, Restorer, RestoreSettings
from .photo import Photo
from .png import png
from .progress import SolveBar
from .report import remove_report
from .restored import LOG, is_of
from .results import Curve
from .sheet import SPREAD, details, sheet, spread
from .solver import Solver

if TYPE_CHECKING:
    import invert
    from invert.problem import Prior

LATENT = ".latent.safetensors"
MOST_SAMPLES = 1000
LARGE_PHOTO = 512  # the side that the realism metrics assume of photos of any size


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
        """A result as its file holds it."""
        return kept.pixels_of(kept.levels_of(picture, self.file.bits))


@dataclass(frozen=True)
class Images:
    """The images that a prior knows.

    name: of the prior, as the user gave it. side: None for any size.
    """

    name: str
    channels: int
    side: int | None

    @property
    def shape(self) -> tuple[int, int, int, int] | None:
        return None if self.side is None else (1, self.channels, self.side, self.side)


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
    with them, and <name>.part.png what was drawn, side by side. A picture whose log has the same
    settings and observation is not solved again.

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
        face_solver = solver if self.face_solver is None else self.face_solver(step=step)
        return Restorer(self.settings, solver, face_solver, self.bar)

    def about(self) -> dict[str, object]:
        init = None if self.init is None else str(self.init)
        return {"command": "restore", **asdict(self.settings), "init": init}

    def forget(self) -> None:
        if remove_report(self.output):
            note(
                f"{self.output}: its report described results that are replaced now, and is "
                "removed; --report writes a new one"
            )

    def targets(self, source: Source) -> list[Path]:
        return self._targets(source, photo=True)

    def _targets(self, source: Source, photo: bool) -> list[Path]:
        suffixes = [*_suffixes(self.settings.samples, photo), ".sheet.png"]
        faces = photo and self.face_images is not None
        if faces or self.images.side is not None:  # a denoiser has no latent
            suffixes.append(LATENT)
        suffixes.append(".json")
        return [source.target(self.output, suffix) for suffix in suffixes]

    def changes(self, source: Source) -> list[str]:
        before = files.read_json(source.target(self.output, ".json"), LOG)
        if before is None:
            return []
        return files.differences(before, asdict(self.settings) | {"init": self._init_text(source)})

    def plan(self, source: Source) -> tuple[Todo, RestoreJob | None]:
        observation = self._observation(source)
        photos = observation.photos
        whole, texts = self._assumptions(observation)
        if self.settings.keep_visible:
            _note_uncertain(source, photos[0].happened.approx() if photos else whole)
        record = source.target(self.output, ".json")
        before = files.earlier(record, LOG, self.targets(source)) or {}
        if files.another_source(before, "observation", source):
            note(f"{source.path}: the result of another picture of this name is replaced")
        wanted = {
            "degrade": degrade.__version__,
            **texts,
            **asdict(self.settings),
            "observation": files.digest(source.path),
            "init": self._init_text(source),
        }
        clean = self._clean_path(source, observation.manifest)
        clean_text = before.get("clean") if clean is None else files.digest(clean)
        log = wanted | {"clean": clean_text, "happened": _text(observation.operator)}
        complete = all(path.exists() for path in self._targets(source, bool(photos)))
        solved = complete and is_of(before, wanted)
        if self.force and before.get("refused"):
            solved = False
        if solved and before.get("clean") == clean_text:
            return Todo(source, log), None
        if solved:  # only the sheet is drawn again
            for key in ("notes", "loss", "terms", "unexplained", "refused"):
                if key in before:
                    log[key] = before[key]
            return Todo(source, log, observation), None
        job = RestoreJob(
            name=source.relative.as_posix(),
            observed=observation.pixels,
            happened=observation.operator,
            assumed=whole,
            spots=tuple(photo.spot for photo in photos),
            seeds=self._seeds(source),
            init=self._init(source),
            force=self.force,
            guessed=observation.manifest is None and self.settings.op is None,
        )
        return Todo(source, log, observation), job

    def _assumptions(
        self, observation: Observation
    ) -> tuple[degrade.Operator | None, dict[str, object]]:
        """The operator that is assumed of the whole picture, and what the log says of all.

        There is none if only a part is restored.
        """
        settings, operator = self.settings, observation.operator
        squares = [list(photo.spot.matrix) for photo in observation.photos]
        if self.images.side is None:
            whole = settings.model_with_filters(operator, observation.pixels)
            texts: dict[str, object] = {"assumed": _text(whole)}
            if self.face_images is not None:
                texts["faces"] = squares
            return whole, texts
        if not observation.photos:
            whole = settings.model(operator)
            return whole, {"assumed": _text(whole)}
        _, operator = observation.photos[0].problem(self.images.side)
        return None, {"assumed": _text(settings.model(operator))}

    def _observation(self, source: Source) -> Observation:
        manifest, operator = what_happened(source, self.settings.op, self.prior)
        file, pixels, stays_grey = self._read(source, operator)
        photos = self._photos(source, pixels, operator)
        path = self._clean_path(source, manifest)
        clean = None
        if path is not None:
            check_clean(path, source, manifest, operator)
            clean = files.read_image(path)
        return Observation(source, file, pixels, operator, manifest, photos, clean, stays_grey)

    def _read(self, source: Source, operator: degrade.Operator) -> tuple[PhotoFile, Tensor, bool]:
        """The file, its pixels with the prior's channels, and whether the result is to be grey.

        A grey file has a result in grey, unless the operator itself turns colours into grey: then
        the colours are what is to be restored.
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
        return file, pixels.repeat(1, channels, 1, 1), not removes_colour

    def _photos(
        self, source: Source, observed: Tensor, operator: degrade.Operator
    ) -> tuple[Photo, ...]:
        """The parts of a photo that a generator draws; none if the prior draws the whole."""
        shape = self.images.shape
        if shape is None and self.face_images is None:
            return ()
        if shape is not None and not self.where:
            with suppress(ValueError):  # from a stage that does not fit the shape
                if operator.output_shape(shape) == tuple(observed.shape):
                    return ()
        several = self.face_images is not None
        picture = files.to_pil(observed)
        spots, message = self.where.spots(source.path, picture, several)
        if message:
            note(f"{source.path}: {message}")
        return tuple(Photo(observed, operator, spot) for spot in spots)

    def _seeds(self, source: Source) -> list[int]:
        name, seed = source.relative.as_posix(), self.settings.seed
        further = [child_seed(seed, name, i) for i in range(1, self.settings.samples)]
        return [child_seed(seed, name), *further]

    def _init_path(self, source: Source) -> Path | None:
        if self.init is None:
            return None
        path = self.init / source.result_name(LATENT) if self.init.is_dir() else self.init
        targets = [target.resolve() for target in self.targets(source)]
        if path.resolve() in targets:
            raise ValueError(f"init={path} would be written over; choose another --output")
        return path

    def _init_text(self, source: Source) -> str | None:
        path = self._init_path(source)
        return None if path is None else files.digest(path)

    def _init(self, source: Source) -> Tensor | str | None:
        path = self._init_path(source)
        if path is not None:
            return files.read_latent(path)
        return "random" if self.settings.samples > 1 else None

    def _clean_path(self, source: Source, manifest: dict | None) -> Path | None:
        return None if self.clean is None else clean_of(source, manifest, self.clean)

    def finish(self, todo: Todo, restored: Restored | None) -> Path:
        source, log, observation = todo.source, todo.log, todo.observation
        target = source.target(self.output, ".png")
        if observation is None:
            return target
        has_parts = bool(observation.photos)
        made: dict[Path, bytes] = {}
        if restored is None:
            results = self._read_results(observation)
            drawn = self._read_drawn(observation)
        else:
            self._check(source, restored)
            log |= _curves(restored)
            results = self._in_grey(restored.pictures, observation)
            drawn = _rows(restored)
            made = self._encoded(observation, results, drawn)
            self._say_how(observation, restored)
            if restored.drawn:
                latents = []
                for part in restored.drawn:
                    latents += [solution.latent for solution in part.solved]
                latent = torch.cat(latents)
                made[source.target(self.output, LATENT)] = files.latent_bytes(latent)
        tiles = self._tiles(observation, results, drawn)
        made[source.target(self.output, ".sheet.png")] = self._encoded_sheet(observation, tiles)
        record = source.target(self.output, ".json")
        before = files.earlier(record, LOG, self.targets(source)) or {}
        files.write_together(record, LOG, log, made, self._stale(source, before, has_parts))
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
        path, settings = observation.source.path, self.settings
        if self.images.side is None:
            what = "everything else" if restored.drawn else "the whole photo"
            how = f"method {settings.method}, prior {self.images.name}"
            assumed = f"assumed {observation.operator}"
            solved = restored.whole[0]
            note(f"{path}: {what}: {'; '.join([how, assumed, *solved.notes])}")
        several = len(restored.drawn) > 1
        for number, drawn in enumerate(restored.drawn, 1):
            remarks = []
            if self.face_images is not None:
                remarks.append(f"prior {self.face_images.name}, method {settings.search_method}")
            if drawn.refused:
                remarks.append(f"refused: {_too_little(drawn.unexplained)}; --force pastes it")
            elif self.force and drawn.unexplained > MOST_UNEXPLAINED:
                remarks.append(f"look at the result: {_too_little(drawn.unexplained)}")
            if remarks:
                what = "what was drawn"
                if self.face_images is not None:
                    what = f"face {number}" if several else "face"
                note(f"{path}: {what}: {'; '.join(remarks)}")

    def _paths(self, source: Source, suffixes: list[str]) -> list[Path]:
        return [source.target(self.output, suffix) for suffix in suffixes]

    def _in_grey(self, images: list[Tensor], observation: Observation) -> list[Tensor]:
        """The results with the channels that are written."""
        if not observation.stays_grey:
            return images
        if self.images.channels == 1:
            return [image.clamp(0, 1) for image in images]
        note(
            f"{observation.source.path}: it is grey, and so is the result; the prior "
            "draws in colour, of which the luma is kept"
        )
        return [kept.in_grey(image) for image in images]

    def _read_results(self, observation: Observation) -> list[Tensor]:
        """The restored pictures of an earlier run."""
        paths = self._paths(observation.source, _numbered(self.settings.samples))
        return [kept.read_pixels(path) for path in paths]

    def _read_drawn(self, observation: Observation) -> list[Tensor]:
        """What a generator drew in an earlier run, for each sample all parts side by side."""
        if not observation.photos:
            return []
        paths = self._paths(observation.source, _drawn(self.settings.samples, photo=True))
        return [files.read_image(path, self.drawn_images.channels) for path in paths]

    def _encoded(
        self, observation: Observation, results: list[Tensor], drawn: list[Tensor]
    ) -> dict[Path, bytes]:
        """The picture files: the results and, beside a photo, what the generator drew."""
        source, samples = observation.source, self.settings.samples
        made: dict[Path, bytes] = {}
        for path, result in zip(self._paths(source, _numbered(samples)), results, strict=True):
            made[path] = kept.encode_like(result, observation.file)
        if observation.photos:
            drawn_paths = self._paths(source, _drawn(samples, photo=True))
            for path, image in zip(drawn_paths, drawn, strict=True):
                made[path] = files.encode(files.to_pil(image))
        return made

    def _encoded_sheet(self, observation: Observation, tiles: dict[str, Image]) -> bytes:
        """The sheet, in the colours of the photo."""
        file = observation.file
        if file.profile is None or file.channels == 1:
            return files.encode(sheet(tiles))
        return png(numpy.asarray(sheet(tiles)), file.profile)

    def _stale(self, source: Source, before: dict, is_photo: bool) -> list[Path]:
        """Pictures of an earlier result that are no part of this one."""
        samples = before.get("samples")
        count = min(samples, MOST_SAMPLES) if isinstance(samples, int) else 1
        earlier = set(self._paths(source, _suffixes(count, photo=True)))
        return sorted(earlier - set(self._targets(source, is_photo)))

    def _tiles(
        self, observation: Observation, results: list[Tensor], drawn: list[Tensor]
    ) -> dict[str, Image]:
        """The tiles of the sheet. drawn: see `_read_drawn`."""
        file, photos = observation.file, observation.photos
        tiles: dict[str, Tensor] = {}
        if observation.clean is not None:
            tiles["clean"] = observation.clean
        before = kept.over_white(observation.pixels, file)
        after = kept.over_white(results[0], file)
        samples = drawn or results
        if photos and self.face_images is None:
            side = max(self.images.side or 0, round(photos[0].spot.side))
            tiles["photo"] = before
            tiles["the part"] = photos[0].aligned(side)
            tiles["restored"] = drawn[0]
            tiles["pasted back"] = after
        else:
            tiles["observed"] = before
            tiles["restored"] = after
        for number, image in enumerate(samples[1:], 2):
            tiles[f"sample {number}"] = image
        if self.images.side is None:
            tiles.update(details(before, after))
        if self.face_images is not None:
            tiles.update(self._face_tiles(photos, drawn))
        if len(samples) > 1:
            tiles[f"spread, white is {SPREAD}"] = spread(samples) / SPREAD
        if observation.manifest is not None:
            written = observation.written(results[0])
            degraded = again(written, observation.manifest, observation.operator)
            tiles["restored, degraded again"] = degraded
        return {caption: files.to_pil(tile) for caption, tile in tiles.items()}

    def _face_tiles(self, photos: tuple[Photo, ...], drawn: list[Tensor]) -> dict[str, Tensor]:
        """Each face of a photo, and what the face prior drew for it."""
        tiles = {}
        several = len(photos) > 1
        for number, photo in enumerate(photos):
            side = drawn[0].shape[2]
            name = f"face {number + 1}" if several else "face"
            tiles[name] = photo.aligned(max(side, round(photo.spot.side)))
            tiles[f"{name}, drawn"] = drawn[0][..., number * side : (number + 1) * side]
        return tiles


def _rows(restored: Restored) -> list[Tensor]:
    """What a generator drew, for each sample all parts side by side."""
    parts = [drawn.solved for drawn in restored.drawn if drawn.solved is not restored.whole]
    rows = []
    for sample in zip(*parts, strict=True):
        rows.append(torch.cat([solution.image for solution in sample], 3))
    return rows


def _too_little(unexplained: float) -> str:
    """Words for a generator's image that explains too little of a picture."""
    share = f"leaves {unexplained:.0%} of what it shows unexplained"
    if unexplained >= 1:
        return f"a plain colour explains the picture better than what was drawn, which {share}"
    return f"what was drawn explains the picture little better than a plain colour, and {share}"


def _curves(restored: Restored) -> dict:
    """What a log says of the solves: their notes, and the curves of loss and terms, averaged.

    The curves are those of the generator, if there is one.
    """
    notes: dict[str, None] = {}
    for solution in restored.searches:
        notes |= dict.fromkeys(solution.notes)
    solved = restored.whole
    if restored.drawn:
        solved = []
        for drawn in restored.drawn:
            solved += drawn.solved
    terms = {}
    for name in solved[0].terms:
        terms[name] = _mean_curve([solution.terms[name] for solution in solved])
    loss = _mean_curve([solution.losses for solution in solved])
    curves: dict[str, object] = {"notes": list(notes), "loss": loss, "terms": terms}
    if restored.drawn:
        curves["unexplained"] = [round(drawn.unexplained, 4) for drawn in restored.drawn]
        curves["refused"] = [i for i, drawn in enumerate(restored.drawn, 1) if drawn.refused]
    return curves


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> Curve:
    """The mean at each step; curves of samples that stopped early go on with their last value."""
    longest = max(len(curve) for curve in curves)
    means: Curve = []
    for step in range(longest):
        values = [curve[min(step, len(curve) - 1)] for curve in curves]
        known = [value for value in values if value is not None]
        means.append(round(sum(known) / len(known), 6) if known else None)
    return means


def _numbered(samples: int) -> list[str]:
    """Suffixes of the restored pictures, one for each sample."""
    return [".png", *(f".sample{i}.png" for i in range(2, samples + 1))]


def _drawn(samples: int, photo: bool) -> list[str]:
    """Suffixes of the generator's images, which lie beside the photos they are parts of."""
    numbered = _numbered(samples)
    return [suffix.replace(".png", ".part.png") for suffix in numbered] if photo else numbered


def _suffixes(samples: int, photo: bool) -> list[str]:
    """Suffixes of all pictures of a result, without repetition."""
    return list(dict.fromkeys([*_numbered(samples), *_drawn(samples, photo)]))


def _note_uncertain(source: Source, operator: degrade.Operator | None) -> None:
    """Say that --keep-visible has no effect, and which stages are the reason."""
    if operator is not None and not operator.certain:
        stages = ", ".join(str(stage) for stage in operator if not stage.certain)
        reason = f"{stages} leaves nothing certain of what was before it"
        note(f"{source.path}: nothing is kept, for {reason}")


def _text(operator: degrade.Operator) -> str:
    """The operator as text, with files named by their content instead of their paths."""
    return str(collect(operator, lambda name, data: None))


def refuse_useless_options(
    prior: Prior, face_prior: Prior | None, where: Where, samples: int
) -> None:
    """Raise ValueError for options that nothing would use, and for priors of the wrong kind."""
    if face_prior is not None:
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
