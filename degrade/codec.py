"""WebP, AVIF, JPEG 2000, JPEG XL and HEIC, encoded and decoded by Pillow and its plugins."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .images import check_channels
from .operator import Operator
from .params import Integers, integer, option
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare, outside_transforms
from .transforms import is_exporting


def _quality(quality: int) -> dict[str, object]:
    return {"quality": quality}


def _decibels(quality: int) -> dict[str, object]:
    return {"quality_mode": "dB", "quality_layers": [quality]}


def _register_jpegxl() -> None:
    import pillow_jxl  # noqa: F401, registers itself


def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


class _Format(NamedTuple):
    """A format of Pillow. options: how a quality is said.

    feature: its name among Pillow's features. register: makes a plugin known to Pillow instead.
    """

    name: str
    options: Callable[[int], dict[str, object]] = _quality
    feature: str | None = None
    register: Callable[[], None] | None = None

    def check(self) -> None:
        """Raise ValueError if the installed Pillow cannot write this format."""
        from PIL import __version__, features

        if self.register is not None:
            try:
                self.register()
            except ImportError as error:
                raise ValueError(
                    f"{self.name} needs a plugin of Pillow; pip install 'degrade[codecs]'"
                ) from error
        elif self.feature not in features.get_supported():
            raise ValueError(
                f"this Pillow ({__version__}) was built without {self.name}; "
                "install a build that has it"
            )


CODECS = {
    "webp": _Format("WEBP", feature="webp"),
    "avif": _Format("AVIF", feature="avif"),
    "jpeg2000": _Format("JPEG2000", _decibels, feature="jpg_2000"),
    "jpegxl": _Format("JXL", register=_register_jpegxl),
    "heic": _Format("HEIF", register=_register_heif),
}


@register("codec", exact="Pillow's codec", gradient="straight through")
class Codec(Operator):
    """Save the image with another codec and open it again, as the installed Pillow does.

    Values are rounded to 8 bits first. Gradient: straight-through.

    format: webp, avif, jpeg2000; jpegxl and heic need plugins of Pillow (pip install
        'degrade[codecs]').
    quality: an integer from 1 to 100, or one per image; for jpeg2000 the target signal-to-noise
        ratio in dB. All other options are Pillow's defaults.

    One channel is grey, three are RGB. The codec runs on the CPU; another build of it may decode
    other values. Raises ValueError if Pillow lacks the codec, or the encoder refuses the image.
    """

    format: str = option(*CODECS)
    quality: Integers = integer(low=1, high=100)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if is_exporting():
            raise ValueError("an exported program cannot call Pillow's codec; leave the stage out")
        if x.is_meta:  # it has a shape and no values to save
            return torch.empty_like(x)
        decoded = outside_transforms(self._save_and_open, x)
        return declare(x, decoded)

    def _save_and_open(self, x: Tensor) -> Tensor:
        in_range = x.clamp(0, 1)
        levels = (in_range * 255).round()
        pixels = levels.byte().cpu()

        def save_and_open(row: Tensor, quality: int) -> Tensor:
            return _save_and_open(row[0], self.format, quality)

        decoded = row_by_row(save_and_open, pixels, quality=self.quality)
        return decoded.to(x) / 255


def _save_and_open(pixels: Tensor, codec: str, quality: int) -> Tensor:
    """Encode and decode pixels, uint8 [C, H, W] → [1, C, H, W]."""
    import numpy
    from PIL import Image

    format = CODECS[codec]
    format.check()
    name = format.name
    is_grey = len(pixels) == 1
    channels_last = pixels.permute(1, 2, 0)
    array = channels_last.numpy()
    image = Image.fromarray(array[..., 0] if is_grey else array)
    file = io.BytesIO()
    try:
        image.save(file, name, **format.options(quality))
        with Image.open(file) as opened:
            converted = opened.convert(image.mode)
        decoded = numpy.array(converted)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot hold this image of {image.width} x {image.height}: {error}"
        ) from error
    result = torch.from_numpy(decoded)
    result = result.view(1, *array.shape)
    return result.permute(0, 3, 1, 2)
