"""A damaged picture as a restoration needs it: its pixels, its history, and the parts to draw."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import degrade
import invert
from degrade.filter import Gray
from degrade.jpeg.saved import with_coefficients
from degrade.operator import Shape
from degrade.photofile import PhotoFile, read_photo

from . import files, kept
from .faces import Where
from .files import Source
from .history import check_clean, clean_of, note, what_happened
from .photo import Photo


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
        levels = files.levels_of(picture, self.file.bits)
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
class Observer:
    """Reads damaged pictures for a prior.

    images: what the prior draws. op: what happened, as the user says. face_images: what the face
    prior draws. clean: the undamaged picture, or a folder of them. where: which part of a photo.
    prior: tries the alternatives of a guess; None takes the likeliest.
    """

    images: Images
    op: str | None = None
    face_images: Images | None = None
    clean: Path | None = None
    where: Where = Where()
    prior: invert.Generator | invert.Denoiser | None = None

    @property
    def drawn_images(self) -> Images:
        """What the prior draws that restores parts of photos."""
        return self.face_images or self.images

    def observe(self, source: Source) -> Observation:
        """Read a picture and find out what happened to it."""
        manifest, operator = what_happened(source, self.op, self.prior)
        file, pixels, stays_grey = self._read(source, operator)
        operator = with_coefficients(operator, source.path, pixels)
        photos = self._photos(source, pixels, operator)
        clean_path = self.clean_path(source, manifest)
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

    def clean_path(self, source: Source, manifest: dict | None) -> Path | None:
        """The undamaged picture of a source, if there is one."""
        if self.clean is None:
            return None
        return clean_of(source, manifest, self.clean)
