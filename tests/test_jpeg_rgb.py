"""Test JPEG files that store RGB without conversion against Pillow (keep_rgb) and libraries."""

import io

import numpy
import pytest
import torch
from PIL import Image

from degrade import JPEG, jpeg, jpeg_bytes, jpeg_coefficients, parse
from degrade.forensics import guess
from degrade.jpeg.saved import with_coefficients

from .conftest import picture, rng
from .jpeg_reference import KINDS, LUMA, content, decode, encode, gradient, segments, taken_apart

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

MODES = ({}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 3})
SIZES = [(8, 8), (16, 33), (41, 27), (1, 5), (57, 64)]


def pillow_bytes(x, **options):
    return encode((x[0] * 255).round().byte(), "4:4:4", keep_rgb=True, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_rgb_bytes_and_pixels_equal_pillow(size, mode):
    for seed, (kind, quality) in enumerate(zip(KINDS, (1, 10, 30, 50, 75, 95, 100), strict=True)):
        x = content(kind, *size, 3, seed)
        expected = pillow_bytes(x, quality=quality, **mode)
        assert jpeg_bytes(x, quality, colour="rgb", **mode) == [expected]
        assert torch.equal(jpeg(x, quality, colour="rgb")[0], decode(expected) / 255)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rgb_with_own_tables_equals_pillow(count):
    x = content("picture", 40, 31, 3, 2)
    tables = torch.randint(1, 99, (count, 64), generator=rng()).tolist()
    expected = pillow_bytes(x, qtables=tables)
    assert jpeg_bytes(x, tables=tables, colour="rgb") == [expected]
    f = JPEG.from_file(expected)
    assert f == JPEG(tables=tables, colour="rgb")
    assert torch.equal(f(x)[0], decode(expected) / 255)


def test_rgb_operator_round_trips_as_text():
    f = JPEG(30, colour="rgb")
    assert f.subsampling == "4:4:4"
    assert parse(str(f)) == f
    assert eval(repr(f)) == f


def test_rgb_rejects_chroma_sampling():
    with pytest.raises(ValueError, match="4:2:2 has no chroma"):
        JPEG(30, "4:2:2", colour="rgb")
    with pytest.raises(ValueError, match="colour="):
        jpeg(torch.rand(1, 3, 8, 8), 30, colour="cmyk")


def test_rgb_is_told_by_adobe_marker_or_names():
    """libjpeg's rules: JFIF means YCbCr whatever else is there."""
    x = content("picture", 24, 24, 3, 1)
    file = pillow_bytes(x, quality=80)
    parts, data = taken_apart(file)
    without_marker = [part for part in parts if part[0] != 0xEE]
    jfif = (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    named = b"\xff\xd8" + segments(*without_marker) + data
    both = b"\xff\xd8" + segments(jfif, *parts) + data
    for changed, colour in ((file, "rgb"), (named, "rgb"), (both, "ycbcr")):
        f = JPEG.from_file(changed)
        assert f.colour == colour
        coefficients = JPEG.coefficients_from_file(changed)
        assert torch.equal(coefficients.decode()[0], decode(changed) / 255)


def test_rgb_coefficients_are_those_of_the_file():
    pytest.importorskip("jpeglib")
    x = torch.cat([content("picture", 43, 37, 3, 1), content("noise", 43, 37, 3, 2)])
    coefficients = jpeg_coefficients(x, [40, 90], colour="rgb")
    assert torch.equal(coefficients.decode(), jpeg(x, [40, 90], colour="rgb"))
    for i, file in enumerate(coefficients.encode(progressive=True)):
        stored = JPEG.coefficients_from_file(file)
        assert stored.colour == "rgb"
        for a, b in zip(stored.components, coefficients.components, strict=True):
            assert torch.equal(a[0], b[i])


@pytest.mark.parametrize("library", ["6b", "9", "9f", "turbo210"])
def test_rgb_equals_other_libraries(library, tmp_path):
    jpeglib = pytest.importorskip("jpeglib")
    from .jpeg_libraries import LIBRARIES, stores

    encoder, decoder = LIBRARIES[library]
    path = str(tmp_path / "image.jpg")
    for quality in (20, 75, 98):
        x = content("picture", 37, 45, 3, quality)
        pixels = (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        with jpeglib.version(library):
            image = jpeglib.from_spatial(pixels)
            image.jpeg_color_space = jpeglib.JCS_RGB
            image.write_spatial(path, qt=quality, flags=["+FORCE_BASELINE"])
            tables = JPEG.from_file(path).tables
            coefficients = jpeg_coefficients(x, tables=tables, encoder=encoder, colour="rgb")
            assert stores(path, coefficients)
            opened = jpeglib.read_spatial(path, out_color_space=jpeglib.JCS_RGB).spatial
        y = JPEG(tables=tables, encoder=encoder, decoder=decoder, colour="rgb")(x)
        assert numpy.array_equal((y[0] * 255).round().byte().permute(1, 2, 0).numpy(), opened)


def test_rgb_gradient_is_that_of_three_grey_images():
    x, g = torch.rand(2, 2, 3, 21, 18, generator=rng(), dtype=torch.float64)
    for surrogate in ("identity", "cubic", "smoothed"):

        def f(x, surrogate=surrogate):
            return jpeg(x, 40, surrogate=surrogate, colour="rgb")

        def by_channel(x, surrogate=surrogate):
            channels = [jpeg(x[:, i : i + 1], 40, surrogate=surrogate) for i in range(3)]
            return torch.cat(channels, 1)

        torch.testing.assert_close(gradient(f, x, g), gradient(by_channel, x, g))
    quality = torch.full((2,), 40.0, dtype=torch.float64, requires_grad=True)
    (jpeg(x, quality, colour="rgb") - x).square().sum().backward()
    assert (quality.grad < 0).all()


def test_rgb_project_agrees_with_the_file():
    pytest.importorskip("jpeglib")
    x = picture(2)[:, :, 20:61, 30:83]
    (file,) = jpeg_bytes(x, 60, colour="rgb")
    f = JPEG.from_file(file)
    y = JPEG.coefficients_from_file(file)
    near = f.project(torch.full_like(x, 0.5), y)
    assert jpeg_bytes(near, 60, colour="rgb") == [file]
    pixels = y.decode()
    saved = with_coefficients(f, file, pixels)
    assert type(saved).__name__ == "SavedJPEG"
    assert torch.equal(saved(saved.project(x * 0.9, pixels)), pixels)
    with pytest.raises(ValueError, match="stores"):
        JPEG(tables=f.tables, subsampling="4:4:4").project(x, y)


def test_rgb_file_is_recognised_with_its_quality():
    x = picture(4)
    file = pillow_bytes(x, quality=85)
    image = Image.open(io.BytesIO(file))
    assert image.mode == "RGB"
    assert str(guess(file).operator) == str(JPEG(85, colour="rgb"))
    assert JPEG.from_file(file).tables != (LUMA,)
