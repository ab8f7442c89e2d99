"""Test that resize by Pillow's own library is resize by the model, and when each is used."""

import functools

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import pillow_library
from degrade.pillow_resize import FILTERS, fixed_point, resize

from .conftest import cases, picture, rng

sides = st.integers(1, 80)
filters = st.sampled_from([*FILTERS])


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the levels that Pillow resizes, one after the other."""
    shapes = []
    original = pillow_library.resize_into

    def spy(out, levels, filter):
        shapes.append(levels.shape)
        original(out, levels, filter)

    assert pillow_library._equals_model()
    monkeypatch.setattr(pillow_library, "resize_into", spy)
    return shapes


@pytest.fixture
def without_library(monkeypatch):
    """Let the model resize what follows, when called."""
    return lambda: monkeypatch.setattr(pillow_library, "levels_of", lambda x: None)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=rng(seed)) / 255


@cases(150)
@given(
    filters,
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.integers(1, 7),
    st.integers(1, 3),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**32 - 1),
)
def test_pillows_bits_are_those_of_the_model(filter, before, after, channels, batch, dtype, seed):
    x = pixels(batch, channels, *before, seed=seed).to(dtype)
    height, width = (b - a for b, a in zip(before, after, strict=True))
    if height > 0 and height > 2 * width:  # Pillow 13 begins with the rows
        expected = fixed_point(x.mT, after[::-1], filter).mT
    else:
        expected = fixed_point(x, after, filter)
    assert torch.equal(resize(x, after, filter), expected)


@pytest.mark.parametrize("error", [0, 3e-7, -3e-7])
@pytest.mark.parametrize("side", [128, 300])
def test_pillow_resizes_values_near_levels(error, side, calls):
    """Values k/255 may be computed less exactly, as by a product with 1/255."""
    x = pixels(2, 3, side, side)
    assert torch.equal(resize(x + error, (50, 60), "bicubic"), resize(x, (50, 60), "bicubic"))
    assert calls == [(3, side, side)] * 4


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, 1 / 255 + 1e-6, torch.nan, torch.inf])
def test_pillow_is_not_used_for_other_values(value, calls, without_library):
    x = pixels(2, 3, 200, 200)
    x[1, 2, 190, 150] = value  # far behind the first part that is converted
    y = resize(x, (50, 60), "bilinear")
    assert calls == [(3, 200, 200)]
    without_library()
    by_model = torch.cat([resize(image[None], (50, 60), "bilinear") for image in x])
    assert torch.equal(y.nan_to_num(9), by_model.nan_to_num(9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pillow_is_not_used_for_half_precision(dtype, calls):
    resize(picture(0).to(dtype), (50, 60), "bicubic")
    assert calls == []


def test_pillow_is_not_used_for_many_threads(calls, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    resize(picture(0), (50, 60), "bicubic")
    assert calls == []


def test_pillow_sees_any_strides_and_a_conjugate(calls):
    x = picture(0)
    expected = resize(x, (50, 60), "bicubic")
    channels_last = x.to(memory_format=torch.channels_last)
    conjugate = torch.complex(x, -x).conj()
    flipped = x.flip(3).contiguous().flip(3)
    for same in (channels_last, conjugate.imag, flipped, x.expand(2, -1, -1, -1)[1:]):
        assert torch.equal(resize(same, (50, 60), "bicubic"), expected)
    assert len(calls) == 5


def test_gradient_beside_pillows_pixels_is_that_of_the_model(calls, without_library):
    x = picture(0).double().requires_grad_()
    weight = torch.randn(1, 3, 50, 60, generator=rng(), dtype=torch.float64)
    (beside_library,) = torch.autograd.grad(resize(x, (50, 60), "bicubic"), x, weight)
    assert len(calls) == 1
    without_library()
    (of_model,) = torch.autograd.grad(resize(x, (50, 60), "bicubic"), x, weight)
    assert torch.equal(beside_library, of_model)


def test_images_that_torch_func_hides_are_those_of_the_model():
    x = torch.cat([picture(0), picture(1)])
    y = torch.func.vmap(lambda image: resize(image[None], (50, 60), "bicubic")[0])(x)
    assert torch.equal(y, resize(x, (50, 60), "bicubic"))


def test_result_belongs_to_the_caller():
    x = picture(0)
    before = x.clone()
    resize(x, (128, 128), "bicubic").zero_()
    assert torch.equal(x, before)


def test_another_library_is_not_used(monkeypatch):
    """A Pillow with other arithmetic, such as 16-bit weights, gives other levels."""
    x = picture(0)
    expected = fixed_point(x, (50, 60), "bicubic")
    original = pillow_library.write_values

    def other(image, out):
        original(image, out)
        out += numpy.float32(1 / 255)

    uncached = functools.lru_cache(pillow_library._equals_model.__wrapped__)
    monkeypatch.setattr(pillow_library, "_equals_model", uncached)
    monkeypatch.setattr(pillow_library, "write_values", other)
    assert torch.equal(resize(x, (50, 60), "bicubic"), expected)


def test_pillow_is_not_used_under_functionalize(calls):
    """Its tensors have a storage without numbers."""
    x = picture(0)
    resized = torch.func.functionalize(lambda image: resize(image, (50, 60), "bicubic"))(x)
    assert calls == []
    assert torch.equal(resized, resize(x, (50, 60), "bicubic"))
