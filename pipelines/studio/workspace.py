"""A visitor's picture, and what `degrade apply` makes of it, in a temporary folder.

Everything that is shown is a file that `Apply` wrote, so it has the bits of `degrade apply`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

import invert
from degrade.imagefile import contents, opened, picture
from degrade.operator import Operator, Shape
from degrade.rng import child_seed
from invert.dead_leaves import dead_leaves

from .. import files
from ..apply import Apply, degraded
from ..console import shortened
from ..files import Source
from .cards import Cards, operator_of

MOST_BYTES = 32 * 2**20  # of an upload
MOST_PIXELS = 16_000_000  # of an upload, and of a picture between two stages
SAMPLES = ("portrait", "another portrait", "shapes")  # pictures that the package can draw
SAMPLE_SIDE = 512  # of the picture of shapes
SAMPLE_RADII = (16, 600)  # of its discs; smaller ones would take seconds to draw


@dataclass(frozen=True)
class Picture:
    """A visitor's picture, and the shape [1, C, H, W] of its pixels."""

    source: Source
    shape: Shape

    @property
    def name(self) -> str:
        return self.source.path.name


@dataclass(frozen=True)
class Shown:
    """What the page shows of a degraded picture; the three files are in the workspace."""

    before: Path
    after: Path
    manifest: Path
    words: str  # sizes, the operator that was drawn, and what else a user must know


@dataclass(frozen=True)
class Workspace:
    """The temporary folder of a visitor."""

    folder: Path

    @classmethod
    def new(cls, parent: Path) -> Workspace:
        return cls(Path(tempfile.mkdtemp(prefix="visitor-", dir=parent)))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def results(self) -> Path:
        """The folder with the degraded picture and its manifest."""
        return self.folder / "degraded"

    def receive(self, upload: Path) -> Picture:
        """Take a picture that was uploaded.

        Raises ValueError, in one line, for a file that is no picture, is damaged or too large.
        """
        size = upload.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(
                f"{upload.name} has {size:,} bytes, and the studio takes {MOST_BYTES:,}; "
                "reduce or crop it, or use `degrade apply`"
            )
        data = contents(upload, upload.name)
        opened(data, upload.name, lambda image: _check_pixels(upload.name, *image.size))
        return self._keep(upload.name, data)

    def sample(self, name: str) -> Picture:
        """A picture to play with, one of SAMPLES."""
        data = files.encode(files.to_pil(_sample(name)))
        return self._keep(f"{name.replace(' ', '-')}.png", data)

    def _keep(self, name: str, data: bytes) -> Picture:
        """Replace the visitor's picture, and remove what was made of the one before."""
        pixels = files.from_pil(picture(data, name, channels=None, deep=True))
        folder = self.folder / "picture"
        for stale in (folder, self.results):
            shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir()
        path = folder / name
        path.write_bytes(data)
        return Picture(Source(path, Path(name)), tuple(pixels.shape))

    def apply(self, given: Picture, cards: Cards, seed: int) -> Shown:
        """Degrade the picture as `degrade apply --seed` does, and write it with its manifest."""
        begun = time.perf_counter()
        operator = operator_of(cards)
        _refuse_large_stages(operator, given, seed)
        flow = Apply(operator, self.results, seed, overwrite=True)
        source, job = flow.plan(given.source)
        assert job is not None  # `plan` always returns one
        result = degraded(job)
        after = flow.finish(source, result)
        milliseconds = (time.perf_counter() - begun) * 1000
        words = [
            f"{_size_text(result.source_size)} → {_size_text(result.size)}",
            f"{len(result.data):,} bytes",
            f"{milliseconds:.0f} ms",
        ]
        if result.note is not None:
            words.append(result.note)
        if not result.operator.startswith(flow.spec):
            words.append(f"drawn: {shortened(result.operator)}")
        return Shown(source.path, after, source.target(self.results, ".json"), " · ".join(words))


def _check_pixels(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{name} has {width} x {height} pixels, and the studio takes {MOST_PIXELS:,}; "
            "reduce or crop it, or use `degrade apply`"
        )


def _refuse_large_stages(operator: Operator, given: Picture, seed: int) -> None:
    """Raise ValueError if a stage makes a picture of more than MOST_PIXELS."""
    random = torch.Generator().manual_seed(child_seed(seed, given.name))
    shape = given.shape
    for stage in operator.row(0, 1).sample(shape, random):
        shape = stage.output_shape(shape)
        *_, height, width = shape
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"{stage} makes {width} x {height} pixels, and the studio takes {MOST_PIXELS:,}; "
                "make it smaller, or use `degrade apply`"
            )


def _size_text(size: list[int]) -> str:
    height, width = size
    return f"{width}×{height}"


@cache
def _sample(name: str) -> Tensor:
    """A sample [1, 3, H, W]: an avatar of the bundled generator, or shapes in its colours."""
    generator = invert.load_generator("avatars-128")
    random = torch.Generator().manual_seed(SAMPLES.index(name))
    z = torch.randn(1, generator.z_dim, generator=random)
    with torch.no_grad():
        avatar = generator.synthesize(generator.mapping(z, None)).clamp(0, 1)
    if name != "shapes":
        return avatar
    return dead_leaves(SAMPLE_SIDE, SAMPLE_SIDE, avatar[0], random, SAMPLE_RADII)[None]
