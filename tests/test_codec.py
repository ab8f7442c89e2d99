"""Test that WebP, AVIF, JPEG 2000, JPEG XL and HEIC give the pixels that Pillow gives."""

import io
import sys

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from scipy import fft

from degrade import Codec, parse
from degrade.codec import CODECS

from .conftest import picture, rng

OPTIONS = {
    "webp": lambda quality: {"format": "WEBP", "quality": quality},
    "avif": lambda quality: {"format": "AVIF", "quality": quality},
    "jpeg2000": lambda quality: {
        "format": "JPEG2000",
        "quality_mode": "dB",
        "quality_layers": [quality],
    },
    "jpegxl": lambda quality: {"format": "JXL", "quality": quality, "lossless": quality == 100},
    "heic": lambda quality: {"format": "HEIF", "quality": quality},
}


# Rows: luma, Cb and Cr of red, green and blue
JFIF = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


def missing(name):
    """Why a codec cannot be tested here; empty if it can."""
    try:
        CODECS[name].check()
    except ValueError as error:
        return str(error)
    return ""


codecs = []
for codec_name in OPTIONS:
    reason = missing(codec_name)
    skip = pytest.mark.skipif(reason != "", reason=reason or "installed")
    codecs.append(pytest.param(codec_name, marks=skip))


def save_and_open(x, codec, quality):
    """The image [C, H, W], with values k/255, after Pillow saved it and opened it again."""
    levels = x.permute(1, 2, 0).numpy() * 255
    pixels = levels.round().astype(numpy.uint8)
    is_grey = len(x) == 1
    image = Image.fromarray(pixels.squeeze(2) if is_grey else pixels)
    file = io.BytesIO()
    image.save(file, **OPTIONS[codec](quality))
    decoded = numpy.array(Image.open(file).convert(image.mode))
    channels_last = torch.from_numpy(decoded.reshape(pixels.shape))
    return channels_last.permute(2, 0, 1) / 255


@pytest.mark.parametrize("codec", codecs)
@pytest.mark.parametrize("quality", [5, 30, 90])
def test_codec_of_photo_equals_pillow(codec, quality):
    x = picture(8)
    y = Codec(codec, quality)(x)
    assert torch.equal(y[0], save_and_open(x[0], codec, quality))
    assert not torch.equal(x, y)


@pytest.mark.parametrize("codec", codecs)
@given(
    st.sampled_from([1, 3]),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 100),
    st.integers(0, 2**31),
)
def test_codec_of_every_size_equals_pillow(codec, channels, height, width, quality, seed):
    levels = torch.randint(256, (1, channels, height, width), generator=rng(seed))
    x = levels / 255
    y = Codec(codec, quality)(x)
    assert torch.equal(y[0], save_and_open(x[0], codec, quality))


@pytest.mark.parametrize("codec", codecs)
def test_codec_rounds_its_input_to_8_bits(codec):
    f = Codec(codec, 40)
    x = torch.rand(1, 3, 9, 7, generator=rng()) * 1.4 - 0.2
    levels = (x.clamp(0, 1) * 255).round()
    assert torch.equal(f(x), f(levels / 255))


def blocks_of(image):
    """The DCT of the blocks of luma, Cb and Cr of an image [H, W, 3], edges repeated."""
    height, width = image.shape[:2]
    padded = numpy.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    planes = padded @ numpy.array(JFIF).T
    rows, columns = planes.shape[0] // 8, planes.shape[1] // 8
    blocks = planes.reshape(rows, 8, columns, 8, 3)
    return fft.dctn(blocks, axes=(1, 3), norm="ortho")


def surviving(direction, before, after):
    """How an image [H, W, 3] changes with its input, by the formula of `Codec`."""
    kept = blocks_of(after)
    lost = kept - blocks_of(before)
    slopes = 0.05 + 0.95 * kept**2 / (kept**2 + lost**2 + 1 / (12 * 255**2))
    slopes[:, 0, :, 0] = 1
    weighted = blocks_of(direction) * slopes
    blocks = fft.idctn(weighted, axes=(1, 3), norm="ortho")
    height, width = direction.shape[:2]
    planes = blocks.reshape(blocks.shape[0] * 8, -1, 3)[:height, :width]
    return planes @ numpy.linalg.inv(JFIF).T


