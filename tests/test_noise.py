"""Noise against its own distribution. Each statistical test's chance of a false alarm is stated."""

import itertools
import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from degrade import (
    Correlated,
    DeadPixels,
    Gaussian,
    HotPixels,
    Poisson,
    PoissonGaussian,
    SaltPepper,
    ScaledPoisson,
    Speckle,
    Uniform,
)
from degrade.rng import Rng

from .conftest import rng

FALSE_ALARM = 1e-4  # per test, at a fixed seed: a pass stays a pass


unit = st.floats(0, 1)


def flat(value, n=40_000, dtype=torch.float64):
    return torch.full((1, 1, 1, n), value, dtype=dtype)


def test_gaussian_follows_normal_law():
    y = Gaussian(0.3)(flat(0.5), rng()).flatten()
    assert stats.kstest(y.numpy(), "norm", args=(0.5, 0.3)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("gray", [0, 1])
def test_gaussian_inside_a_transform_is_that_outside(gray):
    """Outside, the sum is written over the noise; inside, it is a new tensor."""
    x = torch.rand(2, 3, 9, 7, generator=rng())
    f = Gaussian(0.3, gray=gray)
    by_slice = torch.func.vmap(lambda image: f(image[None], 5)[0], randomness="same")(x)
    alone = torch.cat([f(image[None], 5) for image in x])
    assert torch.equal(by_slice, alone)


def test_speckle_grows_with_pixel_value():
    for value in (0.1, 0.8):
        y = Speckle(0.3)(flat(value), rng()).flatten()
        assert stats.kstest(y.numpy(), "norm", args=(value, 0.3 * value)).pvalue > FALSE_ALARM


def test_uniform_noise_is_centred_on_pixel():
    y = Uniform(0.4)(flat(0.5), rng()).flatten()
    assert stats.kstest(y.numpy(), "uniform", args=(0.3, 0.4)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("peak, sigma, value", [(24, 0.05, 0.4), (6, 0.02, 0.9), (96, 0.1, 0.01)])
def test_poissongaussian_adds_read_noise(peak, sigma, value):
    y = PoissonGaussian(peak, sigma)(flat(value), rng()).flatten().numpy()
    counts = numpy.arange(stats.poisson(peak * value).ppf(1 - 1e-12) + 1)
    shares = stats.poisson(peak * value).pmf(counts)

    def cdf(v):
        return (shares * stats.norm.cdf((v[:, None] - counts / peak) / sigma)).sum(1)

    assert stats.kstest(y, cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("peak, value", [(6, 0.9), (24, 0.3), (96, 0.02), (1000, 1.0)])
def test_poisson_counts_follow_poisson_law(peak, value):
    counts = (Poisson(peak)(flat(value), rng()) * peak).flatten()
    assert torch.allclose(counts, counts.round(), atol=1e-6)
    law = stats.poisson(peak * value)
    low, high = int(law.ppf(0.005)), int(law.ppf(0.995))
    edges = [-math.inf, *range(low, high), math.inf]
    cells = list(itertools.pairwise(edges))
    seen = [int(((counts > a) & (counts <= b)).sum()) for a, b in cells]
    expected = [float(law.cdf(b) - law.cdf(a)) * len(counts) for a, b in cells]
    assert stats.chisquare(seen, expected).pvalue > FALSE_ALARM


def test_deadpixels_share_is_prob_in_all_channels():
    y = DeadPixels(0.16)(torch.ones(1, 3, 200, 200), rng())
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert (y == y[:, :1]).all()
    assert stats.binomtest(int((y[:, 0] == 0).sum()), 200 * 200, 0.16).pvalue > FALSE_ALARM


def test_hotpixels_share_is_prob_in_all_channels():
    y = HotPixels(0.16)(torch.zeros(1, 3, 200, 200), rng())
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert (y == y[:, :1]).all()
    assert stats.binomtest(int((y[:, 0] == 1).sum()), 200 * 200, 0.16).pvalue > FALSE_ALARM


def test_saltpepper_share_is_prob_in_all_channels():
    y = SaltPepper(0.3, salt=0.25)(torch.full((1, 3, 200, 200), 0.5), rng())
    assert set(y.unique().tolist()) == {0.0, 0.5, 1.0}
    assert (y == y[:, :1]).all()
    seen = [int((y[:, 0] == v).sum()) for v in (0, 0.5, 1)]
    expected = [200 * 200 * share for share in (0.3 * 0.75, 0.7, 0.3 * 0.25)]
    assert stats.chisquare(seen, expected).pvalue > FALSE_ALARM


@pytest.mark.parametrize("f", [SaltPepper(0.4), HotPixels(0.4, seed=3), DeadPixels(0.4, seed=3)])
def test_impulse_noise_gradient_is_its_mask(f):
    x = torch.full((2, 3, 9, 9), 0.5, requires_grad=True)
    y = f(x, rng())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope, (y.detach() == 0.5).float()) and 0 < slope.mean() < 1


def test_speckle_and_uniform_gradient_at_draw():
    x = flat(0.5, 100).requires_grad_()
    y = Speckle(0.3)(x, rng())
    assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], y / x)
    assert torch.equal(torch.autograd.grad(Uniform(0.3)(x, rng()).sum(), x)[0], torch.ones_like(x))


