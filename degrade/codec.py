"""WebP, AVIF, JPEG 2000, JPEG XL and HEIC by Pillow and its plugins; H.264 and H.265 by FFmpeg."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from .images import check_channels
from .kinds import NumberKind
from .operator import Operator
from .params import Integers, integer, option
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import outside_transforms, with_gradient_of
from .survival import surviving_part
from .transforms import is_exporting
from .video import VIDEO, WORST, Pixels, VideoFormat


def _quality(quality: int) -> dict[str, object]:
    return {"quality": quality}


def _quality_or_lossless(quality: int) -> dict[str, object]:
    """JPEG XL's quality 100 is lossless; its plugin wants to be told so."""
    return {"lossless": True} if quality == 100 else {"quality": quality}


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

    def through(self, pixels: Pixels, quality: int) -> Pixels:
        """Save the picture and open it again."""
        from PIL import Image

        height, width, channels = pixels.shape
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        file = io.BytesIO()
        try:
            image.save(file, self.name, **self.options(quality))
            with Image.open(file) as opened:
                converted = opened.convert(image.mode)
            decoded = numpy.array(converted)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{self.name} cannot hold this image of {width} x {height}: {error}"
            ) from error
        return decoded.reshape(pixels.shape)


CODECS: dict[str, _Format | VideoFormat] = {
    "webp": _Format("WEBP", feature="webp"),
    "avif": _Format("AVIF", feature="avif"),
    "jpeg2000": _Format("JPEG2000", _decibels, feature="jpg_2000"),
    "jpegxl": _Format("JXL", _quality_or_lossless, register=_register_jpegxl),
    "heic": _Format("HEIF", register=_register_heif),
    **VIDEO,
}
_CRF = NumberKind(low=1, high=WORST, integer=True)  # the qualities of video codecs


@register("codec", exact="Pillow's or FFmpeg's codec", gradient="fitted to its errors")
class Codec(Operator):
    """Save the image with another codec and open it again, as the installed Pillow or FFmpeg does.

    Values are rounded to 8 bits first. Gradient: the adjoint of a linear function that is fitted to
    the codec's errors in this image. In the DCT of each 8 × 8 pixels of luma, Cb and Cr it
    multiplies a coefficient by 0.05 + 0.95 Y² / (Y² + (Y - X)² + σ²), where the codec got X and
    gave Y and σ² = 1 / (12 · 255²), and the mean of a block by 1. So what the codec removes has
    little gradient.

    format: webp, avif, jpeg2000; jpegxl and heic need plugins of Pillow (pip install
        'degrade[codecs]'); h264 and h265 need PyAV (pip install 'degrade[video]').
    quality: an integer from 1 to 100, or one per image; for jpeg2000 the target signal-to-noise
        ratio in dB; for h264 and h265 the constant rate factor (CRF), 1 to 51, of which 1 is best.
        100 is lossless for jpegxl. All other options are the defaults of Pillow or of the encoder.

    h264 and h265 make a video of one frame, at 24 a second, with chroma 4:2:0, by libx264 and
    libx265 in one thread. Where a side is odd or below 16, the last row or column is repeated, and
    cut off again.

    One channel is grey, three are RGB. The codec runs on the CPU; another build of it may decode
    other values. Raises ValueError if the codec is missing, or the encoder refuses the image.
    """

    format: str = option(*CODECS)
    quality: Integers = integer(low=1, high=100)

    def __post_init__(self) -> None:
        if isinstance(self.format, str) and self.format in VIDEO:
            crf = _CRF.stored("quality", self.quality)
            object.__setattr__(self, "quality", crf)
        super().__post_init__()

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if is_exporting():
            raise ValueError("an exported program cannot call a codec; leave the stage out")
        if x.is_meta:  # it has a shape and no values to save
            return torch.empty_like(x)
        decoded = outside_transforms(self._save_and_open, x)
        seen = _levels(x.detach()) / 255
        return with_gradient_of(decoded, surviving_part(x, seen, decoded))

    def _save_and_open(self, x: Tensor) -> Tensor:
        pixels = _levels(x).byte().cpu()

        def save_and_open(row: Tensor, quality: int) -> Tensor:
            return _save_and_open(row[0], self.format, quality)

        decoded = row_by_row(save_and_open, pixels, quality=self.quality)
        return decoded.to(x) / 255


def _levels(x: Tensor) -> Tensor:
    """Values from 0 to 1 as levels from 0 to 255."""
    in_range = x.clamp(0, 1)
    return (in_range * 255).round()


def _save_and_open(pixels: Tensor, codec: str, quality: int) -> Tensor:
    """Encode and decode pixels, uint8 [C, H, W] → [1, C, H, W]."""
    format = CODECS[codec]
    format.check()
    channels_last = pixels.permute(1, 2, 0)
    decoded = format.through(channels_last.numpy(), quality)
    result = torch.from_numpy(decoded)
    return result.permute(2, 0, 1)[None]
