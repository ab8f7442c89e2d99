"""Pictures and latents in files: find them, read them, and encode them."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from degrade import imagefile
from degrade.imagefile import FORMATS, NO_SAFETENSORS, contents, picture
from degrade.images import shows_picture
from degrade.photofile import Levels

SUFFIXES = {suffix for suffixes in imagefile.SUFFIXES.values() for suffix in suffixes}
_PERCEPTUAL = 0  # the rendering intent, which PNG writes beside the name of sRGB


@dataclass(frozen=True)
class Source:
    """An input picture, and its path relative to the folder that was given."""

    path: Path
    relative: Path
    keep_suffix: bool = False  # in the names of results, because another input has the same stem

    def result_name(self, suffix: str) -> Path:
        """The relative path of a result: `a.json` for `a.jpg`.

        It is `a.jpg.json` if another input of the folder has the same stem, such as `a.png`.
        """
        if self.keep_suffix:
            return self.relative.with_name(self.relative.name + suffix)
        return self.relative.with_suffix(suffix)

    def target(self, folder: Path, suffix: str) -> Path:
        """The path of a result. Raises ValueError in the input's own folder, to protect inputs."""
        path = folder / self.result_name(suffix)
        if path.parent.exists() and path.parent.samefile(self.path.parent):
            raise ValueError(f"{path.parent} holds the input; choose another --output")
        return path


def gather(inputs: Sequence[Path], output: Path | None = None) -> list[Source]:
    """The pictures among files and folders, in a fixed order; folders are searched recursively.

    Pictures below `output` are left out, see `left_out`. A picture that is given twice counts once.
    Raises ValueError for a missing input, and if there is no picture at all.
    """
    sources: dict[tuple[str, str], Source] = {}
    for given in inputs:
        for source in _sources_of(given, output):
            place = os.path.realpath(source.path)
            sources.setdefault((place, _text(source.relative)), source)
    if not sources:
        is_above = output is not None and left_out(inputs, output, [])
        where = f" outside {output}, where results go" if is_above else ""
        raise ValueError(f"no picture found{where}; files may end in {' '.join(sorted(SUFFIXES))}")
    return _with_distinct_names(list(sources.values()))


def left_out(inputs: Sequence[Path], output: Path, sources: Iterable[Source]) -> list[Path]:
    """The pictures below `output` that are no sources, although a folder above it was given."""
    if not any(_is_above(given, output) for given in inputs):
        return []
    taken = {os.path.realpath(source.path) for source in sources}
    return [path for path in _pictures_below(output) if os.path.realpath(path) not in taken]


def refuse_missing(*options: tuple[str, Path | None]) -> None:
    """Raise ValueError if the path of an option, as in ("--clean", path), does not exist."""
    for option, path in options:
        if path is not None and not path.exists():
            raise ValueError(f"{option} {path} does not exist; check the path")


def _sources_of(given: Path, output: Path | None) -> list[Source]:
    if given.is_file():
        return [Source(given, Path(given.name))]
    if not given.is_dir():
        problem = "is neither a file nor a folder" if given.exists() else "does not exist"
        raise ValueError(f"{given} {problem}; check the path")
    results = None
    if output is not None and _is_above(given, output):
        results = output.resolve()
    sources = []
    for path in _pictures_below(given):
        if results is None or results not in path.resolve().parents:
            sources.append(Source(path, path.relative_to(given)))
    return sources


def _pictures_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and its folders that have the name of a picture, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def _is_above(folder: Path, output: Path) -> bool:
    return folder.resolve() in output.resolve().parents


def _with_distinct_names(sources: list[Source]) -> list[Source]:
    """Keep the suffix in result names wherever two pictures of one folder share a stem."""
    while True:
        shared = _shared_names(sources)
        if not shared:
            return sources
        renamed = []
        for source in sources:
            is_shared = _text(source.result_name("")) in shared
            renamed.append(replace(source, keep_suffix=True) if is_shared else source)
        sources = renamed  # a.jpg may now share its name with a.jpg.png


def _shared_names(sources: Iterable[Source]) -> set[str]:
    """The names of results, without a suffix, that inputs of different names have in common."""
    owners: dict[str, str] = {}
    shared = set()
    for source in sources:
        name = _text(source.result_name(""))
        relative = _text(source.relative)
        if owners.setdefault(name, relative) != relative:
            shared.add(name)
    return shared


def _text(path: Path) -> str:
    """A text that is equal for equal paths; it takes a quarter of their memory."""
    return os.path.normcase(path)


