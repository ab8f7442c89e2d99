"""Test that JPEG by Pillow's own library is JPEG by the model, and when each is used."""

import functools

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, jpeg, jpeg_bytes, jpeg_coefficients
from degrade.jpeg import pillow

from .conftest import cases, picture, rng
from .jpeg_reference import IMAGES, WRITTEN_BY_PILLOW, content


@pytest.fixture
def calls(monkeypatch):
    """The files that Pillow writes, one after the other."""
    written = []
    original = pillow._saved

    def spy(*arguments, **options):
        files = original(*arguments, **options)
        written.extend(files)
        return files

    assert pillow._equals_model(3, "4:2:0")
    monkeypatch.setattr(pillow, "_saved", spy)
    return written


@cases(100)
@given(
    **IMAGES,
    sampling=st.sampled_from(WRITTEN_BY_PILLOW),
    optimize=st.booleans(),
    progressive=st.booleans(),
    blocks=st.integers(0, 5),
    rows=st.integers(0, 2),
    seed=st.integers(0, 999),
)
def test_pillows_files_are_those_of_the_model(
    kind, height, width, channels, sampling, optimize, progressive, blocks, rows, seed
):
    x = torch.cat([content(kind, height, width, channels, seed + i) for i in range(2)])
    qualities = torch.randint(1, 101, (2,), generator=rng(seed))
    options = (optimize, progressive, blocks, rows)
    coefficients = jpeg_coefficients(x, qualities, sampling)
    assert jpeg_bytes(x, qualities, sampling, None, *options) == coefficients.encode(*options)


@cases(60)
@given(
    **IMAGES,
    count=st.integers(1, 3),
    largest=st.sampled_from([2, 40, 255]),
    sampling=st.sampled_from(WRITTEN_BY_PILLOW),
    seed=st.integers(0, 999),
)
def test_pillows_pixels_are_those_of_the_model(
    kind, height, width, channels, count, largest, sampling, seed
):
    x = content(kind, height, width, channels, seed)
    tables = torch.randint(1, largest + 1, (count, 64), generator=rng(seed)).tolist()
    decoded = jpeg_coefficients(x, None, sampling, tables).decode()
    assert torch.equal(jpeg(x, None, sampling, tables), decoded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pillows_pixels_in_every_type_are_those_of_the_model(dtype, calls):
    x = (picture(0) + 0.3 / 255).to(dtype)
    levels = jpeg_coefficients(x, 50).decode().mul(255).round()
    wide = torch.promote_types(dtype, torch.float32)
    expected = levels.to(wide) / 255
    assert torch.equal(jpeg(x, 50), expected.to(dtype))
    assert len(calls) == 1


def test_pillow_takes_any_values_and_strides():
    """Values are clamped and rounded, half to even, before Pillow sees them."""
    half_levels = torch.arange(-30, 546).view(1, 1, 24, 24) / 510
    x = half_levels.expand(-1, 3, -1, -1).to(memory_format=torch.channels_last)
    assert jpeg_bytes(x, 90) == jpeg_coefficients(x, 90).encode()


def test_pillow_is_used_for_pixels_and_not_for_slopes(calls):
    x = picture(0)
    changing = x.clone().requires_grad_()
    jpeg(x, 50, surrogate="smoothed")
    jpeg(changing, 50)
    jpeg(changing, 50, surrogate="ste", clamp="ste")
    assert len(calls) == 3
    jpeg(changing, 50, surrogate="ste")
    jpeg(changing, 50, surrogate="smoothed")
    jpeg(x, torch.tensor([50.0], requires_grad=True))
    assert len(calls) == 3


@pytest.mark.parametrize("surrogate", ["identity", "ste"])
def test_gradient_beside_pillows_pixels_is_that_of_the_model(surrogate):
    """The model takes part where the gradient to quality is asked for, too."""
    x = picture(0).double().requires_grad_()
    weight = torch.randn(x.shape, generator=rng(), dtype=torch.float64)
    quality = torch.tensor([50.0], dtype=torch.float64, requires_grad=True)
    gradients = []
    for of_image in (50, quality):
        y = jpeg(x, of_image, surrogate=surrogate, clamp="ste")
        gradients += torch.autograd.grad(y, x, weight)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "settings",
    [
        {"subsampling": "4:4:0"},
        {"subsampling": "2x2:1x2:1x1"},
        {"colour": "rgb"},
        {"encoder": "ijg7"},
        {"decoder": "ijg9a"},
    ],
    ids=str,
)
def test_pillow_is_not_used_for_what_it_has_not(settings, calls):
    JPEG(50, **settings)(picture(0))
    assert calls == []


