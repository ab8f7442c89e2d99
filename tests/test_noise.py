"""Noise against its own distribution. Each statistical test's chance of a false alarm is stated."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from degrade import DeadPixels, Gaussian, Poisson

from .conftest import rng

FALSE_ALARM = 1e-4  # per test, at a fixed seed: a pass stays a pass


def flat(value, n=40_000, dtype=torch.float64):
    return torch.full((1, 1, 1, n), value, dtype=dtype)


def test_gaussian_is_normal():
    y = Gaussian(0.3)(flat(0.5), rng()).flatten()
    assert stats.kstest(y.numpy(), "norm", args=(0.5, 0.3)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("peak, value", [(6, 0.9), (24, 0.3), (96, 0.02), (1000, 1.0)])
def test_poisson_counts_are_poisson(peak, value):
    counts = (Poisson(peak)(flat(value), rng()) * peak).flatten()
    assert torch.allclose(counts, counts.round(), atol=1e-6)
    law = stats.poisson(peak * value)
    low, high = int(law.ppf(0.005)), int(law.ppf(0.995))
    edges = [-math.inf, *range(low, high), math.inf]
    cells = list(itertools.pairwise(edges))
    seen = [int(((counts > a) & (counts <= b)).sum()) for a, b in cells]
    expected = [float(law.cdf(b) - law.cdf(a)) * len(counts) for a, b in cells]
    assert stats.chisquare(seen, expected).pvalue > FALSE_ALARM


def test_dead_pixels_are_dead_in_all_channels_and_as_many_as_said():
    y = DeadPixels(0.16)(torch.ones(1, 3, 200, 200), rng())
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert (y == y[:, :1]).all()
    assert stats.binomtest(int((y[:, 0] == 0).sum()), 200 * 200, 0.16).pvalue > FALSE_ALARM


@given(st.floats(0.5, 500), st.integers(0, 2**31), st.lists(st.floats(0, 1.5), min_size=1, max_size=20))
def test_poisson_s_gradient_at_the_drawn_sample(peak, seed, values):
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    y = Poisson(peak)(x, rng(seed))
    (slope,) = torch.autograd.grad(y.sum(), x)
    expected = 1 + (y - x) / (2 * (x + 1e-3 / peak))
    assert torch.isfinite(slope).all()
    assert torch.allclose(slope, expected, rtol=1e-9)


def test_poisson_s_gradient_is_unbiased_for_the_mean_and_the_second_moment():
    """E[dy/dp] = 1 and E[d(y²)/dp] = 2p + 1/peak; within 5 standard errors."""
    peak, p = 24.0, 0.4
    x = flat(p, 400_000).requires_grad_()
    y = Poisson(peak)(x, rng())
    for power, truth in [(1, 1.0), (2, 2 * p + 1 / peak)]:
        (slope,) = torch.autograd.grad((y**power).sum(), x, retain_graph=True)
        error = slope.std() / math.sqrt(slope.numel())
        assert abs(slope.mean() - truth) < 5 * error + 2 * 1e-3 / (peak * p)  # the stabiliser's own bias


def test_poisson_counts_nothing_below_zero():
    x = torch.full((1, 1, 4, 4), -0.5, requires_grad=True)
    y = Poisson(6)(x, rng())
    assert (y == 0).all() and torch.isfinite(torch.autograd.grad(y.sum(), x)[0]).all()


def test_the_solver_s_poisson_is_the_published_gaussian():
    peak, p = 24.0, 0.4
    f = Poisson(peak).approx()
    assert str(f) == "clamp >> poisson:24,model=gaussian"
    y = f(flat(p), rng()).flatten().numpy()
    rate = peak * p
    law = stats.norm((rate - 0.5) / peak, math.sqrt(rate + 1e-3) / peak)
    assert stats.kstest(y, law.cdf).pvalue > FALSE_ALARM


def test_a_solver_does_not_know_which_pixels_died():
    f = DeadPixels(0.5).sample((1, 3, 32, 32), rng())
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(f(x, rng(1)), f(x, rng(2)))
    assert torch.equal(f(x)[:, :1], f.visible(x.shape))
    assert not torch.equal(f.approx()(x, rng(1)), f.approx()(x, rng(2)))
    assert f.approx().visible(x.shape) is None


def test_parameters_per_image_are_each_image_s_own():
    x = torch.rand(2, 3, 8, 8, generator=rng())
    for per_image, each in [
        (Gaussian((0.1, 0.7)), [Gaussian(0.1), Gaussian(0.7)]),
        (Poisson((6, 96)), [Poisson(6), Poisson(96)]),
        (DeadPixels((0.1, 0.9)), [DeadPixels(0.1), DeadPixels(0.9)]),
    ]:
        together = per_image(x, [rng(1), rng(2)])
        for i in range(2):
            assert torch.equal(together[i : i + 1], each[i](x[i : i + 1], rng(i + 1)))