def read_image(path: Path, channels: int | None = 3, deep: bool = False) -> Tensor:
    """The picture in a file, [1, C, H, W] in [0, 1]; for the arguments see `imagefile.picture`."""
    return from_pil(picture(contents(path), str(path), channels, deep))


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture, or begins as one does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    with suppress(Exception), Image.open(path, formats=FORMATS):  # Pillow raises almost anything
        return True
    return False


def from_pil(image: Image.Image) -> Tensor:
    """[1, C, H, W] in [0, 1] of a picture of 8 bits a channel, or of grey of 16 bits."""
    array = numpy.atleast_3d(numpy.array(image))
    pixels = torch.from_numpy(array.astype(numpy.float32))
    largest = 65535 if image.mode.startswith("I;16") else 255
    return pixels.permute(2, 0, 1)[None] / largest


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return sha256(contents(path)).hexdigest()


def pixel_digest(file: Path | IO[bytes]) -> str:
    """SHA-256 of a picture's 8-bit pixels, row by row, whichever program wrote the file."""
    with Image.open(file) as image:
        size = f"{image.mode} {image.width}x{image.height}\n"
        return sha256(size.encode() + image.tobytes()).hexdigest()


def levels_of(picture: Tensor, bits: int = 8) -> Levels:
    """Convert a picture [1, C, h, w] to levels [h, w, C] of 8 or 16 bits.

    Values are clamped to [0, 1] and rounded half to even. Raises ValueError if the picture holds
    NaN.
    """
    planes = picture.detach().cpu()[0]
    channels, height, width = planes.shape
    highest = 2**bits - 1
    level_type = numpy.uint8 if bits == 8 else numpy.uint16
    levels: Levels = numpy.empty((height, width, channels), level_type)
    for channel, plane in enumerate(planes):  # one at a time, since photos are large
        if plane.isnan().any():
            raise ValueError("the picture holds NaN and cannot be written")
        if bits > 8:
            plane = plane.double()  # float32 has too few digits for a product of 16 bits
        rounded = plane.clamp(0, 1).mul_(highest).round_()
        levels[:, :, channel] = rounded.numpy()
    return levels


def viewable(observation: Tensor) -> Tensor:
    """An observation [1, C, h, w] as a picture to look at.

    Measurements, which are no picture, are folded into a square. -1 is black, 0 is grey, as are
    the pixels that the square has beyond them.
    """
    if shows_picture(observation.shape):
        return observation
    _, channels, _, count = observation.shape
    side = math.ceil(math.sqrt(count))
    square = observation.new_zeros(1, channels, side * side)
    square[..., :count] = observation[:, :, 0]
    return square.view(1, channels, side, side) / 2 + 0.5


def encode_array(x: Tensor) -> bytes:
    """The numbers of a tensor as a file of numpy (.npy), in float32."""
    buffer = io.BytesIO()
    numpy.save(buffer, x.detach().cpu().float().numpy())
    return buffer.getvalue()


def to_pil(x: Tensor, bits: int = 8) -> Image.Image:
    """The picture of x [1, C, H, W], as `levels_of` rounds it.

    bits: 8, or 16 for grey (C = 1). Raises ValueError if x holds NaN.
    """
    levels = levels_of(x, bits)
    is_grey = levels.shape[2] == 1
    return Image.fromarray(levels[:, :, 0] if is_grey else levels)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file. A PNG is marked as sRGB, so that viewers agree on its colours."""
    buffer = io.BytesIO()
    if format == "PNG":
        marks = PngInfo()
        marks.add(b"sRGB", bytes([_PERCEPTUAL]))
        options["pnginfo"] = marks
    image.save(buffer, format, **options)
    return buffer.getvalue()


def latent_bytes(latent: Tensor) -> bytes:
    """A safetensors file that holds a latent."""
    from safetensors.torch import save

    return save({"latent": latent.cpu().contiguous()})


def read_latent(path: Path) -> Tensor:
    """The latent in a file of `latent_bytes`. Raises ValueError for any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(contents(path))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} holds no latent of degrade's: {NO_SAFETENSORS}") from error
    if "latent" not in tensors:
        raise ValueError(f"{path} holds no latent of degrade's: it has no tensor of this name")
    latent = tensors["latent"]
    if not latent.is_floating_point():
        raise ValueError(f"{path} holds a latent of {latent.dtype}; save it as float32")
    return latent
