"""The start by regression, against refitted regressions and exact cases."""

import pytest
import torch

import degrade
import invert
from invert.problem import Problem
from invert.regression import RIDGES, Regression, best_ridge, predicted
from tests.conftest import rng


def drawn_pairs(count=30, width=4, height=12, noise=0.3):
    """Codes, and noisy linear observations of them."""
    codes = torch.randn(count, width, generator=rng(0), dtype=torch.float64) + 2
    mixing = torch.randn(width, height, generator=rng(1), dtype=torch.float64)
    error = torch.randn(count, height, generator=rng(2), dtype=torch.float64)
    return codes, codes @ mixing + noise * error


def fitted(codes, shown, ridge, y):
    """Ridge regression by its normal equations in the space of observations."""
    centred = shown - shown.mean(0)
    gram = centred.T @ centred + ridge * torch.eye(shown.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(gram, centred.T @ (codes - codes.mean(0)))
    return codes.mean(0) + (y - shown.mean(0)) @ slopes


def variance_of(shown):
    return (shown - shown.mean(0)).square().sum() / len(shown)


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_ridge_has_the_least_error_when_each_draw_is_left_out(noise):
    codes, shown = drawn_pairs(noise=noise)
    errors = []
    for ridge in RIDGES * variance_of(shown):
        error = 0.0
        for i in range(len(codes)):
            others = torch.arange(len(codes)) != i
            guess = fitted(codes[others], shown[others], ridge, shown[i])
            error += (guess - codes[i]).square().sum()
        errors.append(error)
    best = RIDGES[torch.stack(errors).argmin()] * variance_of(shown)
    centred = shown - shown.mean(0)
    offsets = codes - codes.mean(0)
    energies, basis = torch.linalg.eigh(centred @ centred.T)
    chosen = best_ridge(energies.clamp_min(0), basis, basis.T @ offsets, offsets)
    assert chosen == pytest.approx(best.item(), rel=1e-9)
    y = shown[:1] + 0.1
    assert torch.allclose(predicted(y, shown, codes), fitted(codes, shown, best, y), atol=1e-9)


def test_the_ridge_grows_with_the_noise():
    ridges = []
    for noise in (0.03, 30.0):
        codes, shown = drawn_pairs(noise=noise)
        offsets = codes - codes.mean(0)
        centred = shown - shown.mean(0)
        energies, basis = torch.linalg.eigh(centred @ centred.T)
        ridge = best_ridge(energies.clamp_min(0), basis, basis.T @ offsets, offsets)
        ridges.append(ridge / variance_of(shown))
    assert 100 * ridges[0] < ridges[1]


def own_image(small):
    """An image whose code is not among the draws of the regression."""
    w = small.mapping(torch.randn(1, small.z_dim, generator=rng(5)))
    return w, small.synthesize(w).clamp(0, 1)


@pytest.mark.parametrize("spec", ["clamp", "downsample:4", "gaussian:0.1", "jpeg:30"])
def test_the_start_is_nearer_than_the_mean(small, spec):
    w, image = own_image(small)
    f = degrade.parse(spec)
    start = Regression(64)(Problem(f(image, 0), f.approx(), small, (0,))).latent
    assert (start - w).norm() < 0.7 * (small.w_avg - w).norm()


def test_what_shows_nothing_leads_to_the_mean_of_the_draws(small):
    _, image = own_image(small)
    f = degrade.Mask(torch.zeros(1, 1, 32, 32))
    start = Regression(16)(Problem(f(image), f, small, (0,))).latent
    mean = small.some_w(10_000)[0][:16].mean(0)
    assert torch.allclose(start[0], mean, atol=1e-5)


def test_the_start_of_an_image_does_not_depend_on_the_batch(small):
    images = small.synthesize(small.some_w(3)[0]).clamp(0, 1)
    f = degrade.parse("downsample:2 >> poisson:20")
    y = f(images, [1, 2, 3])
    both = Regression(20)(Problem(y, f, small, (7, 8, 9))).latent
    alone = Regression(20)(Problem(y[1:2], f, small, (8,))).latent
    assert torch.allclose(both[1:2], alone, atol=1e-5)


def test_a_search_may_begin_at_the_regression(small):
    _, image = own_image(small)
    method = invert.Method((), start=Regression(16))
    restored = invert.restore(image, degrade.parse("clamp"), small, method)
    start = Regression(16)(Problem(image, degrade.parse("clamp"), small, (0,))).latent
    assert torch.allclose(restored.latent, start, atol=1e-6)
