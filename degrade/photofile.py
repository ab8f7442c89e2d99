"""Read a photo as its file stores it, with everything that a restored copy has to keep.

`imagefile.picture` shows a picture as a viewer does: converted to sRGB, laid over white, mostly in
8 bits. A restoration works on the numbers in the file instead, since compression and noise acted on
them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy

from .imagefile import (
    bit_depth,
    check_frames,
    contents,
    has_wide_grey,
    in_srgb,
    is_grey,
    note,
    note_lost_depth,
    opened,
    rescaled,
)

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Exif, Image

Levels = numpy.ndarray  # of uint8 or uint16

# The EXIF tags that describe the photo and not the layout of its file. The orientation is none of
# them, since the pixels are returned upright.
_KEPT_TAGS = {
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    282: "XResolution",
    283: "YResolution",
    296: "ResolutionUnit",
    305: "Software",
    306: "DateTime",
    315: "Artist",
    33432: "Copyright",
    34665: "the camera's settings",
    34853: "GPS position",
}
_CAMERA_SETTINGS = 34665
_SIZE_TAGS = (40962, 40963)  # width and height, which a restoration may change
_ORIENTATION = 274
_CONVERTED_MODES = ("CMYK", "LAB", "HSV", "YCbCr")  # of Pillow, whose colours no PNG holds

# The Turn (quarter turns, mirrored) that makes a picture of each EXIF orientation upright.
EXIF_TURNS = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}


@dataclass(frozen=True)
class PhotoFile:
    """The pixels of a photo and what a copy keeps of its file.

    levels: [h, w, 1 or 3], uint8 or uint16, upright. alpha: [h, w], of the same type; None if
    nothing is transparent. profile: the ICC profile that says what the levels mean; None for sRGB.
    exif: EXIF data without the orientation.
    """

    levels: Levels
    alpha: Levels | None = None
    profile: bytes | None = None
    exif: bytes | None = None

    @property
    def bits(self) -> int:
        """Bits per channel: 8 or 16."""
        return 8 * self.levels.itemsize

    @property
    def channels(self) -> int:
        return int(self.levels.shape[2])

    @property
    def rgb8(self) -> Levels:
        """The levels in 8 bits, [h, w, 3]."""
        levels = self.levels
        if self.bits == 16:
            levels = numpy.rint(levels / 257).astype(numpy.uint8)
        return levels.repeat(3, 2) if self.channels == 1 else levels

    @property
    def hidden(self) -> Levels | None:
        """Which pixels are fully transparent, [h, w]; their colours mean nothing."""
        return None if self.alpha is None else self.alpha == 0


def read_photo(path: Path) -> PhotoFile:
    """Read a file; for its errors see `imagefile.picture`."""
    return decode_photo(contents(path), str(path))


def decode_photo(data: bytes, name: str) -> PhotoFile:
    """Decode the bytes of a file. name: how messages call it."""
    return opened(data, name, partial(_decoded, data, name))


def _decoded(data: bytes, name: str, image: Image) -> PhotoFile:
    """Decode an opened file."""
    check_frames(image, name)
    file_exif = image.getexif()
    orientation = file_exif.get(_ORIENTATION, 1)
    exif = _kept_exif(file_exif, name)
    image, profile = _with_profile(image, name)
    levels = upright(_levels(data, name, image), orientation)
    colour_count = 1 if levels.shape[2] < 3 else 3
    colours, alpha = levels[..., :colour_count], levels[..., colour_count:]
    opaque = alpha.size == 0 or alpha.min() == numpy.iinfo(alpha.dtype).max
    return PhotoFile(colours, None if opaque else alpha[..., 0], profile, exif)


def upright(levels: Levels, orientation: int) -> Levels:
    """Turn an array [h, w, …] as its EXIF orientation says."""
    quarters, mirrored = EXIF_TURNS.get(orientation, (0, 0))
    turned = numpy.rot90(levels, quarters)
    return turned[:, ::-1] if mirrored else turned


def _levels(data: bytes, name: str, image: Image) -> Levels:
    """The levels [h, w, 1 to 4] as they lie in the file; the last of 2 or 4 channels is alpha."""
    depth = bit_depth(data, image)
    one_colour_is_transparent = "transparency" in image.info
    if has_wide_grey(image):
        image = rescaled(image, name, 8 if one_colour_is_transparent else 16)
    elif depth == 16 and image.format == "PNG" and not one_colour_is_transparent:
        return _wide_levels(data)
    elif depth > 8:
        note_lost_depth(name, depth)
    return numpy.atleast_3d(numpy.asarray(_in_plain_mode(image)))


def _in_plain_mode(image: Image) -> Image:
    """The image in grey or RGB, with alpha if something may be transparent."""
    if image.mode.startswith("I;16"):
        return image
    mode = "L" if is_grey(image) else "RGB"
    if image.has_transparency_data:
        mode += "A"
    return image.convert(mode)


def _wide_levels(data: bytes) -> Levels:
    """The levels of a PNG of 16 bits that has colours or alpha.

    Pillow keeps the high byte of each level. Where a decoder for little-endian numbers takes the
    file, it keeps the low one. Grey with alpha is taken as four channels of 8 bits.
    """
    high, raw_mode = _decoded_as(data, None)
    if raw_mode.startswith("LA"):
        pairs, _ = _decoded_as(data, "RGBA")
        return _joined(pairs[..., 0::2], pairs[..., 1::2])
    low, _ = _decoded_as(data, raw_mode.replace("16B", "16L"))
    return _joined(high, low)


def _joined(high: Levels, low: Levels) -> Levels:
    """The numbers of 16 bits that have these bytes."""
    levels: Levels = high.astype(numpy.uint16) << 8 | low
    return levels


def _decoded_as(data: bytes, raw_mode: str | None) -> tuple[Levels, str]:
    """Decode a PNG whose bytes have another meaning; return them and the file's own mode."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        own_mode = str(image.tile[0].args)
        if raw_mode is not None:
            image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return numpy.asarray(image), own_mode


