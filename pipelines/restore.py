"""Restore degraded pictures: find the operator, solve, and write picture, sheet, latent and log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

import degrade
import invert
from degrade.filter import Gray
from degrade.imagefile import contents, picture
from degrade.rng import child_seed
from degrade.serial import collect
from invert import linear_model

from . import files
from .apply import again
from .faces import Where
from .files import Source
from .history import check_clean, clean_of, note, what_happened
from .options import PriorOptions
from .photo import Photo
from .progress import SolveBar
from .report import remove_report
from .restored import LOG, is_of
from .results import Curve
from .sheet import SPREAD, details, sheet, spread
from .solver import Solved, Solver

LATENT = ".latent.safetensors"
MOST_SAMPLES = 1000
LARGE_PHOTO = 512  # the side that the realism metrics assume of photos of any size


@dataclass(frozen=True, kw_only=True)
class RestoreSettings(PriorOptions):
    """What decides a restoration besides the observation; kept in its log."""

    method: str
    op: str | None = None
    class_label: int | None = None
    samples: int = 1
    identity: str | None = None  # digests of the embedding and of the reference photo
    where: str = ""  # which part of a photo, see `faces.Where`
    keep_visible: bool = False


@dataclass(frozen=True)
class RestoreJob:
    """A picture to restore."""

    name: str
    observed: Tensor  # [1, C, h, w]
    operator: degrade.Operator  # the one that the solver assumes
    seeds: list[int]  # one for each sample
    init: Tensor | str | None


@dataclass(frozen=True)
class Observation:
    """A damaged picture and what is known about it."""

    source: Source
    pixels: Tensor  # [1, C, h, w]
    operator: degrade.Operator
    manifest: dict | None
    photo: Photo | None  # set if only a part of the picture is restored
    clean: Tensor | None  # the undamaged picture, for the sheet
    grey_bits: int | None  # bits per pixel of a result that is written in grey; None for colour


@dataclass(frozen=True)
class Images:
    """The images that a prior knows: their channels, and their side; None for any size."""

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
    <name>.sample2.png and so on. If only a part of a photo is restored, <name>.png is the photo
    with that part, and <name>.part.png what the generator drew. A picture whose log has the same
    settings and observation is not solved again.

    images: what the prior draws. clean: the undamaged picture or a folder of
    them, for the sheet only. init: a latent to start from, or a folder of them. where: which part
    of a photo. bar: shows the steps of solves in this process. prior: tries the alternatives of a
    guess; None takes the likeliest.
    """

    settings: RestoreSettings
    output: Path
    images: Images
    solver: Callable[..., Solver]
    clean: Path | None = None
    init: Path | None = None
    where: Where = Where()
    bar: SolveBar | None = None
    overwrite: bool = False
    prior: invert.Generator | invert.Denoiser | None = None

    def setup(self) -> Callable[[RestoreJob], list[Solved]]:
        solver = self.solver(step=self.bar and self.bar.step)
        return partial(restored, solver=solver, settings=self.settings, bar=self.bar)

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
        if self.images.side is not None:  # the latent of a denoiser is the image itself
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
        photo, operator = observation.photo, observation.operator
        to_solve = observation.pixels
        if photo is not None:
            assert self.images.side is not None
            to_solve, operator = photo.problem(self.images.side)
        settings = self.settings
        assumed = self._assumed(operator, to_solve)
        if settings.keep_visible:
            _note_uncertain(source, assumed if photo is None else photo.happened.approx())
        record = source.target(self.output, ".json")
        before = files.earlier(record, LOG, self.targets(source)) or {}
        if files.another_source(before, "observation", source):
            note(f"{source.path}: the result of another picture of this name is replaced")
        wanted = {
            "degrade": degrade.__version__,
            "assumed": _text(assumed),
            **asdict(settings),
            "observation": files.digest(source.path),
            "init": self._init_text(source),
        }
        clean = self._clean_path(source, observation.manifest)
        clean_text = before.get("clean") if clean is None else files.digest(clean)
        log = wanted | {"clean": clean_text, "happened": _text(observation.operator)}
        complete = all(path.exists() for path in self._targets(source, photo is not None))
        solved = complete and is_of(before, wanted)
        if solved and before.get("clean") == clean_text:
            return Todo(source, log), None
        if solved:  # only the sheet is drawn again
            for key in ("notes", "loss", "terms"):
                if key in before:
                    log[key] = before[key]
            return Todo(source, log, observation), None
        job = RestoreJob(
            source.relative.as_posix(), to_solve, assumed, self._seeds(source), self._init(source)
        )
        return Todo(source, log, observation), job

    def _assumed(self, operator: degrade.Operator, observed: Tensor) -> degrade.Operator:
        """What the solver assumes: all that is known, and a model of every unknown draw."""
        model = invert.oracle_mask if self.settings.oracle_mask else linear_model.APPROX
        if self.images.side is not None:
            return model(operator)
        shape = operator.input_shape(observed.shape)
        return linear_model.with_known_filters(operator, shape, model)

    def _observation(self, source: Source) -> Observation:
        manifest, operator = what_happened(source, self.settings.op, self.prior)
        pixels, grey_bits = self._read(source, operator)
        photo = self._photo(source, pixels, operator)
        path = self._clean_path(source, manifest)
        clean = None
        if path is not None:
            check_clean(path, source, manifest, operator)
            clean = files.read_image(path)
        return Observation(source, pixels, operator, manifest, photo, clean, grey_bits)

    def _read(self, source: Source, operator: degrade.Operator) -> tuple[Tensor, int | None]:
        """The observation with the generator's channels, and the bits of a result in grey.

        A grey file has a result in grey, unless the operator itself turns colours into grey: then
        the colours are what is to be restored.
        """
        channels = self.images.channels
        image = picture(contents(source.path), str(source.path), channels=None, deep=True)
        bits = 16 if image.mode.startswith("I;16") else 8
        if image.mode == "RGB" and channels == 1:
            note(f"{source.path}: its colours become grey, which is all that the generator draws")
            image = image.convert("L")
        pixels = files.from_pil(image)
        if pixels.shape[1] == channels:
            return pixels, bits if channels == 1 else None
        removes_colour = any(isinstance(stage, Gray) for stage in operator)
        return pixels.repeat(1, channels, 1, 1), None if removes_colour else bits

    def _photo(self, source: Source, observed: Tensor, operator: degrade.Operator) -> Photo | None:
        """The photo of which a part is restored; None if the prior can draw the whole."""
        shape = self.images.shape
        if shape is None:
            return None
        if not self.where:
            with suppress(ValueError):  # from a stage that does not fit the shape
                if operator.output_shape(shape) == tuple(observed.shape):
                    return None
        spot, message = self.where.spot(source.path, files.to_pil(observed))
        if message:
            note(f"{source.path}: {message}")
        return Photo(observed, operator, spot)

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

    def finish(self, todo: Todo, solved: list[Solved] | None) -> Path:
        source, log, observation = todo.source, todo.log, todo.observation
        target = source.target(self.output, ".png")
        if observation is None:
            return target
        is_photo = observation.photo is not None
        made: dict[Path, bytes] = {}
        if solved is None:
            images = self._read_drawn(observation)
            result = self._read_result(observation, target)
        else:
            if not all(solution.finite for solution in solved):
                raise ValueError(
                    f"{source.path}: the loss became NaN or infinite; nothing was written"
                )
            log |= _curves(solved)
            images = [solution.image for solution in solved]
            results = self._results(images, observation)
            result = results[0]
            made = self._encoded(observation, images, results)
            if not is_photo:
                images = results
            if self.images.side is not None:
                latents = torch.cat([solution.latent for solution in solved])
                made[source.target(self.output, LATENT)] = files.latent_bytes(latents)
            else:
                self._say_how(source, solved[0])
        tiles = self._tiles(observation, images, result)
        made[source.target(self.output, ".sheet.png")] = files.encode(sheet(tiles))
        record = source.target(self.output, ".json")
        before = files.earlier(record, LOG, self.targets(source)) or {}
        files.write_together(record, LOG, log, made, self._stale(source, before, is_photo))
        return target

    def _say_how(self, source: Source, solution: Solved) -> None:
        """Tell the user what a photo was restored with."""
        how = f"method {self.settings.method}, prior {self.settings.prior}"
        note(f"{source.path}: {'; '.join([how, *solution.notes])}")

    def _paths(self, source: Source, suffixes: list[str]) -> list[Path]:
        return [source.target(self.output, suffix) for suffix in suffixes]

    def _results(self, images: list[Tensor], observation: Observation) -> list[Tensor]:
        """The restored pictures: the generator's images, pasted into the photo if there is one."""
        photo = observation.photo
        if photo is not None:
            images = [photo.pasted(image, self.settings.keep_visible) for image in images]
        if observation.grey_bits is None:
            return images
        if self.images.channels > 1:
            note(
                f"{observation.source.path}: it is grey, and so is the result; the prior "
                "draws in colour, of which the luma is kept"
            )
        return [Gray()(image.clamp(0, 1))[:, :1] for image in images]

    def _read_result(self, observation: Observation, path: Path) -> Tensor:
        """A restored picture, in grey if it was written so."""
        channels = self.images.channels if observation.grey_bits is None else 1
        return files.read_image(path, channels, deep=True)

    def _read_drawn(self, observation: Observation) -> list[Tensor]:
        """The generator's images of an earlier run, as their files hold them."""
        source, samples = observation.source, self.settings.samples
        if observation.photo is None:
            paths = self._paths(source, _numbered(samples))
            return [self._read_result(observation, path) for path in paths]
        paths = self._paths(source, _drawn(samples, photo=True))
        return [files.read_image(path, self.images.channels) for path in paths]

    def _encoded(
        self, observation: Observation, images: list[Tensor], results: list[Tensor]
    ) -> dict[Path, bytes]:
        """The picture files: the results and, beside a photo, what the generator drew."""
        source, samples = observation.source, self.settings.samples
        made: dict[Path, bytes] = {}
        bits = observation.grey_bits or 8
        for path, result in zip(self._paths(source, _numbered(samples)), results, strict=True):
            made[path] = files.encode(files.to_pil(result, bits))
        if observation.photo is not None:
            drawn_paths = self._paths(source, _drawn(samples, photo=True))
            for path, image in zip(drawn_paths, images, strict=True):
                made[path] = files.encode(files.to_pil(image))
        return made

    def _stale(self, source: Source, before: dict, is_photo: bool) -> list[Path]:
        """Pictures of an earlier result that are no part of this one."""
        samples = before.get("samples")
        count = min(samples, MOST_SAMPLES) if isinstance(samples, int) else 1
        earlier = set(self._paths(source, _suffixes(count, photo=True)))
        return sorted(earlier - set(self._targets(source, is_photo)))

    def _tiles(
        self, observation: Observation, images: list[Tensor], result: Tensor
    ) -> dict[str, Image]:
        """The tiles of the sheet; `result` is the whole photo, or the first image."""
        tiles: dict[str, Tensor] = {}
        photo = observation.photo
        if observation.clean is not None:
            tiles["clean"] = observation.clean
        if photo is None:
            tiles["observed"] = observation.pixels
            tiles["restored"] = images[0]
        else:
            side = max(self.images.side or 0, round(photo.spot.side))
            tiles["photo"] = observation.pixels
            tiles["the part"] = photo.aligned(side)
            tiles["restored"] = images[0]
            tiles["pasted back"] = result
        for number, image in enumerate(images[1:], 2):
            tiles[f"sample {number}"] = image
        if self.images.side is None:
            tiles.update(details(observation.pixels, result))
        if len(images) > 1:
            tiles[f"spread, white is {SPREAD}"] = spread(images) / SPREAD
        if observation.manifest is not None:
            written = files.from_pil(files.to_pil(result, observation.grey_bits or 8))
            degraded = again(written, observation.manifest, observation.operator)
            tiles["restored, degraded again"] = degraded
        return {caption: files.to_pil(tile) for caption, tile in tiles.items()}


