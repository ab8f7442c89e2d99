"""The pictures that a denoiser learns from, and those held out to measure it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

from degrade.imagefile import contents, picture
from degrade.rng import child_seed
from invert.draws import stream
from invert.patches import random_part
from invert.recipe import MULTIPLE, Recipe

from . import files
from .console import say
from .engine import attempt
from .files import Source

HELD_OUT = 0.1  # share of the pictures that are held out, if no other folder is given
MOST_HELD_OUT = 16
CROP = 256  # side of the part of a held-out picture that is measured, in pixels
MEMORY = 4 * 10**9  # bytes of all pictures; of larger ones a part is kept


Pictures = Sequence[Source]


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
    sources = _inputs(images, leave_out)
    if validation is None:
        hidden = _drawn_lots(sources, images, seed)
        held_out = [source for source in sources if _digest(source) in hidden]
    else:
        held_out = _inputs(validation, leave_out)
        hidden = set(map(_digest, held_out))
    learned = [source for source in sources if _digest(source) not in hidden]
    if not learned:
        raise ValueError(f"{images} holds no picture that {validation} does not hold, too")
    return TrainingSet(learned, held_out)


def _drawn_lots(sources: Pictures, folder: Path, seed: int) -> set[str]:
    """The digests of the pictures that are held out."""
    digests = set(map(_digest, sources))
    if len(digests) < 2:
        raise ValueError(
            f"{folder} holds one picture, and one is held out to measure the result; "
            "add pictures, or name a folder by --validation"
        )
    in_random_order = sorted(digests, key=partial(child_seed, seed))
    count = max(1, round(HELD_OUT * len(digests)))
    return set(in_random_order[: min(count, MOST_HELD_OUT)])


def read_learned(
    sources: Pictures, recipe: Recipe, report: Callable[[int], None]
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
        sizes = usable_sizes(source, recipe)
        failed += not sizes
        for pixels in sizes:
            generator = stream(recipe.seed, "part", source.relative, pixels.shape)
            part = part_of(pixels, most // len(sizes), recipe.patch, generator)
            pictures.append(part)
        report(number)
    if not pictures:
        raise ValueError("no picture can be used; each is named above")
    return pictures, failed


def read_held_out(sources: Pictures, recipe: Recipe) -> tuple[list[Tensor], int]:
    """Read the middle of pictures at the smallest size of the recipe, as uint8 [C, H, W].

    Returns them, and the number of files that cannot be used. Raises ValueError if none can be.
    """
    pictures: list[Tensor] = []
    failed = 0
    for source in sources:
        sizes = usable_sizes(source, recipe)
        failed += not sizes
        for pixels in sizes[-1:]:
            pictures.append(_middle(pixels))
    if not pictures:
        raise ValueError("no held-out picture can be used; each is named above")
    return pictures, failed


def usable_sizes(source: Source, recipe: Recipe) -> list[Tensor]:
    """A picture at every size of the recipe that holds a patch, from the largest.

    There is none if the file cannot be used; it is then named on a line.
    """
    sizes = attempt(_sizes, source, recipe)
    if isinstance(sizes, Exception):
        is_named = str(source.path) in str(sizes)
        say(f"error: {sizes}" if is_named else f"error: {source.path}: {sizes}")
        return []
    return sizes


def _sizes(source: Source, recipe: Recipe) -> list[Tensor]:
    path = source.path
    image = picture(contents(path), str(path), recipe.channels)
    longest = max(image.size)
    smaller = [side for side in recipe.longest_sides if side < longest]
    smaller.sort(reverse=True)
    sizes = []
    for side in smaller or [longest]:
        width = round(image.width * side / longest)
        height = round(image.height * side / longest)
        if min(width, height) >= recipe.patch:
            reduced = image.resize((width, height), Image.Resampling.LANCZOS)
            sizes.append(_pixels(reduced))
    if not sizes:
        size = f"{image.width}x{image.height} pixels"
        raise ValueError(f"{path} has {size}, too few for a patch of {recipe.patch}")
    return sizes


def _pixels(image: Image.Image) -> Tensor:
    """[C, H, W], uint8."""
    levels = numpy.atleast_3d(numpy.array(image))
    channels_first = torch.from_numpy(levels).permute(2, 0, 1)
    return channels_first.contiguous()


def part_of(pixels: Tensor, most: int, least_side: int, generator: torch.Generator) -> Tensor:
    """A copy of a random part of a picture that has at most `most` values, or all of it.

    The part has the picture's proportions, but no side below `least_side`.
    """
    scale = math.sqrt(most / pixels.numel())
    if scale >= 1:
        return pixels
    height, width = pixels.shape[1:]
    part_height = min(height, max(least_side, int(height * scale)))
    part_width = min(width, max(least_side, int(width * scale)))
    return random_part(pixels, part_height, part_width, generator).clone()


def _middle(pixels: Tensor) -> Tensor:
    """The middle of a picture, with sides that the network takes."""
    height, width = pixels.shape[1:]
    part_height = min(CROP, height // MULTIPLE * MULTIPLE)
    part_width = min(CROP, width // MULTIPLE * MULTIPLE)
    top = (height - part_height) // 2
    left = (width - part_width) // 2
    return pixels[:, top : top + part_height, left : left + part_width]


def _inputs(folder: Path, leave_out: Path) -> list[Source]:
    """The pictures of a folder but one."""
    outside = leave_out.resolve()
    sources = files.gather([folder])
    return [source for source in sources if source.path.resolve() != outside]


def _digest(source: Source) -> str:
    return files.digest(source.path)


def _joint_digest(sources: Pictures) -> str:
    digests = sorted(map(_digest, sources))
    joined = " ".join(digests).encode()
    return f"sha256:{sha256(joined).hexdigest()}"
