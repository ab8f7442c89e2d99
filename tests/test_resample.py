import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade import Downsample, Pool
from degrade.resample import resize

from .conftest import picture, rng

FILTERS = {"box": Image.BOX, "bilinear": Image.BILINEAR, "hamming": Image.HAMMING, "bicubic": Image.BICUBIC,
           "lanczos": Image.LANCZOS}  # fmt: skip
sides = st.integers(1, 80)


def pillow(array, size, filter):
    """Pillow ≥ 13's resize, on any Pillow: one axis at a time in its order."""
    (h, w), (oh, ow) = array.shape, size
    image, resample = Image.fromarray(array), FILTERS[filter]
    vertical_first = h > oh and h - oh > 2 * (w - ow)
    half = (w, oh) if vertical_first else (ow, h)
    return numpy.asarray(image.resize(half, resample).resize((ow, oh), resample))


@pytest.mark.parametrize("filter", FILTERS)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_eight_bit_images_equal_pillow_s(filter, h, w, oh, ow, seed):
    pixels = numpy.random.default_rng(seed).integers(0, 256, (h, w), dtype=numpy.uint8)
    y = resize(torch.from_numpy(pixels)[None, None] / 255, (oh, ow), filter)
    assert torch.equal(y[0, 0], torch.from_numpy(pillow(pixels, (oh, ow), filter).copy()) / 255)


@pytest.mark.parametrize("filter", FILTERS)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_other_images_equal_pillow_s_float_mode(filter, h, w, oh, ow, seed):
    values = numpy.random.default_rng(seed).normal(size=(h, w)).astype(numpy.float32)
    y = resize(torch.from_numpy(values)[None, None], (oh, ow), filter)
    assert numpy.allclose(y[0, 0].numpy(), pillow(values, (oh, ow), filter), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_a_photo_reduced_as_pillow_reduces_it(filter, factor):
    x = picture(3)
    size = Downsample(factor).output_shape(x.shape)[2:]
    image = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy())
    expected = numpy.array(image.resize(size[::-1], FILTERS[filter]))
    assert torch.equal(Downsample(factor, filter)(x)[0].permute(1, 2, 0), torch.from_numpy(expected) / 255)


@given(st.integers(1, 9), sides, sides)
def test_pooling_is_the_mean_of_each_cell(factor, h, w):
    x = torch.rand(1, 2, h * factor, w * factor, dtype=torch.float64, generator=rng())
    cells = x.view(1, 2, h, factor, w, factor).mean((3, 5))
    assert torch.allclose(Pool(factor)(x), cells, rtol=1e-12)


@given(st.integers(1, 9), sides, sides)
def test_pooling_of_sides_that_do_not_divide_keeps_constants_and_size(factor, h, w):
    y = Pool(factor)(torch.full((1, 1, h, w), 0.25))
    assert y.shape[2:] == (max(1, h // factor), max(1, w // factor)) and torch.allclose(y, torch.tensor(0.25))


def test_a_solver_does_not_know_the_filter():
    assert Downsample(4, "any").sample((1, 3, 8, 8), rng()).approx() == Downsample(4).approx() == Pool(4)


def test_each_image_draws_its_own_filter():
    f = Downsample(2, "any").sample((64, 3, 8, 8), rng())
    assert set(f.filter) == {"bilinear", "bicubic", "lanczos"}
    x = torch.rand(64, 3, 8, 8, generator=rng())
    assert torch.equal(f(x)[5:6], Downsample(2, f.filter[5])(x[5:6]))


def test_mixed_batches_treat_each_image_as_its_own_kind():
    eight_bit, free = picture(0), torch.rand(1, 3, 128, 128, generator=rng())
    together = Downsample(4)(torch.cat([eight_bit, free]))
    assert torch.equal(together, torch.cat([Downsample(4)(eight_bit), Downsample(4)(free)]))


def test_the_gradient_is_the_linear_filter_s_even_on_eight_bit_images():
    x = picture(1).double().requires_grad_()
    (g,) = torch.autograd.grad(Downsample(4)(x).sum(), x)
    free = (x.detach() + 1e-3).requires_grad_()
    (expected,) = torch.autograd.grad(Downsample(4)(free).sum(), free)
    assert torch.allclose(g, expected) and torch.allclose(g.sum(), torch.tensor(3 * 32 * 32.0).double())
    assert F.avg_pool2d(g, 4).std() < 0.05  # every pixel of the inside counts about 1/16