@given(
    st.floats(0.5, 500),
    unit,
    st.integers(0, 2**31),
    st.lists(st.floats(0, 1.5), min_size=1, max_size=20),
)
def test_poissongaussian_gradient_is_that_of_poisson(peak, sigma, seed, values):
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    slopes = []
    for s in (sigma, 0):  # the photons are drawn first, so they are the same
        y = PoissonGaussian(peak, s)(x, rng(seed))
        slopes.append(torch.autograd.grad(y.sum(), x)[0])
    assert torch.equal(*slopes)
    assert torch.allclose(slopes[0], 1 + (y - x) / (2 * (x + 1e-3 / peak)), rtol=1e-9)


@given(
    st.floats(0.5, 500), st.integers(0, 2**31), st.lists(st.floats(0, 1.5), min_size=1, max_size=20)
)
def test_poisson_gradient_is_taken_at_draw(peak, seed, values):
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    y = Poisson(peak)(x, rng(seed))
    (slope,) = torch.autograd.grad(y.sum(), x)
    expected = 1 + (y - x) / (2 * (x + 1e-3 / peak))
    assert torch.isfinite(slope).all()
    assert torch.allclose(slope, expected, rtol=1e-9)


def test_poisson_gradient_unbiased_for_two_moments():
    """E[dy/dp] = 1 and E[d(y²)/dp] = 2p + 1/peak; within 5 standard errors."""
    peak, p = 24.0, 0.4
    x = flat(p, 400_000).requires_grad_()
    y = Poisson(peak)(x, rng())
    for power, truth in [(1, 1.0), (2, 2 * p + 1 / peak)]:
        (slope,) = torch.autograd.grad((y**power).sum(), x, retain_graph=True)
        error = slope.std() / math.sqrt(slope.numel())
        assert abs(slope.mean() - truth) < 5 * error + 2 * 1e-3 / (
            peak * p
        )  # the stabiliser's own bias


def test_poisson_counts_zero_below_black():
    x = torch.full((1, 1, 4, 4), -0.5, requires_grad=True)
    y = Poisson(6)(x, rng())
    assert (y == 0).all() and torch.isfinite(torch.autograd.grad(y.sum(), x)[0]).all()


