"""Test the models of other JPEG libraries against the libraries themselves, which jpeglib holds."""

import os

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import degrade
from degrade import JPEG, jpeg, jpeg_coefficients
from degrade.forensics import guess
from degrade.jpeg.encoders import DECODERS, ENCODERS
from degrade.jpeg.layout import SAMPLINGS

from .conftest import cases, picture
from .jpeg_libraries import FAST_DCT, LIBRARIES, WITHOUT_TRELLIS, jpeglib, opened, stores, write
from .jpeg_reference import KINDS, content

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

images = st.tuples(
    st.sampled_from(KINDS),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([1, 3]),
    st.integers(0, 999),
)
samplings = st.sampled_from(list(SAMPLINGS))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return os.fspath(tmp_path_factory.mktemp("jpeg") / "image.jpg")


@pytest.mark.parametrize("library", LIBRARIES)
@cases(40)
@given(images, samplings, st.integers(1, 100))
def test_library_coefficients_and_pixels(path, library, image, sampling, quality):
    encoder, decoder = LIBRARIES[library]
    if library == "turbo210":
        quality = max(quality, 10)  # it has no SIMD here, and overflows at lower ones
    x = content(*image)
    with jpeglib.version(library):
        write(path, x, quality, sampling)
        coefficients = jpeg_coefficients(x, quality, sampling, encoder=encoder)
        assert stores(path, coefficients)
        y = jpeg(x, quality, sampling, encoder=encoder, decoder=decoder)
        assert torch.equal(y, opened(path))
        assert torch.equal(coefficients.decode(decoder), y)


@pytest.mark.parametrize("library", ["6b", "turbo210"])
@cases(40)
@given(images, samplings, st.integers(1, 100))
def test_fast_dct_equals_the_library(path, library, image, sampling, quality):
    x = content(*image)
    with jpeglib.version(library):
        write(path, x, quality, sampling, **FAST_DCT)
        coefficients = jpeg_coefficients(x, quality, sampling, encoder="turbojpeg-fast")
        assert stores(path, coefficients)


@pytest.mark.parametrize("library", ["mozjpeg300", "mozjpeg403"])
@cases(40)
@given(images, samplings, st.integers(1, 100))
def test_mozjpeg_without_trellis_equals_the_library(path, library, image, sampling, quality):
    x = content(*image)
    with jpeglib.version(library):
        write(path, x, quality, sampling, **WITHOUT_TRELLIS)
        coefficients = jpeg_coefficients(x, quality, sampling, encoder="mozjpeg-notrellis")
        assert stores(path, coefficients)
        stored = jpeglib.read_dct(path).qt.reshape(-1, 64)
    assert numpy.array_equal(stored[0], coefficients.tables[0, 0].flatten().numpy())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("channels, sampling", [(1, "4:2:0"), *((3, name) for name in SAMPLINGS)])
