"""Read image files without trusting them, and decode them as they are meant to look."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# formats that are read, and their suffixes; Pillow knows more, and runs PostScript for some
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm"),
    "JPEG2000": (".jp2", ".j2k"),
}
FORMATS = tuple(SUFFIXES)
PIXELS = 100_000_000  # of one picture, which takes twelve bytes for each
BYTES = 2**31  # of one file
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # tags of TIFF


class Note(UserWarning):
    """A warning about a conversion that a picture needed; each kind is shown once."""


def contents(path: str | Path, name: str | None = None) -> bytes:
    """Read all bytes of a file. Raises ValueError, which begins with `name` or the path."""
    path, name = Path(path), str(path) if name is None else name
    try:
        about = path.stat()
        if stat.S_ISREG(about.st_mode) and about.st_size <= BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name that holds a null
        raise ValueError(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(
            f"{name} cannot be read: it is no ordinary file"
        )  # a pipe would wait for ever
    raise ValueError(
        f"{name} cannot be read: it has {about.st_size:,} bytes, and at most {BYTES:,} are taken"
    )


def picture(data: bytes, name: str, channels: int = 3) -> Image:
    """Decode an image file: upright, over white, in sRGB, 8 bits; RGB, or grey for 1 channel.

    Raises ValueError, which begins with `name`, if the bytes are no image, are damaged or hold more
    than `PIXELS` pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError(f"{name} is empty; get the file anew")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height <= PIXELS:
                return _shown(image).convert("RGB" if channels == 3 else "L")
            size = f"{image.width} x {image.height}"
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read; convert it to PNG") from error
    except Image.DecompressionBombError:
        size = "far more"
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{name} cannot be read: {reason}; get the file anew, or save it as PNG of 8 bits"
        ) from error
    raise ValueError(
        f"{name} has {size} pixels; at most {PIXELS:,} are taken, so reduce or crop it"
    )


def _shown(image: Image) -> Image:
    from PIL import Image, ImageOps

    if (
        getattr(image, "is_animated", False) and image.format != "MPO"
    ):  # phones keep a small copy as a second frame
        _note("animated or of several pages; of such pictures the first is taken")
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _in_8_bits(image)
    elif max(_tag(image, _BITS, (8,))) > 8 and _tag(image, _PLANAR, 1) == 2:
        raise ValueError(
            "its colours lie in separate planes of more than 8 bits"
        )  # Pillow mixes their bytes up
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            _note("transparent; such pictures are laid over white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("P", "1"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    return _in_srgb(image, profile) if profile else image


def _tag(image: Image, number: int, usual: object) -> object:
    return image.tag_v2.get(number, usual) if image.format == "TIFF" else usual


def _in_8_bits(image: Image) -> Image:
    """Scale grey of up to 16 bits to 8; 32-bit integers only if their values fit 16 bits."""
    import numpy
    from PIL import Image

    grey, (bits, *_) = numpy.asarray(image), _tag(image, _BITS, (16,))
    if grey.dtype.kind == "f" or bits > 16 or grey.min() < 0 or grey.max() >= 2**bits:
        raise ValueError("its numbers have no known range")
    shown = Image.fromarray(numpy.rint(grey * (255 / (2**bits - 1))).astype(numpy.uint8))
    if _tag(image, _PHOTOMETRIC, 1) == 0:  # white is 0
        shown = shown.point(lambda value: 255 - value)
    key = image.info.get("transparency")
    if isinstance(key, int):
        shown.putalpha(Image.fromarray(((grey != key) * 255).astype(numpy.uint8)))
    shown.getexif().update(image.getexif())
    return shown


def _in_srgb(image: Image, profile: bytes) -> Image:
    from PIL import Image, ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if own.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if (
            image.mode == "RGB"
        ):  # some call themselves sRGB and are not: what counts is what they do
            ramps = [
                bytes(v * (mask >> c & 1) for c in range(3))
                for mask in range(1, 8)
                for v in range(256)
            ]
            probe = Image.frombytes("RGB", (256, 7), b"".join(ramps))
            after = ImageCms.applyTransform(probe, transform).tobytes()
            if max(abs(a - b) for a, b in zip(probe.tobytes(), after, strict=True)) <= 2:
                return image
        image = ImageCms.applyTransform(image, transform)
    except (OSError, ValueError, ImageCms.PyCMSError):
        _note("of a broken colour profile; it is left out, and sRGB assumed")
        return image
    _note("of another colour space; by its profile it is converted to sRGB")
    return image


def _note(text: str) -> None:
    warnings.warn(f"a picture is {text}", Note, stacklevel=2)
