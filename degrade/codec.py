"""WebP, AVIF and JPEG 2000, encoded and decoded by Pillow."""

from __future__ import annotations

import io

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

# name: (Pillow's format, its name among Pillow's features, how quality is said)
CODECS = {
    "webp": ("WEBP", "webp", lambda quality: {"quality": quality}),
    "avif": ("AVIF", "avif", lambda quality: {"quality": quality}),
    "jpeg2000": (
        "JPEG2000",
        "jpg_2000",
        lambda quality: {"quality_mode": "dB", "quality_layers": [quality]},
    ),
}


@register("codec", exact="Pillow's codec", gradient="straight through")
class Codec(Operator):
    """Save the image with another codec and open it again, as the installed Pillow does.

    Values are rounded to 8 bits first. Gradient: straight-through.

    format: webp, avif or jpeg2000.
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
    from PIL import Image, __version__, features

    name, feature, options = CODECS[codec]
    if feature not in features.get_supported():
        raise ValueError(
            f"this Pillow ({__version__}) was built without {name}; install a build that has it"
        )
    is_grey = len(pixels) == 1
    channels_last = pixels.permute(1, 2, 0)
    array = channels_last.numpy()
    image = Image.fromarray(array[..., 0] if is_grey else array)
    file = io.BytesIO()
    try:
        image.save(file, name, **options(quality))
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