def _with_profile(image: Image, name: str) -> tuple[Image, bytes | None]:
    """The image and its ICC profile. Colours that a PNG cannot hold are converted to sRGB."""
    profile: bytes | None = image.info.get("icc_profile")
    mode = "L" if is_grey(image) else "RGB"
    if not profile:
        if image.mode in _CONVERTED_MODES:
            note(name, f"its {image.mode} colours are converted to RGB")
            image = image.convert(mode)
        return image, None
    space = "GRAY" if mode == "L" else "RGB"
    if image.mode not in _CONVERTED_MODES and _profile_space(profile) == space:
        return image, profile
    if has_wide_grey(image):
        note(name, "its colour profile is not one of grey, and is left out")
        return image, None
    return in_srgb(image, name, profile).convert(mode), None


def _profile_space(profile: bytes) -> str:
    """The colour space of an ICC profile; "" if the profile is broken."""
    from PIL import ImageCms

    try:
        return str(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space).strip()
    except (OSError, ValueError, ImageCms.PyCMSError):
        return ""


def _kept_exif(exif: Exif, name: str) -> bytes | None:
    """The EXIF data that a copy keeps; None if there is none."""
    for tag in list(exif):
        if tag not in _KEPT_TAGS:
            del exif[tag]
    if not len(exif):
        return None
    try:
        if _CAMERA_SETTINGS in exif:
            settings = exif.get_ifd(_CAMERA_SETTINGS)
            for tag in _SIZE_TAGS:
                settings.pop(tag, None)
        return exif.tobytes()
    except Exception as error:  # Pillow raises almost anything for damaged data
        note(name, f"its EXIF data is damaged and left out ({type(error).__name__})")
        return None