@pytest.mark.parametrize("codec", codecs)
@pytest.mark.parametrize("size", [(40, 24), (33, 50)])
def test_codec_gradient_is_the_adjoint_of_what_survives(codec, size):
    height, width = size
    x = picture(8)[..., 30 : 30 + height, 40 : 40 + width].double().requires_grad_()
    f = Codec(codec, 30)
    y = f(x)
    direction = torch.randn(x.shape, generator=rng(), dtype=torch.float64)
    weight = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, x, weight)
    images = [image.detach()[0].permute(1, 2, 0).numpy() for image in (direction, x, y, weight)]
    expected = (surviving(*images[:3]) * images[3]).sum()
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4)


def test_codec_gradient_of_gray_images_is_that_of_luma():
    gray = picture(8)[:, :1].double().requires_grad_()
    y = Codec("webp", 30)(gray)
    direction = torch.randn(gray.shape, generator=rng(), dtype=torch.float64)
    weight = torch.randn(gray.shape, generator=rng(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, gray, weight)
    images = []
    for image in (direction, gray, y, weight):
        in_colour = image.detach()[0].expand(3, -1, -1)
        images.append(in_colour.permute(1, 2, 0).numpy())
    expected = (surviving(*images[:3]) * images[3]).sum() / 3
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4)


def test_codec_gradient_passes_where_values_are_clamped():
    x = torch.rand(1, 3, 16, 16, generator=rng()) * 1.4 - 0.2
    x.requires_grad_()
    Codec("webp", 80)(x).square().sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("codec", codecs)
def test_codec_quality_applies_per_image(codec):
    x = torch.cat([picture(1), picture(2)])
    qualities = (10, 80)
    y = Codec(codec, qualities)(x)
    for i, quality in enumerate(qualities):
        row = slice(i, i + 1)
        alone = Codec(codec, quality)(x[row])
        assert torch.equal(y[row], alone)
    errors = (y - x).abs().mean((1, 2, 3))
    assert errors[0] > errors[1]


def test_codec_missing_in_pillow_is_an_error(monkeypatch):
    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    with pytest.raises(
        ValueError, match="codec:avif,30: this Pillow .* was built without AVIF; install"
    ):
        parse("codec:avif,30")(picture(0))


def test_codec_rejects_too_large_image():
    with pytest.raises(ValueError, match="WEBP cannot hold this image of 17000 x 1"):
        Codec("webp", 30)(torch.zeros(1, 3, 1, 17000))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Codec("bpg", 30), "format='bpg' must be one of webp, avif, jpeg2000, jpegxl"),
        (lambda: Codec("webp", 0), "quality=0 must be an integer from 1 to 100"),
        (lambda: Codec("webp", float("nan")), "quality=nan"),
        (lambda: Codec("webp", 30)(torch.zeros(1, 2, 4, 4)), "x has 2 channels; give 1"),
        (
            lambda: Codec("webp", (30, 40, 50))(torch.zeros(2, 3, 4, 4)),
            "quality has 3 values for 2 images",
        ),
    ],
)
def test_codec_errors_name_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_codec_encoder_error_is_one_line():
    """Pillow's AVIF encoder raises a RuntimeError for sides that it cannot hold."""
    with pytest.raises(ValueError, match="AVIF cannot hold this image of 70000 x 2") as error:
        Codec("avif", 30)(torch.rand(1, 3, 2, 70000))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(missing("jpegxl") != "", reason=missing("jpegxl") or "installed")
def test_jpegxl_of_quality_100_is_lossless():
    """As `cjxl -q 100` is; the plugin's encoder refuses a quality of 100 without that word."""
    x = (torch.rand(2, 3, 9, 17, generator=rng()) * 255).round() / 255
    assert torch.equal(Codec("jpegxl", 100)(x), x)


@pytest.mark.parametrize("codec, module", [("jpegxl", "pillow_jxl"), ("heic", "pillow_heif")])
def test_codec_without_its_plugin_names_the_extra(codec, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ValueError, match=r"needs a plugin of Pillow; pip install 'degrade\[codecs\]'"
    ):
        Codec(codec, 30)(picture(0))