def test_encoders_differ_where_they_should(encoder, channels, sampling):
    """Otherwise the tests above would say little."""
    x = torch.cat([content(kind, 48, 48, channels, 3) for kind in ("saturated", "noise")])
    default = jpeg_coefficients(x, 75, sampling)
    other = jpeg_coefficients(x, 75, sampling, encoder=encoder)
    pairs = zip(default.components, other.components, strict=True)
    is_same = all(torch.equal(a, b) for a, b in pairs)
    scales = channels == 3 and any(size % 2 == 0 for size in SAMPLINGS[sampling])
    differs = {"ijg7": scales, "ijg9e": channels == 3}
    differs |= {"turbojpeg-fast": True, "mozjpeg-notrellis": True}
    assert is_same != differs.get(encoder, False)


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_differ_where_they_should(decoder):
    x = content("picture", 40, 40, 3, 3)
    differing = set()
    for sampling in SAMPLINGS:
        coefficients = jpeg_coefficients(x, 75, sampling)
        if not torch.equal(coefficients.decode(decoder), coefficients.decode()):
            differing.add(sampling)
    expected = {
        "libjpeg-turbo": set(),
        "libjpeg-turbo-2.0": {"4:4:0"},
        "ijg6b": {"4:4:0"},
        "ijg7": set(SAMPLINGS) - {"4:4:4", "3x1", "1x3"},  # which every decoder repeats
    }
    assert differing == expected.get(decoder, differing)
    assert decoder != "ijg9a" or differing >= expected["ijg7"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_library_text_and_batch(encoder, decoder):
    f = JPEG((20, 80), encoder=encoder, decoder=decoder)
    assert degrade.parse(str(f)) == f
    x = torch.cat([content("picture", 20, 30, 3, seed) for seed in (1, 2)])
    y = f(x)
    for i in range(2):
        assert torch.equal(f.row(i, 2)(x[i : i + 1]), y[i : i + 1])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_library_takes_meta_tensors(encoder):
    x = torch.empty(2, 3, 20, 30, device="meta")
    f = JPEG(75, "4:1:1", encoder=encoder, decoder="ijg9a")
    assert f(x).shape == x.shape


def test_gradient_of_a_library_is_taken_at_its_coefficients():
    """The linear stages are libjpeg-turbo's; slopes follow the encoder's own coefficients."""
    x = content("picture", 32, 32, 3, 5).requires_grad_()
    gradients = []
    for encoder in ("libjpeg-turbo", "ijg9e"):
        y = jpeg(x, 40, surrogate="ste", clamp="ste", encoder=encoder)
        (gradient,) = torch.autograd.grad((y * picture(1)[..., :32, :32]).sum(), x)
        gradients.append(gradient)
    assert torch.equal(*gradients)
    quality = torch.tensor([40.0], requires_grad=True)
    jpeg(x, quality, encoder="mozjpeg-notrellis", decoder="ijg9a").sum().backward()
    assert quality.grad.isfinite().all()


@pytest.mark.parametrize("sampling", ["4:2:0", "4:1:1"])
@pytest.mark.parametrize("encoder, decoder", [("ijg9e", "ijg9a"), ("turbojpeg-fast", "ijg7")])
def test_project_onto_coefficients_of_other_libraries(encoder, decoder, sampling):
    x0 = picture(1)[..., 3:115, 5:101]
    x = F.avg_pool2d(x0, 3, 1, 1, count_include_pad=False)
    y = jpeg_coefficients(x0, 75, sampling, encoder=encoder)
    f = JPEG(75, sampling, encoder=encoder, decoder=decoder)
    near = f.project(x, y)
    assert torch.equal(f(near), y.decode(decoder))


@pytest.mark.parametrize("name", ["mozjpeg", "jpegli"])
def test_encoder_without_a_model_is_refused_by_name(name):
    x = torch.zeros(1, 3, 8, 8)
    for call in (
        lambda: JPEG(75, encoder=name),
        lambda: degrade.parse(f"jpeg:75,encoder={name}"),
        lambda: jpeg(x, 75, encoder=name),
        lambda: jpeg_coefficients(x, 75, encoder=name),
    ):
        with pytest.raises(ValueError, match=f"encoder='{name}' is not modelled: "):
            call()


def test_unknown_library_is_refused():
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="encoder='guetzli' must be one of"):
        jpeg(x, 75, encoder="guetzli")
    with pytest.raises(ValueError, match="decoder='mozjpeg' must be one of"):
        jpeg_coefficients(x, 75).decode("mozjpeg")


@pytest.mark.parametrize(
    "library, text, words",
    [
        ("9f", "jpeg:75,encoder=ijg9e", "libjpeg 9e and 9f"),
        ("9d", "jpeg:75", "the file's own tables and sampling"),
        ("mozjpeg403", "jpeg:tables=", "MozJPEG's of quality 75"),
    ],
)
def test_guess_names_the_library_by_its_tables(path, library, text, words):
    x = content("picture", 48, 48, 3, 1)
    with jpeglib.version(library):
        write(path, x, 75, "4:2:0")
    result = guess(path)
    assert str(result.operator).startswith(text)
    assert any(words in finding.why for finding in result.findings)
