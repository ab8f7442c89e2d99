"""The sheet of a restoration: the damaged picture beside the result and what it was made of."""

from __future__ import annotations

import numpy
from PIL.Image import Image
from torch import Tensor

from . import files, kept
from .apply import again
from .observation import Observation, Observer
from .photo import Photo
from .png import png
from .sheet import SPREAD, details, sheet, spread


def tiles_of(
    observer: Observer, observation: Observation, results: list[Tensor], drawn: list[Tensor]
) -> dict[str, Image]:
    """The tiles of the sheet. drawn: what a generator drew, for each sample all parts in a row."""
    file = observation.file
    photos = observation.photos
    before = kept.over_white(observation.pixels, file)
    after = kept.over_white(results[0], file)
    tiles: dict[str, Tensor] = {}
    if observation.clean is not None:
        tiles["clean"] = observation.clean
    if photos and observer.face_images is None:
        side = max(observer.images.side or 0, round(photos[0].spot.side))
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
    if observer.images.side is None:
        tiles |= details(before, after)
    if observer.face_images is not None:
        tiles |= _face_tiles(photos, drawn)
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


def _face_tiles(photos: tuple[Photo, ...], drawn: list[Tensor]) -> dict[str, Tensor]:
    """Each face of a photo, and what the face prior drew for it."""
    tiles = {}
    for index, photo in enumerate(photos):
        row = drawn[0]  # the faces side by side
        side = row.shape[2]
        left = index * side
        name = face_name(index + 1, len(photos))
        tiles[name] = photo.aligned(max(side, round(photo.spot.side)))
        tiles[f"{name}, drawn"] = row[..., left : left + side]
    return tiles


def encoded_sheet(observation: Observation, tiles: dict[str, Image]) -> bytes:
    """The sheet as PNG, with the colour profile of the photo."""
    image = sheet(tiles)
    file = observation.file
    if file.profile is None or file.channels == 1:
        return files.encode(image)
    levels = numpy.asarray(image)
    return png(levels, file.profile)


def face_name(number: int, count: int) -> str:
    """What a message and a caption call a face; only one of several has a number."""
    return f"face {number}" if count > 1 else "face"
