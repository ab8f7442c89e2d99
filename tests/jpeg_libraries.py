"""The JPEG libraries that the package jpeglib holds: save images and read the files."""

import numpy
import pytest
import torch

from degrade.jpeg.layout import SAMPLINGS

jpeglib = pytest.importorskip("jpeglib")

# library as jpeglib calls it: encoder, decoder
LIBRARIES = {
    "6b": ("ijg6b", "ijg6b"),
    "7": ("ijg7", "ijg7"),
    "8": ("ijg7", "ijg7"),
    "8d": ("ijg7", "ijg7"),
    "9": ("ijg7", "ijg7"),
    "9a": ("ijg7", "ijg9a"),
    "9d": ("ijg7", "ijg9a"),
    "9e": ("ijg9e", "ijg9a"),
    "9f": ("ijg9e", "ijg9a"),
    "turbo120": ("libjpeg-turbo", "ijg6b"),
    "turbo150": ("libjpeg-turbo", "ijg6b"),
    "turbo200": ("libjpeg-turbo", "libjpeg-turbo-2.0"),
    "turbo210": ("libjpeg-turbo", "libjpeg-turbo"),
}
FAST_DCT = {"dct_method": jpeglib.JDCT_IFAST}
WITHOUT_TRELLIS = {"flags": ("-TRELLIS_QUANT", "-TRELLIS_QUANT_DC")}


def write(path, x, quality, sampling, flags=(), colour="ycbcr", **options):
    """Save an image [1, C, H, W] by the library that jpeglib uses now.

    Of four channels the library takes what the file stores, the inverse of Pillow's CMYK.
    """
    channels = len(x[0])
    pixels = (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    if channels == 4:
        image = jpeglib.from_spatial(255 - pixels, in_color_space=jpeglib.JCS_CMYK)
        image.jpeg_color_space = {"cmyk": jpeglib.JCS_CMYK, "ycck": jpeglib.JCS_YCCK}[colour]
    else:
        image = jpeglib.from_spatial(pixels)
    if channels > 1:
        image.samp_factor = [[down, across] for across, down in factors(sampling, channels)]
    image.write_spatial(path, qt=quality, flags=["+FORCE_BASELINE", *flags], **options)


def factors(sampling, channels):
    """Across and down of each component: of a sampling by name, or of factors as text."""
    if sampling in SAMPLINGS:
        luma = SAMPLINGS[sampling]
        return [luma, (1, 1), (1, 1), luma][:channels]
    pairs = [part.split("x") for part in sampling.split(":")]
    return [(int(across), int(down)) for across, down in pairs]


def stores(path, coefficients):
    """Whether a file stores these coefficients, of a batch of one."""
    stored = jpeglib.read_dct(path)
    planes = [stored.Y]
    if stored.has_chrominance:
        planes += [stored.Cb, stored.Cr]
    if stored.has_black:
        planes.append(stored.K)
    pairs = zip(planes, coefficients.components, strict=True)
    return all(numpy.array_equal(plane, component[0].numpy()) for plane, component in pairs)


def opened(path):
    """The pixels [1, C, H, W] of a file, by the library that jpeglib uses now.

    Four channels are CMYK as Pillow shows it.
    """
    pixels = jpeglib.read_spatial(path).spatial
    if pixels.shape[2] == 4:
        pixels = 255 - pixels
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
