"""Read untrusted image files safely, and convert them to RGB or grey as a viewer shows them."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

# The formats that are read, and the suffixes of their files. Pillow reads many more, and runs
# PostScript for some of them.
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
PIXELS = 100_000_000  # largest number of pixels in a picture; each takes twelve bytes
BYTES = 2**31  # largest file
GREY = ("1", "L", "LA", "La", "I", "F")  # modes of Pillow, besides those that begin with I;16
NO_SAFETENSORS = "it is no .safetensors file, or a damaged one"
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # tags of TIFF


T = TypeVar("T")


class Note(UserWarning):
    """A warning that a picture was converted on reading; the message names the file."""


def contents(path: str | Path, name: str | None = None) -> bytes:
    """Read all bytes of a file.

    name: how error messages call the file; by default its path. Raises ValueError if the file
    cannot be read, is no regular file, or is larger than `BYTES`.
    """
    path = Path(path)
    name = str(path) if name is None else name
    try:
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        if regular and status.st_size <= BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError for a name that holds a null character
        reason = getattr(error, "strerror", error)
        mend = "check the path, and that you may read it"
        raise ValueError(f"{name} cannot be read: {reason}; {mend}") from error
    if not regular:  # reading from a pipe could block forever
        raise ValueError(f"{name} cannot be read: it is no ordinary file; give the path of a file")
    size = f"it has {status.st_size:,} bytes, and at most {BYTES:,} are taken"
    raise ValueError(f"{name} cannot be read: {size}; give a smaller file")


def picture(data: bytes, name: str, channels: int | None = 3, deep: bool = False) -> Image:
    """Decode an image file: rotated by its EXIF tag, composited over white, converted to sRGB.

    data: the bytes of the file. name: how error messages call it.
    channels: 3 for RGB, 1 for grey, None to keep the file's choice of grey or colour.
    deep: whether grey of more than 8 bits is returned with 16 (Pillow's mode "I;16") instead of 8.

    Raises ValueError for a file that is no image, is damaged, or has more than `PIXELS` pixels.
    Warns with `Note` about what was converted.
    """
    return opened(data, name, partial(_decoded, data, name, channels, deep))


def opened(data: bytes, name: str, decode: Callable[[Image], T]) -> T:
    """Open an image file, and decode it with a function; for errors see `picture`."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError(f"{name} is empty; get the file anew")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height <= PIXELS:
                return decode(image)
            size = f"{image.width} x {image.height}"
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read; convert it to PNG") from error
    except Image.DecompressionBombError:
        size = "far more"
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        reason = str(error) or type(error).__name__
        mend = "get the file anew, or save it as PNG of 8 bits"
        raise ValueError(f"{name} cannot be read: {reason}; {mend}") from error
    limit = f"at most {PIXELS:,} are taken, so reduce or crop it"
    raise ValueError(f"{name} has {size} pixels; {limit}")


def _decoded(data: bytes, name: str, channels: int | None, deep: bool, image: Image) -> Image:
    """Decode an opened file; see `picture`."""
    from PIL import ImageOps

    grey = is_grey(image)
    if bit_depth(data, image) > 8 and not grey:
        note_lost_depth(name, bit_depth(data, image))
    check_frames(image, name)
    profile = image.info.get("icc_profile")
    if has_wide_grey(image):
        deep = deep and not profile and "transparency" not in image.info
        image = rescaled(image, name, 16 if deep else 8)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return image
    if image.has_transparency_data:
        image = _over_white(image, name)
    if image.mode in ("P", "1"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    if profile:
        image = in_srgb(image, name, profile)
    one_channel = grey if channels is None else channels == 1
    return image.convert("L" if one_channel else "RGB")


def is_grey(image: Image) -> bool:
    return image.mode in GREY or image.mode.startswith("I;16")


def has_wide_grey(image: Image) -> bool:
    """Whether the values are grey of more than 8 bits, which `rescaled` takes."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def check_frames(image: Image, name: str) -> None:
    """Note what is left out of a file of several pictures; refuse what Pillow reads wrongly."""
    if getattr(image, "is_animated", False) and image.format != "MPO":
        # phones keep a small copy of a photo as the second frame of an MPO
        note(name, "it is animated or has several pages; the first is taken")
    depth = max(_tag(image, _BITS, (8,)))
    if depth > 8 and _tag(image, _PLANAR, 1) == 2 and not has_wide_grey(image):
        # Pillow reads the bytes of these in the wrong order
        raise ValueError("its colours lie in separate planes of more than 8 bits")


def bit_depth(data: bytes, image: Image) -> int:
    """Bits per channel that the header of a PNG or TIFF file declares; 8 for other files."""
    depths: tuple[int, ...] = _tag(image, _BITS, (8,))
    return max(_png_depth(data), *depths)


def note_lost_depth(name: str, depth: int) -> None:
    note(name, f"{depth} bits per colour channel become 8, which Pillow reads")


def _png_depth(data: bytes) -> int:
    """Bits per channel in the header of a PNG file; 8 for other files."""
    is_png = data.startswith(b"\x89PNG") and len(data) > 24
    return data[24] if is_png else 8


def _tag(image: Image, number: int, default: Any) -> Any:
    """The value of a TIFF tag, or the default if the file is no TIFF or has no such tag."""
    if image.format != "TIFF":
        return default
    tags = getattr(image, "tag_v2", None)
    return default if tags is None else tags.get(number, default)


def _over_white(image: Image, name: str) -> Image:
    """Composite a transparent image over white."""
    from PIL import Image

    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    if isinstance(lowest, (int, float)) and lowest < 255:
        note(name, "it is transparent, and laid over white")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def rescaled(image: Image, name: str, wanted: int) -> Image:
    """Scale grey of up to 16 bits to 8 or 16 bits. 32-bit integers must hold 16-bit values."""
    import numpy
    from PIL import Image

    values = numpy.asarray(image)
    bits = _tag(image, _BITS, (16,))[0]
    if values.dtype.kind == "f" or bits > 16 or values.min() < 0 or values.max() >= 2**bits:
        raise ValueError("its numbers have no known range")
    grey = values / (2**bits - 1)
    if _tag(image, _PHOTOMETRIC, 1) == 0:  # white is 0
        grey = 1 - grey
    if wanted == 8 and bits > 8:
        note(name, f"{bits} bits are rounded to 8")
    levels = numpy.rint(grey * (2**wanted - 1))
    level_type = numpy.uint8 if wanted == 8 else numpy.uint16
    result = Image.fromarray(levels.astype(level_type))
    transparent_value = image.info.get("transparency")
    if isinstance(transparent_value, int):
        opaque = (values != transparent_value) * 255
        result.putalpha(Image.fromarray(opaque.astype(numpy.uint8)))
    result.getexif().update(image.getexif())
    return result


def in_srgb(image: Image, name: str, profile: bytes) -> Image:
    """Convert an image from its ICC profile to sRGB. An sRGB image stays as it is."""
    from PIL import ImageCms

    try:
        file_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if file_profile.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(file_profile, srgb, image.mode, "RGB")
        if image.mode == "RGB" and _changes_little(transform):
            return image
        converted = ImageCms.applyTransform(image, transform)
    except (OSError, ValueError, ImageCms.PyCMSError):
        note(name, "its colour profile is broken and left out; sRGB is assumed")
        return image
    note(name, "its colours are converted to sRGB by its colour profile")
    return image if converted is None else converted


def _changes_little(transform: Any) -> bool:
    """Whether a transform changes no value by more than 2.

    It is tested on ramps of the three channels and all their combinations, since the name of a
    profile may be wrong.
    """
    import numpy
    from PIL import Image, ImageCms

    combinations = numpy.array([[m & 1, m >> 1 & 1, m >> 2 & 1] for m in range(1, 8)])
    ramps = combinations[:, None, :] * numpy.arange(256)[None, :, None]
    probe = Image.fromarray(ramps.astype(numpy.uint8))
    after = ImageCms.applyTransform(probe, transform)
    return bool(abs(ramps - numpy.asarray(after).astype(int)).max() <= 2)


def note(name: str, text: str) -> None:
    """Warn of what was done to a file; Python shows an equal message once."""
    warnings.warn(f"{name.removeprefix('file=')}: {text}", Note, stacklevel=2)
