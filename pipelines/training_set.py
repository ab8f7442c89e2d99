"""The pictures that a denoiser learns from, and those held out to measure it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

from degrade.imagefile import contents, picture
from degrade.rng import child_seed
from invert.recipe import MULTIPLE, Recipe

from . import files
from .console import say
from .engine import attempt
from .files import Source

HELD_OUT = 0.1  # share of the pictures that are held out, if no other folder is given
MOST_HELD_OUT = 16
CROP = 256  # side of the part of a held-out picture that is measured, in pixels
MEMORY = 4 * 10**9  # bytes of all pictures; of larger ones a part is kept


@dataclass(frozen=True)
class TrainingSet:
    """Which pictures a denoiser learns from, and which it never sees but to be measured."""

    learned: list[Source]
    held_out: list[Source]

    @property
    def settings(self) -> dict[str, str]:
        """What decides the pictures, for the log: digests that any change of a file changes."""
        return {"pictures": _joint_digest(self.learned), "held_out": _joint_digest(self.held_out)}


def choose(images: Path, validation: Path | None, seed: int, leave_out: Path) -> TrainingSet:
    """Divide the pictures of a folder; those of another folder are held out instead if given.

    Two files of the same content are never on different sides. leave_out: a file that is no input,
    though it may lie in the folder. Raises ValueError if nothing is left to learn from or to hold
    out.
    """
    sources = _without(files.gather([images]), leave_out)
    digests = {source: files.digest(source.path) for source in sources}
    if validation is not None:
        held_out = _without(files.gather([validation]), leave_out)
        hidden = {files.digest(source.path) for source in held_out}
        learned = [source for source in sources if digests[source] not in hidden]
        if not learned:
            raise ValueError(f"{images} holds no picture that {validation} does not hold, too")
        return TrainingSet(learned, held_out)
    different = sorted(set(digests.values()), key=lambda digest: child_seed(seed, digest))
    if len(different) < 2:
        raise ValueError(
            f"{images} holds one picture, and one is held out to measure the result; "
            "add pictures, or name a folder by --validation"
        )
    count = round(HELD_OUT * len(different))
    hidden = set(different[: min(max(count, 1), MOST_HELD_OUT)])
    learned = [source for source in sources if digests[source] not in hidden]
    held_out = [source for source in sources if digests[source] in hidden]
    return TrainingSet(learned, held_out)


def read_learned(
    sources: Sequence[Source], recipe: Recipe, report: Callable[[int], None]
) -> tuple[list[Tensor], int]:
    """Read pictures, each at every size of the recipe, as uint8 [C, H, W].

    report: called with the number of pictures read so far. Returns the pictures, and the number of
    files that cannot be used, each of which is named on a line.
    Raises ValueError if none can be used.
    """
    most = MEMORY // len(sources)
    pictures: list[Tensor] = []
    failed = 0
    for number, source in enumerate(sources, 1):
        sizes = attempt(_sizes, source, recipe)
        if isinstance(sizes, Exception):
            failed += 1
            _say_unused(source, sizes)
        else:
            share = most // len(sizes)
            for pixels in sizes:
                seed = child_seed(recipe.seed, "part", source.relative, pixels.shape)
                pictures.append(part_of(pixels, share, recipe.patch, seed))
        report(number)
    if not pictures:
        raise ValueError("no picture can be used; each is named above")
    return pictures, failed


def read_held_out(sources: Sequence[Source], recipe: Recipe) -> tuple[list[Tensor], int]:
    """Read the middle of pictures at the smallest size of the recipe, as uint8 [C, H, W].

    Returns them, and the number of files that cannot be used. Raises ValueError if none can be.
    """
    pictures: list[Tensor] = []
    failed = 0
    for source in sources:
        sizes = attempt(_sizes, source, recipe)
        if isinstance(sizes, Exception):
            failed += 1
            _say_unused(source, sizes)
        else:
            pictures.append(_middle(sizes[-1]))
    if not pictures:
        raise ValueError("no held-out picture can be used; each is named above")
    return pictures, failed


def part_of(pixels: Tensor, most: int, least_side: int, seed: int) -> Tensor:
    """A copy of a random part of a picture that has at most `most` values, or all of it.

    The part has the picture's proportions, but no side below `least_side`.
    """
    channels, height, width = pixels.shape
    scale = (most / pixels.numel()) ** 0.5
    if scale >= 1:
        return pixels
    part_height = min(height, max(least_side, int(height * scale)))
    part_width = min(width, max(least_side, int(width * scale)))
    generator = torch.Generator().manual_seed(seed)
    top = int(torch.randint(height - part_height + 1, (), generator=generator))
    left = int(torch.randint(width - part_width + 1, (), generator=generator))
    return pixels[:, top : top + part_height, left : left + part_width].clone()


def _sizes(source: Source, recipe: Recipe) -> list[Tensor]:
    """A picture at every size of the recipe that holds a patch, from the largest."""
    image = picture(contents(source.path), str(source.path), recipe.channels)
    longest = max(image.size)
    smaller = [side for side in recipe.longest_sides if side < longest]
    sizes = []
    for side in sorted(smaller, reverse=True) or [longest]:
        width = round(image.width * side / longest)
        height = round(image.height * side / longest)
        if min(width, height) >= recipe.patch:
            sizes.append(_pixels(image.resize((width, height), Image.Resampling.LANCZOS)))
    if not sizes:
        size = f"{image.width}x{image.height} pixels"
        raise ValueError(f"{source.path} has {size}, too few for a patch of {recipe.patch}")
    return sizes


def _pixels(image: Image.Image) -> Tensor:
    """[C, H, W], uint8."""
    levels = numpy.atleast_3d(numpy.array(image))
    return torch.from_numpy(levels).permute(2, 0, 1).contiguous()


def _middle(pixels: Tensor) -> Tensor:
    """The middle of a picture, with sides that the network takes."""
    height, width = pixels.shape[1:]
    part_height = min(CROP, height // MULTIPLE * MULTIPLE)
    part_width = min(CROP, width // MULTIPLE * MULTIPLE)
    top = (height - part_height) // 2
    left = (width - part_width) // 2
    return pixels[:, top : top + part_height, left : left + part_width]


def _without(sources: Sequence[Source], leave_out: Path) -> list[Source]:
    path = leave_out.resolve()
    return [source for source in sources if source.path.resolve() != path]


def _joint_digest(sources: Sequence[Source]) -> str:
    digests = sorted(files.digest(source.path) for source in sources)
    return f"sha256:{sha256(' '.join(digests).encode()).hexdigest()}"


def _say_unused(source: Source, error: Exception) -> None:
    named = str(source.path) in str(error)
    say(f"error: {error}" if named else f"error: {source.path}: {error}")
