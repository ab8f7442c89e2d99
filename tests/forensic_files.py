"""Pictures with a known history, and the bytes of their files."""

import io

import numpy
import torch
from PIL import Image


def scene(height: int = 256, width: int = 272, grey: bool = False) -> numpy.ndarray:
    """Smooth hills with sharp discs on them: no noise, no texture and no clipped areas."""
    generator = numpy.random.default_rng(3)
    y, x = numpy.mgrid[:height, :width]
    channels = []
    for across, down, phase in generator.uniform(9, 40, (3, 3)):
        waves = numpy.sin(x / across + phase) * numpy.cos(y / down)
        channels.append(128 + 50 * waves)
    image = numpy.stack(channels, 2)
    lowest = (0, 0, 4, 40, 40, 40)
    highest = (height, width, 30, 215, 215, 215)
    for top, left, radius, *colour in generator.uniform(lowest, highest, (60, 6)):
        squared_distance = (y - top) ** 2 + (x - left) ** 2
        image[squared_distance < radius**2] = colour
    pixels = image.round().astype(numpy.uint8)
    return pixels[..., 0] if grey else pixels


def saved(x: numpy.ndarray, kind: str = "PNG", **options) -> bytes:
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, kind, **options)
    return file.getvalue()


def opened(file: bytes) -> numpy.ndarray:
    """The pixels that Pillow reads from the bytes of a file."""
    return numpy.asarray(Image.open(io.BytesIO(file)))


def noisy(x: numpy.ndarray, sigma: float) -> numpy.ndarray:
    """Add Gaussian noise and round to 8 bits; sigma in levels."""
    noise = numpy.random.default_rng(0).normal(0, sigma, x.shape)
    levels = (x + noise).round()
    return levels.clip(0, 255).astype(numpy.uint8)


def tensor(x: numpy.ndarray) -> torch.Tensor:
    """8-bit pixels [H, W] or [H, W, C] as an image [1, C, H, W] in [0, 1]."""
    height, width = x.shape[:2]
    channels_last = torch.tensor(x.reshape(height, width, -1))
    return channels_last.permute(2, 0, 1)[None].float() / 255
