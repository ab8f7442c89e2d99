"""Filters against scipy, kornia, numpy and closed forms."""

import kornia
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, special

from degrade import Blur, Gamma, Gray, Range, Sinc, parse
from degrade.kernels import KERNELS

from .conftest import picture, rng

sides = st.integers(1, 30)


def noise(h, w, seed=0, channels=1):
    return torch.rand(1, channels, h, w, generator=rng(seed), dtype=torch.float64)


def response(f, side=31):
    """What a bright point becomes."""
    x = torch.zeros(1, 1, side, side, dtype=torch.float64)
    x[..., side // 2, side // 2] = 1
    return f(x)[0, 0]


def moments(kernel):
    """Sum, centre and covariance of a kernel, (x, y), in pixels."""
    at = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    points = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).view(-1, 2)
    weight = kernel.flatten()[:, None]
    centre = (weight * points).sum(0)
    return kernel.sum(), centre, (points - centre).mT @ (weight * (points - centre))


@given(sides, sides, st.floats(0, 6), st.integers(0, 2**31))
def test_blur_gaussian_equals_scipy(h, w, sigma, seed):
    x = noise(h, w, seed)
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), sigma, mode="mirror", truncate=4)
    assert numpy.allclose(Blur("gaussian", sigma)(x)[0, 0].numpy(), expected, atol=1e-12)


@given(sides, sides, st.sampled_from([3, 5, 9]), st.integers(0, 2**31))
def test_blur_any_kernel_equals_scipy(h, w, k, seed):
    x, kernel = noise(h, w, seed), torch.randn(k, k, generator=rng(seed), dtype=torch.float64)
    expected = ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode="mirror")
    assert numpy.allclose(Blur(kernel)(x)[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    "f", [Blur("gaussian", 2), Blur("motion", 9, 30), Blur("defocus", 3.5), Sinc(1.5)]
)
def test_blur_of_photo_equals_kornia(f):
    x, kernel = picture(4).double(), response(f)[None]
    expected = kornia.filters.filter2d(x, kernel, border_type="reflect", behaviour="conv")
    assert torch.allclose(f(x), expected, atol=1e-12)


def test_blur_turns_point_into_kernel():
    kernel = torch.arange(15, dtype=torch.float64).view(3, 5)
    assert torch.allclose(response(Blur(kernel), 9)[3:6, 2:7], kernel, atol=1e-12)


@given(
    st.sampled_from(
        [Blur("gaussian", 1.7), Blur("motion", 5.5, 20), Blur("defocus", 2.5), Sinc(2.0)]
    ),
    sides,
    sides,
)
def test_filters_keep_flat_images(f, h, w):
    x = torch.full((1, 3, h, w), 0.25, dtype=torch.float64)
    assert torch.allclose(f(x), x, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 9])
