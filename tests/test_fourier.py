import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import FourierMagnitude, Strokes, parse, tasks

from .conftest import rng


def framed(x, rows, columns):
    return numpy.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))


def centred_magnitudes(x):
    """fft2c of fastMRI, as DPS and DAPS call it: shifted before and after, norm="ortho"."""
    axes = (-2, -1)
    shifted = numpy.fft.ifftshift(x, axes=axes)
    spectrum = numpy.fft.fft2(shifted, norm="ortho")
    return numpy.abs(numpy.fft.fftshift(spectrum, axes=axes))


@given(st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12), st.floats(0, 8))
def test_fouriermagnitude_equals_that_of_numpy(c, h, w, oversampling):
    x = torch.rand(2, c, h, w, generator=rng(), dtype=torch.float64)
    f = FourierMagnitude(oversampling)
    expected = centred_magnitudes(
        framed(x.numpy(), int(oversampling / 8 * h), int(oversampling / 8 * w))
    )
    assert f.output_shape(x.shape) == (2, c, 1, expected[0, 0].size)
    assert numpy.allclose(f(x).numpy(), expected.reshape(2, c, 1, -1), atol=1e-12)


def test_fouriermagnitude_of_float32_is_as_exact_as_float32():
    x = torch.rand(1, 3, 40, 32, generator=rng())
    f = FourierMagnitude(2)
    assert torch.equal(f(x), f(x.double()).float())


def test_fouriermagnitude_has_the_exact_gradient():
    x = torch.rand(2, 2, 4, 5, generator=rng(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FourierMagnitude(4), x)
    assert torch.autograd.gradgradcheck(FourierMagnitude(1), x)


def test_fouriermagnitude_of_black_has_the_gradient_0():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(FourierMagnitude(2)(x).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_fouriermagnitude_of_moved_and_turned_images_is_equal():
    x = torch.zeros(1, 3, 16, 12, dtype=torch.float64)
    x[..., :10, :9] = torch.rand(1, 3, 10, 9, generator=rng(), dtype=torch.float64)
    y = FourierMagnitude(2)(x)
    moved = x.roll((6, 3), (2, 3))
    turned = x.flip(2, 3)
    one_channel_turned = torch.cat([turned[:, :1], x[:, 1:]], 1)
    for other in (moved, turned, one_channel_turned):
        assert torch.allclose(FourierMagnitude(2)(other), y, atol=1e-12)
    assert not torch.allclose(FourierMagnitude(2)(x.flip(2)), y, atol=1e-2)


def test_fouriermagnitude_from_4_on_gives_the_autocorrelation():
    x = torch.rand(1, 1, 6, 6, generator=rng(), dtype=torch.float64)
    y = FourierMagnitude(4)(x).view(12, 12).numpy()
    correlation = numpy.fft.ifft2(numpy.fft.ifftshift(y**2 * 12 * 12)).real
    a = x.view(6, 6).numpy()
    for down in range(6):
        for right in range(6):
            expected = (a[down:, right:] * a[: 6 - down, : 6 - right]).sum()
            assert numpy.isclose(correlation[down, right], expected / 12**2 * 12**2)


@given(st.integers(1, 40), st.floats(0, 8))
def test_fouriermagnitude_finds_the_size_of_a_square(side, oversampling):
    f, shape = FourierMagnitude(oversampling), (2, 3, side, side)
    assert f.input_shape(f.output_shape(shape)) == shape


def test_phase_retrieval_of_dps_has_images_in_minus_1_to_1():
    """Its measurements of 2x - 1, with noise of 0.05, are twice ours."""
    x = torch.rand(1, 3, 256, 256, generator=rng())
    *stages, noise = tasks["dps/phase-retrieval"]
    y = x
    for stage in stages:
        y = stage.forward(y, None)
    signed = 2 * x.double().numpy() - 1
    expected = centred_magnitudes(framed(signed, 64, 64))
    assert numpy.allclose(2 * y.numpy(), expected.reshape(1, 3, 1, -1), atol=1e-5)
    assert 2 * noise.sigma == 0.05


def test_phase_retrieval_of_daps_has_images_in_0_to_1():
    x = torch.rand(1, 3, 256, 256, generator=rng())
    magnitude, noise = tasks["daps/phase-retrieval"]
    expected = centred_magnitudes(framed(x.double().numpy(), 64, 64))
    assert numpy.allclose(magnitude(x).numpy(), expected.reshape(1, 3, 1, -1), atol=1e-5)
    assert noise.sigma == 0.05


def test_fouriermagnitude_visible_is_the_share_of_the_image():
    shape = (1, 3, 16, 16)
    seen = (Strokes(3, seed=1) >> FourierMagnitude(2)).visible(shape)
    assert torch.allclose(seen, Strokes(3, seed=1).visible(shape).mean())
    assert seen.shape == (1, 1, 1, 24 * 24)
    assert FourierMagnitude(2).visible(shape) is None


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: FourierMagnitude(-1), "oversampling=-1 must be a number from 0 to 8"),
        (lambda: FourierMagnitude((1, 2)), "must be one number for all images"),
        (lambda: FourierMagnitude(2).input_shape((1, 3, 1, 8)), "8 magnitudes are not those of a"),
        (lambda: FourierMagnitude(2).moved(torch.zeros(1, 2), (1, 3, 8, 8)), "no position of one"),
        (lambda: FourierMagnitude(2).adjoint(torch.zeros(1, 1, 1, 9)), "it is not linear"),
        (lambda: parse("fouriermagnitude:1..2").output_shape((1, 1, 4, 4)), "not decided yet"),
    ],
)
def test_fouriermagnitude_errors_name_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=words):
        make()