def _curves(solved: list[Solved]) -> dict:
    """What a log says of the solves: their notes, and the curves of loss and terms, averaged."""
    terms = {}
    for name in solved[0].terms:
        terms[name] = _mean_curve([solution.terms[name] for solution in solved])
    loss = _mean_curve([solution.losses for solution in solved])
    return {"notes": list(solved[0].notes), "loss": loss, "terms": terms}


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


def restored(
    job: RestoreJob, solver: Solver, settings: RestoreSettings, bar: SolveBar | None
) -> list[Solved]:
    """Solve one picture, once for each sample."""
    if bar is not None:
        bar.start(job.name)
    return solver.solve(
        job.observed.expand(len(job.seeds), -1, -1, -1),
        job.operator,
        settings.method,
        job.seeds,
        **settings.arguments(),
        class_label=settings.class_label,
        init=job.init,
        identity=solver.identity,
        consistency=settings.keep_visible,
    )


def _note_uncertain(source: Source, operator: degrade.Operator) -> None:
    """Say that --keep-visible has no effect, and which stages are the reason."""
    if not operator.certain:
        stages = ", ".join(str(stage) for stage in operator if not stage.certain)
        reason = f"{stages} leaves nothing certain of what was before it"
        note(f"{source.path}: nothing is kept, for {reason}")


def _text(operator: degrade.Operator) -> str:
    """The operator as text, with files named by their content instead of their paths."""
    return str(collect(operator, lambda name, data: None))


def refuse_generator_options(
    prior: invert.Generator | invert.Denoiser, where: Where, samples: int
) -> None:
    """Raise ValueError for options that only a generator has a use for."""
    if prior.prior_kind == "generator":
        return
    if where:
        raise ValueError(
            "--align and --box choose the part of a photo that a generator draws; leave them out, "
            "or name a generator with --prior"
        )
    if samples > 1:
        raise ValueError(
            f"--samples {samples}: a denoiser gives one answer; leave it out, or name a generator "
            "with --prior"
        )