def test_poisson_approx_is_published_gaussian():
    peak, p = 24.0, 0.4
    f = Poisson(peak).approx()
    assert str(f) == "clamp >> poisson:24,model=gaussian"
    y = f(flat(p), rng()).flatten().numpy()
    rate = peak * p
    law = stats.norm((rate - 0.5) / peak, math.sqrt(rate + 1e-3) / peak)
    assert stats.kstest(y, law.cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("kind, lost", [(DeadPixels, 0.0), (HotPixels, 1.0)])
def test_deadpixels_approx_forgets_lost_pixels(kind, lost):
    f = kind(0.5).sample((1, 3, 32, 32), rng())
    x = torch.full((1, 3, 32, 32), 0.5)
    assert torch.equal(f(x, rng(1)), f(x, rng(2)))
    assert torch.equal((f(x)[:, :1] != lost).float(), f.visible(x.shape))
    assert not torch.equal(f.approx()(x, rng(1)), f.approx()(x, rng(2)))
    assert f.approx().visible(x.shape) is None
    assert f.linear == (kind is DeadPixels)


def test_noise_parameters_apply_per_image():
    x = torch.rand(2, 3, 8, 8, generator=rng())
    for per_image, each in [
        (Gaussian((0.1, 0.7)), [Gaussian(0.1), Gaussian(0.7)]),
        (Poisson((6, 96)), [Poisson(6), Poisson(96)]),
        (DeadPixels((0.1, 0.9)), [DeadPixels(0.1), DeadPixels(0.9)]),
        (DeadPixels((0.1, 0.9), seed=5), [DeadPixels(0.1, seed=5), DeadPixels(0.9, seed=5)]),
        (HotPixels((0.1, 0.9)), [HotPixels(0.1), HotPixels(0.9)]),
        (PoissonGaussian((6, 96), (0.5, 0.1)), [PoissonGaussian(6, 0.5), PoissonGaussian(96, 0.1)]),
        (SaltPepper((0.1, 0.9), (0.5, 0.25)), [SaltPepper(0.1, 0.5), SaltPepper(0.9, 0.25)]),
        (Speckle((0.1, 0.7)), [Speckle(0.1), Speckle(0.7)]),
        (Uniform((0.1, 0.7)), [Uniform(0.1), Uniform(0.7)]),
    ]:
        together = per_image(x, [rng(1), rng(2)])
        for i in range(2):
            assert torch.equal(together[i : i + 1], each[i](x[i : i + 1], rng(i + 1)))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PoissonGaussian(0, 0.1), "peak=0 must be a number from 1e-06 to 1e.09"),
        (lambda: PoissonGaussian(10, -1), "sigma=-1 must be a number from 0"),
        (lambda: HotPixels(1.5), "prob=1.5 must be a number from 0 to 1"),
        (lambda: HotPixels(0.5, seed=-1), "seed=-1 must be an integer from 0"),
        (lambda: SaltPepper(math.nan), "prob=nan"),
        (lambda: SaltPepper(0.1, "white"), "salt='white'"),
        (lambda: Speckle(math.inf), "sigma=inf"),
        (lambda: Uniform(-0.1), "width=-0.1"),
        (lambda: Uniform(1e300), "width=1e.300 must be a number from 0 to 1"),
        (
            lambda: HotPixels(0.5, seed=(1, 2, 3))(torch.zeros(2, 1, 4, 4)),
            "seed has 3 values for 2 images",
        ),
        (
            lambda: Speckle((0.1, 0.2, 0.3))(torch.zeros(2, 1, 4, 4)),
            "sigma has 3 values for 2 images",
        ),
    ],
)
def test_noise_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_gray_noise_is_equal_in_all_channels():
    x = torch.rand(1, 3, 9, 7, generator=rng())
    for f in (Gaussian(0.2, gray=1), Speckle(0.2, gray=1), ScaledPoisson(2, gray=1)):
        noise = f(x, rng(1)) - x
        if f.name == "speckle":
            noise = noise / x
        assert noise.abs().max() > 0
        assert torch.allclose(noise, noise[:, :1], atol=1e-6)
    of_one_channel = Gaussian(0.2)(x[:, :1], rng(1)) - x[:, :1]
    assert torch.allclose(Gaussian(0.2, gray=1)(x, rng(1)) - x, of_one_channel, atol=1e-7)


def test_gray_noise_has_its_probability():
    drawn = [Gaussian(0.2, gray=0.4).sample((1, 3, 4, 4), rng(i)) for i in range(2000)]
    gray = drawn.count(Gaussian(0.2, gray=1))
    assert gray + drawn.count(Gaussian(0.2)) == 2000
    assert stats.binomtest(gray, 2000, 0.4).pvalue > FALSE_ALARM


