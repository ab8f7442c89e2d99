"""Pictures in files of strangers: opened without trust."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# what pictures are kept in; Pillow knows many more, and starts a PostScript interpreter for some
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
PIXELS = 100_000_000  # of one picture, which takes twelve bytes for each


@contextmanager
def opened(data: bytes, name: str) -> Iterator[Image]:
    """The picture in the bytes of a file, for Pillow to decode within the `with`.

    Raises ValueError, which begins with `name`, for what is no picture, damaged or above `PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError(f"{name} is empty; get the file anew")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height <= PIXELS:
                yield image
                return
            size = f"{image.width} x {image.height}"
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read; convert it to PNG") from error
    except Image.DecompressionBombError:
        size = "far more"
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise ValueError(f"{name} cannot be read: {error or type(error).__name__}; get the file anew") from error
    raise ValueError(f"{name} has {size} pixels; at most {PIXELS:,} are taken, so reduce or crop it")
