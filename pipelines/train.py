"""`degrade train`: train a denoiser on a folder of pictures.

While it trains, a state is kept beside the output, from which a stopped run goes on. At the end the
denoiser, a sheet and a log are written together, and the state is removed.
"""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import invert
from degrade.imagefile import contents
from degrade.values import Range, parse_value, show
from invert.load import find
from invert.recipe import Recipe
from invert.training import Training, decibels, denoised, noisy_picture, psnr, recipe_of_start

from . import atomic, files, records
from .changes import differences
from .console import say
from .progress import TrainBar
from .results import thinned
from .sheet import sheet
from .solver import device_of
from .training_set import TrainingSet, choose, read_held_out, read_learned

LOG = "training"  # the kind of record that a finished training leaves
STATE = "state of a training"
CHANNELS = {"colour": 3, "grey": 1}
NOISE = (5, 15, 25, 50, 100)  # levels of 255 at which the denoiser is measured
MEASURE_EVERY = 500  # steps
SAVE_EVERY = 60.0  # seconds
_RECENT = 100  # steps whose mean loss is shown


@dataclass(frozen=True)
class Train:
    """A training: what it learns from, and where it writes.

    output: the .safetensors file. The sheet, the log and the state lie beside it. start: the
    denoiser whose weights are trained further, as `load_prior` takes it; None: random weights.
    """

    recipe: Recipe
    output: Path
    images: Path
    validation: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    start: str | None = None

    def __post_init__(self) -> None:
        if self.output.suffix != ".safetensors":
            raise ValueError(f"{self.output} must end in .safetensors")

    @property
    def sheet(self) -> Path:
        return self.output.with_suffix(".png")

    @property
    def log(self) -> Path:
        return self.output.with_suffix(".json")

    @property
    def state(self) -> Path:
        return self.output.with_name(self.output.name + ".state")

    def run(self, bar: TrainBar) -> int:
        """Train, or go on with a training that was stopped. Returns the exit code."""
        device = device_of(self.device)
        start = None if self.start is None else load_start(self.start)
        before = records.earlier(self.log, LOG, [self.output, self.sheet])
        pictures = choose(self.images, self.validation, self.recipe.seed, self.sheet)
        settings = self._settings(start) | pictures.settings
        self._refuse_other_settings(before, settings)
        atomic.sweep(self.output.parent)
        if self._is_finished(before) and not differences(before, settings):
            say(f"{self.output} is already trained, skipped")
            return 0
        progress = self._progress(settings)
        failed = self._train(pictures, progress, device, start, bar)
        return 3 if failed else 0

    def _settings(self, start: invert.Denoiser | None) -> dict[str, Any]:
        """What decides the result besides the pictures, for the log."""
        recipe, digest = self.recipe, None
        if self.start is not None and start is not None:
            recipe = recipe_of_start(recipe, start)
            digest = files.digest(find(self.start))
        return recorded(recipe) | {"start": self.start, "start_digest": digest}

    def _is_finished(self, before: dict | None) -> bool:
        """Whether an earlier run wrote all files of its result, and they are whole."""
        if before is None or before.get("begun"):
            return False
        return records.are_whole(self.log, before, [self.output, self.sheet])

    def _refuse_other_settings(self, before: dict | None, settings: dict) -> None:
        changes = differences(before, settings)
        if changes and not self.overwrite:
            raise ValueError(
                f"{self.output} was trained with other settings ({'; '.join(changes)}); "
                "add --overwrite to replace it, or choose another --output"
            )

    def _progress(self, settings: dict) -> Progress:
        """What a run that was stopped has reached, or the beginning."""
        progress = read_state(self.state)
        if progress is None:
            return Progress(settings)
        changes = differences(progress.settings, settings)
        if not changes:
            return progress
        if self.overwrite:
            return Progress(settings)
        raise ValueError(
            f"{self.state} is of a training with other settings ({'; '.join(changes)}); "
            "add --overwrite to begin anew, or choose another --output"
        )

    def _train(
        self,
        pictures: TrainingSet,
        progress: Progress,
        device: str,
        start: invert.Denoiser | None,
        bar: TrainBar,
    ) -> int:
        """Train, and write the results. Returns the number of pictures that cannot be used."""
        held_out, failed_held_out = read_held_out(pictures.held_out, self.recipe)
        bar.begin("reading", len(pictures.learned))
        learned, failed = read_learned(pictures.learned, self.recipe, bar.update)
        training = Training(learned, self.recipe, device, start)
        if progress.training is not None:
            training.load_state_dict(progress.training)
        bar.begin("training", self.recipe.steps, training.step)
        training.run(Watch(self.state, progress, held_out, bar))
        self._write(training, progress, held_out)
        return failed + failed_held_out

    def _write(self, training: Training, progress: Progress, held_out: Sequence[Tensor]) -> None:
        denoiser = training.denoiser()
        picture = comparison(denoiser, held_out, noise_levels(self.recipe))
        about = {
            **progress.settings,
            "loss": thinned(training.losses),
            "psnr": progress.measurements,
        }
        made = {self.output: denoiser_bytes(denoiser), self.sheet: files.encode(picture)}
        records.write_result(self.log, LOG, about, made)
        self.state.unlink(missing_ok=True)