def recorded_poisson(monkeypatch):
    """Record every rate that is counted, and the counts."""
    calls = []
    poisson = Rng.poisson

    def record(self, rate):
        counts = poisson(self, rate)
        calls.append((rate.numpy(), counts.numpy()))
        return counts

    monkeypatch.setattr(Rng, "poisson", record)
    return calls


@pytest.mark.parametrize("count, peak", [(1, 1), (2, 2), (3, 4), (5, 8), (255, 256), (256, 256)])
def test_scaledpoisson_equals_formula_for_level_count(count, peak, monkeypatch):
    """The sum is on the image itself, the counts on its rounding to 8 bits."""
    levels = numpy.resize(numpy.arange(count), (3, 24, 32)) / 255
    x = (levels + 0.2 / 255).astype(numpy.float32)
    calls = recorded_poisson(monkeypatch)
    y = ScaledPoisson(1.7)(torch.from_numpy(x)[None], rng())[0].numpy()
    ((rate, counts),) = calls
    assert numpy.allclose(rate[0], levels * peak, atol=1e-5)
    assert numpy.allclose(y, x + 1.7 * (counts[0] / peak - levels), atol=1e-6)


def test_scaledpoisson_gray_counts_luma(monkeypatch):
    x = numpy.random.default_rng(3).random((3, 20, 20), dtype=numpy.float32)
    luma = numpy.tensordot([0.2989, 0.587, 0.114], x, 1)
    levels = numpy.round(luma * 255) / 255
    peak = 2 ** math.ceil(math.log2(len(numpy.unique(levels))))
    calls = recorded_poisson(monkeypatch)
    y = ScaledPoisson(0.5, gray=1)(torch.from_numpy(x)[None], rng())[0].numpy()
    ((rate, counts),) = calls
    assert numpy.allclose(rate[0, 0], levels * peak, atol=1e-4)
    assert numpy.allclose(y, x + 0.5 * (counts[0] / peak - levels), atol=1e-6)


def test_correlated_noise_has_its_covariance():
    """Each entry of the sample covariance within 5 standard errors of 10⁵ draws."""
    mix = (0.5, 0.2, 0.1, 0.4, 0.3, 0.9)
    matrix = numpy.array([[0.5, 0.2, 0.1], [0.2, 0.4, 0.3], [0.1, 0.3, 0.9]])
    x = torch.full((1, 3, 250, 400), 0.5, dtype=torch.float64)
    noise = (Correlated(0.3, mix)(x, rng()) - x)[0].flatten(1).numpy()
    covariance = numpy.cov(noise) / 0.3**2
    error = numpy.sqrt((matrix**2 + numpy.outer(matrix.diagonal(), matrix.diagonal())) / 1e5)
    assert (abs(covariance - matrix) < 5 * error).all()
    assert abs(noise.mean()) < 5 * 0.3 / math.sqrt(1e5)


def test_correlated_draws_a_covariance():
    """Entries of |Uᵀ D U| are at most 1, and the trace is that of D: three draws of U[0, 1)."""
    drawn = [Correlated(0.1).sample((1, 3, 4, 4), rng(i)).mix for i in range(500)]
    traces = [rr + gg + bb for rr, _, _, gg, _, bb in drawn]
    assert all(0 <= value <= 1 for mix in drawn for value in mix)

    def sum_of_three(x):  # the law of Irwin and Hall
        powers = [numpy.maximum(x - k, 0) ** 3 for k in range(4)]
        return (powers[0] - 3 * powers[1] + 3 * powers[2] - powers[3]) / 6

    assert stats.kstest(traces, sum_of_three).pvalue > FALSE_ALARM


def test_correlated_refuses_what_is_no_covariance():
    with pytest.raises(ValueError, match="must be six numbers"):
        Correlated(0.1, (1, 2, 3))
    for outside in (float("nan"), 10):
        with pytest.raises(ValueError, match="must be six numbers from -9 to 9"):
            Correlated(0.1, (1, 0, 0, 1, 0, outside))
    with pytest.raises(ValueError, match="no covariance"):
        Correlated(0.1, (0.1, 1, 0, 0.1, 0, 0.1))