def test_pillow_is_not_used_for_many_threads(calls, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    jpeg(picture(0), 50)
    assert calls == []


def test_pillow_is_not_used_for_images_that_it_refuses_to_open(calls, monkeypatch):
    """Pillow warns of large images, and raises an error for larger ones."""
    x = picture(0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 128**2 - 1)
    jpeg(x, 50)
    assert calls == []


def test_tables_of_16_bits_print_nothing(capfd):
    """Pillow's library prints a caution for each file."""
    jpeg(picture(0), tables=[[256] * 64])
    assert capfd.readouterr().err == ""


def test_sides_that_no_file_has_print_nothing(capfd):
    jpeg(torch.rand(1, 1, 1, 65501, generator=rng()), 50)
    assert capfd.readouterr().err == ""


def test_nan_that_torch_func_hides_stays_nan():
    """Inside a transform the values are not checked; Pillow's 8 bits have no NaN."""
    x = picture(0)[..., :32, :32].clone()
    x[..., 20, 20] = torch.nan
    y = torch.func.vmap(lambda image: jpeg(image[None], 50)[0])(x)
    assert y[..., 20, 20].isnan().all() and y[..., 0, 0].isfinite().all()


def test_pillow_sees_the_values_of_a_conjugate():
    """PyTorch negates the imaginary part of a conjugate when it is read."""
    x = picture(0)[..., :32, :32]
    conjugate = torch.complex(x, -x).conj()
    assert jpeg_bytes(conjugate.imag, 50) == jpeg_bytes(x, 50)


@pytest.mark.parametrize("name", ["optimize", "progressive"])
def test_options_may_be_numpys_or_none(name):
    x = picture(0)
    assert jpeg_bytes(x, 50, **{name: numpy.True_}) == jpeg_bytes(x, 50, **{name: True})
    assert jpeg_bytes(x, 50, **{name: None}) == jpeg_bytes(x, 50)


def test_files_of_a_transformed_quality_are_refused():
    x = picture(0)
    with pytest.raises(ValueError, match=r"torch\.func cannot transform bytes"):
        torch.func.vmap(lambda quality: jpeg_bytes(x, quality))(torch.tensor([20, 50]))


def test_model_writes_what_pillow_cannot(monkeypatch):
    """Pillow raises OSError where its buffer is too small for a file."""

    def fail(*_, **__):
        raise OSError("encoder error -2 when writing image file")

    x = picture(0)
    assert pillow._equals_model(3, "4:2:0")
    monkeypatch.setattr(pillow, "_saved", fail)
    assert jpeg_bytes(x, 50) == jpeg_coefficients(x, 50).encode()
    assert torch.equal(jpeg(x, 50), jpeg_coefficients(x, 50).decode())


@pytest.mark.parametrize("mode", ["optimize", "progressive"])
@pytest.mark.parametrize("blocks", [0, 1])
def test_files_larger_than_pillows_buffer_print_nothing(mode, blocks, capfd):
    """Pillow's library complains where a file of noise needs more than two bytes a pixel."""
    black_and_white = torch.randint(2, (1, 3, 200, 200), generator=rng())
    x = black_and_white.float()
    options = {mode: True, "restart_marker_blocks": blocks}
    files = jpeg_bytes(x, 95, "4:4:4", **options)
    assert files == jpeg_coefficients(x, 95, "4:4:4").encode(**options)
    assert len(files[0]) > 2 * 200 * 200
    assert capfd.readouterr().err == ""


def test_each_sampling_is_compared_by_itself(calls, monkeypatch):
    """A library may differ in one sampling alone."""
    original = pillow._opened

    def other(written, x):
        is_gray = x.shape[1] == 1
        return original(written, x) + is_gray / 255

    uncached = functools.cache(pillow._equals_model.__wrapped__)
    monkeypatch.setattr(pillow, "_equals_model", uncached)
    monkeypatch.setattr(pillow, "_opened", other)
    x = picture(0)
    gray = x[:, :1]
    assert torch.equal(jpeg(gray, 50), jpeg_coefficients(gray, 50).decode())
    calls.clear()
    jpeg(gray, 50)
    assert calls == []
    jpeg(x, 50)
    assert calls != []


@pytest.mark.parametrize("part", ["_saved", "_opened"])
def test_another_library_is_not_used(part, monkeypatch):
    """A Pillow that is built with MozJPEG writes other bytes; others open other pixels."""
    original = getattr(pillow, part)

    def other(*arguments, **options):
        if part == "_saved":
            return [file + b"\0" for file in original(*arguments, **options)]
        return original(*arguments) + 1 / 255

    x = picture(0)
    uncached = functools.cache(pillow._equals_model.__wrapped__)
    monkeypatch.setattr(pillow, "_equals_model", uncached)
    monkeypatch.setattr(pillow, part, other)
    assert jpeg_bytes(x, 50) == jpeg_coefficients(x, 50).encode()
    assert torch.equal(jpeg(x, 50), jpeg_coefficients(x, 50).decode())