@dataclass
class Progress:
    """What a training has reached.

    settings: of the training. measurements: a dict for each, with the step and the PSNR in dB by
    noise level. training: the state to go on from, None at the beginning.
    """

    settings: dict[str, Any]
    measurements: list[dict[str, float]] = field(default_factory=list)
    training: dict[str, Any] | None = None


class Watch:
    """Called after every step: measures the denoiser, saves the state, and moves the bar."""

    def __init__(self, state: Path, progress: Progress, held_out: Sequence[Tensor], bar: TrainBar):
        self._state = state
        self._progress = progress
        self._held_out = held_out
        self._bar = bar
        self._saved_at = time.monotonic()

    def __call__(self, training: Training) -> None:
        is_last = training.step == training.recipe.steps
        if is_last or training.step % MEASURE_EVERY == 0:
            self._progress.measurements.append(measured(training, self._held_out))
        if time.monotonic() - self._saved_at >= SAVE_EVERY:
            self._progress.training = training.state_dict()
            write_state(self._state, self._progress)
            self._saved_at = time.monotonic()
        self._bar.update(training.step, self._words(training))

    def _words(self, training: Training) -> str:
        recent = training.losses[-_RECENT:]
        words = f"loss {sum(recent) / len(recent):.4f}"
        if self._progress.measurements:
            levels = noise_levels(training.recipe)
            middle = f"{levels[len(levels) // 2]:g}"
            words += f", {self._progress.measurements[-1][middle]:.1f} dB at {middle}"
        return words


def measured(training: Training, held_out: Sequence[Tensor]) -> dict[str, float]:
    """The step, and the mean PSNR in dB of the held-out pictures at each noise level."""
    measurement: dict[str, float] = {"step": training.step}
    for level in noise_levels(training.recipe):
        value = psnr(training.average, held_out, level / 255)
        measurement[f"{level:g}"] = round(value, 2)
    return measurement


def noise_levels(recipe: Recipe) -> list[float]:
    """The levels of 255 at which a denoiser is measured: those it is trained on."""
    low, high = recipe.sigma
    levels: list[float] = [level for level in NOISE if low <= level / 255 <= high]
    middle = 255 * math.sqrt(low * high)
    return levels or [float(f"{middle:.3g}")]


def comparison(
    denoiser: invert.Denoiser, held_out: Sequence[Tensor], levels: Sequence[float]
) -> Image.Image:
    """A sheet with a row for each noise level: clean, noisy, and denoised."""
    rows = []
    for number, level in enumerate(levels):
        pixels = held_out[number % len(held_out)]
        noisy = noisy_picture(pixels, level / 255, number)
        estimate = denoised(denoiser, noisy, level / 255)
        row = sheet(
            {
                "clean": files.to_pil(pixels[None] / 255),
                f"noise {level:g}": files.to_pil(noisy),
                f"denoised, {decibels(estimate, pixels):.1f} dB": files.to_pil(estimate),
            }
        )
        rows.append(row)
    width, height = rows[0].size
    canvas = Image.new("RGB", (width, height * len(rows)), "white")
    for number, row in enumerate(rows):
        canvas.paste(row, (0, height * number))
    return canvas


def denoiser_bytes(denoiser: invert.Denoiser) -> bytes:
    """The content of a file of `invert.save_denoiser`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "denoiser.safetensors"
        invert.save_denoiser(denoiser, path)
        return path.read_bytes()


def load_start(name: str) -> invert.Denoiser:
    """The denoiser that is trained further. Raises ValueError for a prior of another kind."""
    prior = invert.load_prior(name)
    if not isinstance(prior, invert.Denoiser):
        raise ValueError(f"--start {show(name)} is a generator; give a denoiser, such as photo")
    return prior


def recorded(recipe: Recipe) -> dict[str, Any]:
    """The constants of a recipe as JSON gives them back."""
    text = json.dumps(asdict(recipe))
    constants: dict[str, Any] = json.loads(text)
    return constants


def sigma_range(text: str) -> tuple[float, float]:
    """The noise levels that LOW..HIGH stands for. Raises ValueError for another text."""
    value = parse_value(text)
    if not isinstance(value, Range) or value.power != 1:
        raise ValueError(f"--sigma {show(text)} must be LOW..HIGH, such as 0.005..1")
    return float(value.low), float(value.high)


def channels_of(name: str) -> int:
    """How many channels a word stands for. Raises ValueError for another word."""
    if name not in CHANNELS:
        raise ValueError(f"--channels {show(name)} must be one of {', '.join(CHANNELS)}")
    return CHANNELS[name]


def write_state(path: Path, progress: Progress) -> None:
    """Save how far a training is, atomically."""
    buffer = io.BytesIO()
    header = {"kind": STATE, "format": records.FORMAT}
    torch.save(header | vars(progress), buffer)
    atomic.write(path, buffer.getvalue())


def read_state(path: Path) -> Progress | None:
    """What `write_state` saved, or None without a file. Raises ValueError for other content.

    The file is read without running anything in it.
    """
    if not path.exists():
        return None
    saved: dict[str, Any] = {}
    if zipfile.is_zipfile(path):
        with suppress(Exception):  # a damaged file may raise anything
            saved = torch.load(io.BytesIO(contents(path)), weights_only=True)
    kind = saved.pop("kind", None)
    version = saved.pop("format", None)
    if (kind, version) != (STATE, records.FORMAT):
        raise ValueError(f"{path} is not a {STATE} of degrade's; move it away")
    return Progress(**saved)