def test_motion_along_axis_equals_kornia(length):
    for angle, turned in [(0, False), (90, True), (180, False), (-90, True)]:
        kernel = response(Blur("motion", length, angle))
        line = torch.zeros(31, 31, dtype=torch.float64)
        line[15, 15 - length // 2 : 16 + length // 2] = 1 / length
        assert torch.allclose(kernel, line.mT if turned else line, atol=1e-12)
        if length > 1:
            theirs = kornia.filters.get_motion_kernel2d(length, float(angle))[0].double()
            assert torch.allclose(
                kernel[15 - length // 2 :, 15 - length // 2 :][:length, :length], theirs, atol=1e-6
            )


@given(st.floats(4, 25), st.floats(-360, 360))
def test_motion_kernel_has_length_and_angle(length, angle):
    """The variance along a line is length²/12; its thickness of a pixel adds a little."""
    total, centre, covariance = moments(response(Blur("motion", length, angle)))
    turn = numpy.radians(angle)
    along = torch.tensor(
        [numpy.cos(turn), -numpy.sin(turn)], dtype=torch.float64
    )  # rows grow downwards
    across = along.flip(0) * torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert torch.allclose(total, torch.ones(()).double()) and centre.abs().max() < 1e-9
    assert abs((12 * along @ covariance @ along).sqrt() - length) < 0.6
    assert abs(across @ covariance @ across) < 0.25


def test_motion_angle_is_counterclockwise():
    kernel = response(Blur("motion", 9, 45))
    assert (
        kernel[12, 18] > 0.05 and kernel[18, 12] > 0.05 and abs(kernel[12, 12]) < 1e-12
    )  # up on the right


@given(st.floats(1, 12))
def test_defocus_kernel_is_share_of_disc(radius):
    fine = (numpy.arange(31 * 16) + 0.5) / 16 - 15.5
    disc = (numpy.hypot(fine[:, None], fine) <= radius).reshape(31, 16, 31, 16).mean((1, 3))
    kernel = response(Blur("defocus", radius)).numpy()
    assert abs(kernel - disc / disc.sum()).max() < 0.13 * kernel.max()
    assert abs(kernel.sum() - 1) < 1e-12 and numpy.allclose(kernel, numpy.rot90(kernel), atol=1e-12)


def test_blur_size_zero_changes_nothing():
    x = noise(5, 7)
    for f in (Blur("gaussian", 0), Blur("defocus", 0), Blur("motion", 1, 33), Sinc(2.0, size=1)):
        assert torch.allclose(f(x), x, atol=1e-12)


@given(st.floats(0.1, 3.14), st.sampled_from([3, 7, 13, 21]))
def test_sinc_equals_published_kernel(cutoff, size):
    at = numpy.arange(size) - size // 2
    r = numpy.hypot(at[:, None], at)
    r[size // 2, size // 2] = 1e-9  # J₁(t) → t/2
    expected = cutoff * special.j1(cutoff * r) / (2 * numpy.pi * r)
    kernel = response(Sinc(cutoff, size))[15 - size // 2 :, 15 - size // 2 :][:size, :size]
    assert numpy.allclose(kernel.numpy(), expected / expected.sum(), atol=1e-12)


def test_sinc_passes_below_cutoff_and_rings():
    cutoff = 1.5
    spectrum = torch.fft.fft2(response(Sinc(cutoff, size=101), 255)).abs()
    frequency = torch.fft.fftfreq(255) * 2 * torch.pi
    radius = torch.hypot(frequency[:, None], frequency)
    assert (
        abs(spectrum[radius < 0.9 * cutoff].mean() - 1) < 0.02
        and spectrum[radius > 1.1 * cutoff].mean() < 0.02
    )
    edge = torch.zeros(1, 1, 32, 64)
    edge[..., 32:] = 1
    assert Sinc(cutoff)(edge).max() > 1.04 and Sinc(cutoff)(edge).min() < -0.04


def test_filter_parameters_apply_per_image():
    x = torch.rand(2, 3, 9, 8, generator=rng())
    for per_image, each in [
        (Blur("gaussian", (0.5, 2)), [Blur("gaussian", 0.5), Blur("gaussian", 2)]),
        (Blur("motion", (3, 7), (0, 40)), [Blur("motion", 3, 0), Blur("motion", 7, 40)]),
        (Sinc((1.0, 2.0)), [Sinc(1.0), Sinc(2.0)]),
        (Gamma((0.5, 2)), [Gamma(0.5), Gamma(2)]),
    ]:
        together = per_image(x)
        for i in range(2):
            assert torch.equal(together[i : i + 1], each[i](x[i : i + 1]))


@pytest.mark.parametrize(
    "f", [Blur("gaussian", 1.3), Blur("motion", 4, 70), Blur([[1, 2, -3]]), Sinc(1.2, 7), Gray()]
)
@given(sides, sides, st.integers(0, 2**31))
def test_filter_gradient_is_adjoint(f, h, w, seed):
    x, y = noise(h, w, seed, channels=3), noise(h, w, seed + 1, channels=3)
    assert torch.allclose((f(x) * y).sum(), (x * f.adjoint(y)).sum(), rtol=1e-9, atol=1e-9)


def test_gray_equals_pillow_luma():
    x = picture(6)
    image = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy())
    y = Gray()(x)
    luma = torch.from_numpy(numpy.array(image.convert("L"))) / 255  # rounded to 8 bits
    assert (y[0] - luma).abs().max() < 0.51 / 255
    assert torch.equal(y[:, 0], y[:, 1]) and torch.equal(y[:, 0], y[:, 2])
    assert torch.allclose(Gray()(y), y) and torch.equal(Gray()(x[:, :1]), x[:, :1])


@given(st.floats(0.01, 10), st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=20))
def test_gamma_slope_is_finite_at_black(gamma, values):
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    y = Gamma(gamma)(x)
    p = numpy.maximum(values, 0)
    assert numpy.allclose(y.detach().flatten().numpy(), p**gamma, rtol=1e-12)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert numpy.allclose(
        slope.flatten().numpy(), gamma * numpy.maximum(p, 1e-3) ** (gamma - 1), rtol=1e-12
    )
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kernel", [2, 2.0, [2], [[2]], torch.tensor(2.0)])
def test_blur_refuses_a_kernel_of_one_number(kernel):
    """Blur(2) doubled the brightness where a reader expects a Gaussian."""
    with pytest.raises(ValueError, match="one number, .* is blur:gaussian,2$"):
        Blur(kernel)


def test_blur_kernel_round_trips_as_text():
    kernel = torch.tensor([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
    f = Blur(kernel)
    kernel.zero_()
    assert f == Blur(f.kernel) == parse(str(f)) and hash(f) == hash(parse(str(f)))
    assert str(Blur([[0, 1, 0]])) == "blur:0|0|0|0|1|0|0|0|0"
    assert parse("blur:gaussian,2") == Blur("gaussian", 2)
    assert set(KERNELS) == {"gaussian", "plateau", "motion", "defocus", "trail", "line", "disc"}


def test_filter_ranges_draw_within_bounds():
    f = parse("blur:motion,5..9,angle=-90..90")
    assert f == Blur("motion", Range(5, 9), Range(-90, 90))
    drawn = [f.sample((1, 3, 8, 8), rng(i)) for i in range(20)]
    assert all(5 <= g.size <= 9 and -90 <= g.angle <= 90 for g in drawn) and len(set(drawn)) == 20


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Blur("box", 2), "kernel='box' must be one of gaussian, plateau, motion, defocus"),
        (lambda: Blur("gaussian"), "size is missing, as in blur:gaussian,2"),
        (lambda: Blur("gaussian", 1e9), "size=1000000000.0 must be"),
        (lambda: Blur("gaussian", 2, angle=30), "angle=30 belongs to motion"),
        (lambda: Blur("motion", 0.5), "size=0.5 must be a number from 1 to 1000"),
        (lambda: Blur("motion", 5, angle=float("nan")), "angle=nan"),
        (lambda: Blur(torch.ones(3, 3), 2), "size=2 belongs to a kernel with a name"),
        (lambda: Blur(torch.ones(2, 2)), r"shape \[2, 2\]"),
        (lambda: Blur([1, 2, 3]), r"shape \[3\]"),
        (lambda: Blur([]), "shape"),
        (lambda: Blur(None), "kernel=None is no kernel"),
        (lambda: Blur([[1, 2], [3]]), "is no kernel"),
        (lambda: Blur([["a"]]), "is no kernel"),
        (lambda: Blur([[0, float("nan"), 0]]), "values that do not fit"),
        (lambda: Blur([[0, 1e300, 0]]), "values that do not fit"),
        (lambda: Blur(torch.ones(1, 1003)), "below 1002"),
        (lambda: Sinc(0), "cutoff=0 must be a number from 0.001"),
        (lambda: Sinc(4), "cutoff=4"),
        (lambda: Sinc(1.0, size=4), "size=4 must be an odd integer from 1 to 101"),
        (lambda: Sinc(1.0, size=(3, 5)), "must be one number for all images"),
        (lambda: Gamma(0), "gamma=0 must be a number from 0.01 to 100"),
        (lambda: Gray()(torch.zeros(1, 2, 4, 4)), "x has 2 channels; give 1 .grey. or 3"),
        (
            lambda: Blur("gaussian", (1, 2, 3))(torch.zeros(2, 1, 4, 4)),
            "size has 3 values for 2 images",
        ),
    ],
)
def test_filter_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()
