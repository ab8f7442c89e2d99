"""Test JPEG files of CMYK and YCCK, and components of any sampling, against the libraries."""

import io
import os

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, jpeg, jpeg_bytes, jpeg_coefficients, jpeg_size, parse
from degrade.jpeg.layout import GREY, Layout, layout_of
from degrade.jpeg.stages import to_image, to_image_t, to_planes, to_planes_t

from .conftest import cases, picture, rng
from .jpeg_libraries import LIBRARIES, jpeglib, opened, stores, write
from .jpeg_reference import KINDS, content, gradient

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

MODES = ({}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 3})
SIZES = [(8, 8), (16, 33), (41, 27), (1, 5), (57, 64)]
# what libjpeg decodes: factors of Y, Cb, Cr
UNEQUAL = (
    "2x2:1x2:1x1",
    "2x2:2x1:1x2",
    "1x1:2x2:1x1",
    "2x1:1x1:2x1",
    "4x1:1x1:2x1",
    "1x4:1x2:1x1",
    "2x2:1x1:2x1",
    "1x2:1x1:1x2",
    "3x1:1x1:3x1",
    "4x2:1x1:1x1",
)
OF_FOUR = (
    "1x1:1x1:1x1:1x1",
    "2x2:1x1:1x1:2x2",
    "2x1:1x1:1x1:2x1",
    "2x2:1x1:1x1:1x1",
    "1x2:1x1:1x2:1x1",
    "1x4:1x2:1x1:1x1",
)
images = st.tuples(
    st.sampled_from(KINDS), st.integers(1, 45), st.integers(1, 45), st.just(3), st.integers(0, 999)
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return os.fspath(tmp_path_factory.mktemp("jpeg") / "image.jpg")


def four_channels(kind, height, width, seed):
    """An image of CMYK [1, 4, H, W]."""
    black = content(kind, height, width, 1, seed + 1)
    return torch.cat([content(kind, height, width, 3, seed), black], 1)


def levels_of(x):
    return (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def pillow_bytes(x, **options):
    """The file that Pillow writes of CMYK [1, 4, H, W]."""
    file = io.BytesIO()
    Image.fromarray(levels_of(x), "CMYK").save(file, "JPEG", **options)
    return file.getvalue()


def pillow_pixels(file):
    """What Pillow reads from a file [1, C, H, W]; of CMYK files the mode is CMYK."""
    levels = numpy.array(Image.open(io.BytesIO(file)))
    return torch.from_numpy(levels).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_cmyk_bytes_and_pixels_equal_pillow(size, mode):
    qualities = (1, 10, 30, 50, 75, 95, 100)
    factors = {-1: "4:4:4", 1: "2x1:1x1:1x1:1x1", 2: "2x2:1x1:1x1:1x1"}
    for seed, (kind, quality) in enumerate(zip(KINDS, qualities, strict=True)):
        x = four_channels(kind, *size, seed)
        for number, sampling in factors.items():
            expected = pillow_bytes(x, quality=quality, subsampling=number, **mode)
            settings = {"subsampling": sampling, "colour": "cmyk"}
            assert jpeg_bytes(x, quality, **settings, **mode) == [expected]
            assert torch.equal(jpeg(x, quality, **settings), pillow_pixels(expected))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_cmyk_with_own_tables_equals_pillow(count):
    x = four_channels("picture", 40, 31, 2)
    tables = torch.randint(1, 99, (count, 64), generator=rng()).tolist()
    expected = pillow_bytes(x, qtables=tables)
    assert jpeg_bytes(x, tables=tables, colour="cmyk") == [expected]
    f = JPEG.from_file(expected)
    assert f == JPEG(tables=tables, colour="cmyk")
    assert torch.equal(f(x), pillow_pixels(expected))


@pytest.mark.parametrize("library", LIBRARIES)
@cases(8)
@given(images, st.sampled_from(UNEQUAL), st.integers(10, 100))
def test_unequal_chroma_equals_the_library(path, library, image, factors, quality):
    encoder, decoder = LIBRARIES[library]
    x = content(*image)
    with jpeglib.version(library):
        write(path, x, quality, factors)
        coefficients = jpeg_coefficients(x, quality, factors, encoder=encoder)
        assert stores(path, coefficients)
        y = jpeg(x, quality, factors, encoder=encoder, decoder=decoder)
        assert torch.equal(y, opened(path))
        assert torch.equal(coefficients.decode(decoder), y)


@pytest.mark.parametrize("colour", ["cmyk", "ycck"])
@pytest.mark.parametrize("library", LIBRARIES)
@cases(8)
@given(images, st.sampled_from(OF_FOUR), st.integers(10, 100))
def test_cmyk_and_ycck_equal_the_library(path, library, colour, image, factors, quality):
    encoder, decoder = LIBRARIES[library]
    kind, height, width, _, seed = image
    x = four_channels(kind, height, width, seed)
    with jpeglib.version(library):
        write(path, x, quality, factors, colour=colour)
        coefficients = jpeg_coefficients(x, quality, factors, encoder=encoder, colour=colour)
        assert stores(path, coefficients)
        y = jpeg(x, quality, factors, encoder=encoder, decoder=decoder, colour=colour)
        assert torch.equal(y, opened(path))


@pytest.mark.parametrize("factors", ["2x2:1x1:1x1", *UNEQUAL, *OF_FOUR])
@pytest.mark.parametrize("mode", MODES)
def test_components_in_files_decode_to_the_same_pixels(factors, mode):
    """Pillow cannot write them, but it reads them, and jpeglib reads their coefficients."""
    colours = ("ycbcr", "rgb") if factors.count(":") == 2 else ("cmyk", "ycck")
    for colour in colours:
        x = content("picture", 37, 51, 3, 5)
        if factors in OF_FOUR:
            x = four_channels("picture", 37, 51, 5)
        y = jpeg(x, 60, factors, colour=colour)
        (file,) = jpeg_bytes(x, 60, factors, colour=colour, **mode)
        assert torch.equal(pillow_pixels(file), y)
        f = JPEG.from_file(file)
        assert f.subsampling == JPEG(60, factors, colour=colour).subsampling
        assert torch.equal(f(x), y)
        coefficients = JPEG.coefficients_from_file(file)
        assert coefficients.encode(**mode) == [file]
        assert torch.equal(coefficients.decode(), y)


@pytest.mark.parametrize("colour, factors", [("ycbcr", "2x2:1x2:1x1"), ("ycck", "4:2:0")])
@pytest.mark.parametrize("size", [(3, 40), (37, 2), (21, 19)])
def test_planes_and_their_transposes_are_adjoint(colour, factors, size):
    channels = 4 if colour == "ycck" else 3
    layout = layout_of(colour, factors, channels)
    g = rng()
    x = torch.randn(2, channels, *size, generator=g, dtype=torch.float64)
    planes = to_planes(x, layout, exact=False)
    weights = [torch.randn(plane.shape, generator=g, dtype=torch.float64) for plane in planes]
    forward = sum((a * b).sum() for a, b in zip(planes, weights, strict=True))
    assert torch.allclose(forward, (x * to_planes_t(weights, x.shape, layout)).sum())
    image = to_image([w.clone() for w in weights], layout, torch.empty_like(x), exact=False)
    backward = sum((a * b).sum() for a, b in zip(to_image_t(x, layout), weights, strict=True))
    assert torch.allclose((image * x).sum(), backward)


@pytest.mark.parametrize("surrogate", ["identity", "residual", "cubic", "ste", "smoothed"])
def test_gradient_of_cmyk_is_that_of_four_grey_images(surrogate):
    x = four_channels("picture", 21, 26, 3)
    g = torch.randn(x.shape, generator=rng())

    def saved(image):
        return jpeg(image, 40, surrogate=surrogate, colour="cmyk", clamp="ste")

    def saved_channels(image):
        grey = (1 - image).reshape(4, 1, 21, 26)
        y = jpeg(grey, 40, surrogate=surrogate, clamp="ste")
        return 1 - y.reshape(image.shape)

    assert torch.allclose(gradient(saved, x, g), gradient(saved_channels, x, g), atol=1e-5)


def test_gradient_of_ycck_is_that_of_rgb_and_grey():
    x = four_channels("picture", 21, 26, 3)
    g = torch.randn(x.shape, generator=rng())
    settings = {"surrogate": "cubic", "clamp": "ste"}
    whole = gradient(lambda image: jpeg(image, 40, colour="ycck", **settings), x, g)
    mixed = gradient(lambda image: jpeg(image, 40, **settings), x[:, :3], g[:, :3])
    black = gradient(lambda image: jpeg(image, 40, **settings), 1 - x[:, 3:], g[:, 3:])
    assert torch.allclose(whole, torch.cat([mixed, black], 1), atol=1e-5)


@pytest.mark.parametrize(
    "colour, factors",
    [("cmyk", "4:4:4"), ("cmyk", "2x2:1x1:1x1:1x1"), ("ycck", "4:2:0"), ("ycbcr", "2x2:1x2:1x1")],
)
def test_project_finds_image_that_saves_as_the_file(colour, factors):
    channels = 3 if colour == "ycbcr" else 4
    x0 = torch.cat([picture(1), picture(2)[:, :1]], 1)[:, :channels, 3:67, 5:69]
    x = (x0 + 0.02 * torch.randn(x0.shape, generator=rng())).clamp(0, 1)
    f = JPEG(60, factors, colour=colour)
    coefficients = jpeg_coefficients(x0, 60, factors, colour=colour)
    near = f.project(x, coefficients)
    again = jpeg_coefficients(near, 60, factors, colour=colour)
    same = zip(again.components, coefficients.components, strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_factors_of_named_sampling_get_its_name():
    assert JPEG(50, "2x2:1x1:1x1") == JPEG(50)
    assert JPEG(50, "2x2:1x2:1x2").subsampling == "4:2:2"
    assert JPEG(50, "4x1,1x1,2x1").subsampling == "4:2:1"
    assert JPEG(50, "1x1:1x1:1x1:1x1", colour="cmyk") == JPEG(50, colour="cmyk")
    assert JPEG(50, "2x2:1x1:1x1:2x2", colour="ycck").subsampling == "4:2:0"
    assert JPEG(50, "2x2:1x1:1x1", colour="rgb").subsampling == "2x2:1x1:1x1"


@pytest.mark.parametrize("factors", UNEQUAL)
def test_operator_with_factors_round_trips_as_text(factors):
    f = JPEG(30, factors)
    assert parse(str(f)) == f
    assert eval(repr(f)) == f
    assert parse(f"jpeg:30,subsampling={factors}") == f


@pytest.mark.parametrize("factors", UNEQUAL)
def test_size_of_file_with_factors_is_exact(factors):
    x = content("picture", 43, 50, 3, 4)
    sizes = jpeg_size(x, 70, factors)
    assert sizes.tolist() == [len(file) for file in jpeg_bytes(x, 70, factors)]


@pytest.mark.parametrize(
    "subsampling, message",
    [
        ("3x1:2x1:1x1", "2x1, which does not divide 3x1"),
        ("4x2:2x2:1x1", "13 blocks in an MCU; give at most 10"),
        ("5x1:1x1:1x1", "factors of each component"),
        ("2x2:1x1", "factors of each component"),
        ("2x2:1x1:1x1:1x1", "4 components, but colour=ycbcr has 3"),
    ],
)
def test_factors_that_libjpeg_refuses_are_refused(subsampling, message):
    with pytest.raises(ValueError, match=message):
        JPEG(50, subsampling)
    with pytest.raises(ValueError, match=message):
        jpeg(torch.rand(1, 3, 8, 8), 50, subsampling)


@pytest.mark.parametrize(
    "channels, colour, message",
    [
        (3, "cmyk", "x has 3 channels, and a JPEG of colour=cmyk has 4"),
        (1, "ycck", "x has 1 channels, and a JPEG of colour=ycck has 4"),
        (4, "ycbcr", "x has 4 channels; .* colour=cmyk or colour=ycck"),
    ],
)
def test_wrong_number_of_channels_is_refused(channels, colour, message):
    x = torch.rand(1, channels, 8, 8)
    for call in (jpeg, jpeg_bytes, jpeg_coefficients):
        with pytest.raises(ValueError, match=message):
            call(x, 50, colour=colour)
    with pytest.raises(ValueError, match=message):
        JPEG(50, colour=colour)(x)


def test_parts_of_a_layout_share_no_component():
    layout = layout_of("ycck", "4:2:0", 4)
    (mixed, colours), (black, channel) = layout.parts()
    assert (mixed, black) == (slice(0, 3), slice(3, 4))
    assert colours == layout_of("ycbcr", "4:2:0", 3)
    assert channel == Layout(((1, 1),), mcu=(2, 2), inverted=1)
    assert GREY.parts() == [(slice(0, 1), GREY)]


def test_operator_gives_coefficients_of_its_file():
    x = four_channels("picture", 30, 41, 6)
    f = JPEG(60, colour="cmyk")
    assert f.coefficients(x).encode() == jpeg_bytes(x, 60, colour="cmyk")
    assert torch.equal(f.coefficients(x).decode(), f(x))
    grey = JPEG(60).coefficients(x[:, :1])
    assert grey.encode() == jpeg_bytes(x[:, :1], 60)
    with pytest.raises(ValueError, match="jpeg:5..30 draws its quality; call sample"):
        parse("jpeg:5..30").coefficients(x[:, :3])
