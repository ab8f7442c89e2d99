"""Groups of similar patches, and how far they are trusted where the noise is white."""

import numpy
import pytest
import torch

import degrade
import invert
from invert.orientation import averaged, turned
from invert.problem import Problem
from invert.similar import (
    GROUP,
    RADIUS,
    SIDE,
    STRIDE,
    on_grid,
    patches_of,
    ridge_estimate,
    ridge_weights,
    similar_patches,
)
from invert.strength import Strength, denoised
from invert.white_noise import best_share, refined, refines
from tests.conftest import picture, rng


@pytest.fixture(scope="module")
def photo():
    return invert.load_prior("photo")


class Remembers(torch.nn.Module):
    """Returns its images as they are; `was_upright` says which of them were darker at the top."""

    def __init__(self):
        super().__init__()
        self.was_upright = []

    def forward(self, x, sigma):
        is_upright = bool(x[..., 0, :].mean() < x[..., -1, :].mean() - 0.5)
        self.was_upright.append(is_upright)
        return x


def psnr(x, y):
    return float(-10 * (x - y).square().mean().log10())


def test_ridge_weights_minimise_the_expected_error():
    """Against least squares in numpy, where the noise is n rows of its own: E ‖W(d + n) − d‖²."""
    patches = torch.rand(2, 5, 12, generator=rng(0), dtype=torch.float64)
    sigma = 0.3
    weights = ridge_weights(patches, sigma)
    for group, found in zip(patches.numpy(), weights.numpy(), strict=True):
        differences = group - group.mean(0)
        noise = sigma * numpy.sqrt(12) * numpy.eye(5)
        observed = numpy.vstack([differences.T, noise])
        wanted = numpy.vstack([differences.T, numpy.zeros((5, 5))])
        solution, *_ = numpy.linalg.lstsq(observed, wanted, rcond=None)
        numpy.testing.assert_allclose(found, solution.T + 1 / 5, atol=1e-9)


def test_ridge_keeps_the_mean_of_a_group():
    weights = ridge_weights(torch.rand(3, 6, 48, generator=rng(0)), 0.1)
    assert torch.allclose(weights.sum(2), torch.ones(3, 6), atol=1e-5)


def test_group_without_differences_becomes_its_mean():
    patches = torch.full((1, 8, 48), 0.4)
    assert torch.allclose(ridge_weights(patches, 0.1), torch.full((1, 8, 8), 1 / 8))


def test_without_noise_every_patch_stays():
    x = picture(0)[..., :40, :44]
    assert psnr(ridge_estimate(x, x, 1e-4), x) > 60


@pytest.mark.parametrize("size", [(33, 50), (4, 9), (1, 3)])
def test_constant_picture_stays(size):
    y = torch.full((1, 3, *size), 0.02)
    assert torch.allclose(ridge_estimate(y, y, 0.2), y, atol=1e-6)


def test_noise_on_a_constant_picture_is_averaged():
    """A pixel is the mean of GROUP values or more, so that a 64th of the variance is left."""
    clean = torch.full((1, 3, 48, 48), 0.5)
    noise = 0.1 * torch.randn(clean.shape, generator=rng(0))
    error = ridge_estimate(clean + noise, clean, 0.1) - clean
    assert error.square().mean() < 0.01 / GROUP


def test_similar_patches_are_the_nearest_of_a_full_search():
    """Against numpy: all distances of a patch in the middle, sorted."""
    pilot = on_grid(torch.rand(1, 3, 40, 43, generator=rng(0)))
    groups = torch.cat(list(similar_patches(pilot)))
    across = pilot.shape[3] - SIDE + 1
    row, column = 5 * STRIDE, 6 * STRIDE
    patches = patches_of(pilot).view(-1, 3, SIDE * SIDE).mean(1).numpy()
    first = row * across + column
    distances = ((patches - patches[first]) ** 2).mean(1)
    numbers = numpy.arange(len(patches))
    is_far = abs(numbers // across - row) > RADIUS
    is_far |= abs(numbers % across - column) > RADIUS
    distances[is_far] = numpy.inf
    nearest = numpy.argsort(distances)[:GROUP]
    (found,) = (group for group in groups if first in group and int(group[0]) == first)
    assert set(found.tolist()) == set(nearest.tolist())


def test_every_pixel_is_in_a_group():
    y = torch.rand(1, 1, 29, 37, generator=rng(1))
    assert torch.isfinite(ridge_estimate(y, y, 0.1)).all()


def test_best_share_is_that_of_least_risk():
    """A change that undoes a known share of the error, for which the derivative is known, too.

    The estimate y keeps all noise, and the change (c − y) / 2 leads half of the way to a constant
    c. If x varies around c by τ, the least risk is at 2 σ² / (σ² + τ²) of it.
    """
    sigma, spread = 0.1, 0.2
    x = 0.5 + spread * torch.randn(1, 3, 256, 256, generator=rng(0))
    y = x + sigma * torch.randn(x.shape, generator=rng(1))
    change = (0.5 - y) / 2
    derivative = torch.full_like(y, -(sigma**2) / 2)
    share = best_share(torch.zeros_like(y), change, derivative)
    best = 2 * sigma**2 / (sigma**2 + spread**2)
    assert share.mean() == pytest.approx(best, rel=0.02)
    assert share.std() < 0.03


def test_share_without_a_change_is_none():
    nothing = torch.zeros(1, 3, 20, 20)
    assert torch.equal(best_share(nothing, nothing, nothing), nothing[:, :1])


@pytest.mark.parametrize("spec", ["gaussian:0.1", "gaussian:0.1 >> clamp >> quantize"])
def test_groups_help_where_a_photo_repeats_itself(photo, spec):
    """A woven texture; the network alone leaves more of an error."""
    rows = torch.arange(96.0)
    weave = 0.5 + 0.25 * torch.sin(rows * 1.3)[:, None] * torch.cos(rows * 1.1)
    clean = weave.expand(1, 3, 96, 96)
    f = degrade.parse(spec)
    y = f(clean, rng(0))
    network_alone = photo.denoise(y, 0.1)
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    strength = Strength((0.1,), 0.1, "")
    assert refines(f, strength)
    result = refined(problem, strength, network_alone)
    assert psnr(result, clean) > psnr(network_alone, clean) + 2


@pytest.mark.parametrize("number", [0, 2])
def test_groups_do_not_harm_where_nothing_repeats(photo, number):
    clean = picture(number)
    f = degrade.parse("gaussian:0.1")
    y = f(clean, rng(0))
    network_alone = photo.denoise(y, 0.1)
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    result = refined(problem, Strength((0.1,), 0.1, ""), network_alone)
    assert psnr(result, clean) > psnr(network_alone, clean)


def test_only_white_noise_is_refined():
    known = Strength((0.1,), 0.1, "")
    for spec in (
        "jpeg:20",
        "gaussian:0.1 >> jpeg:40",
        "downsample:2 >> gaussian:0.1",
        "poisson:40",
        "gaussian:0.1,gray=1",
    ):
        assert not refines(degrade.parse(spec), known), spec
    noise = degrade.parse("gaussian:0.1")
    assert not refines(noise, Strength((0.1,), 0.1, "", fixed=0.0))  # it varies over the image
    assert not refines(noise, Strength((), 0.1, ""))  # nothing is denoised


@pytest.mark.parametrize(("upright", "turned"), [(True, 0), (False, 3)])
def test_upright_prior_sees_no_turned_image(upright, turned):
    clean = torch.zeros(1, 3, 32, 32)
    clean[..., 20:, :] = 1
    f = degrade.parse("gaussian:0.02")
    y = f(clean, rng(0))
    network = Remembers()
    prior = invert.Denoiser(network, upright=upright)
    problem = Problem(observation=y, operator=f, prior=prior, seeds=(0,))
    refined(problem, Strength((0.02,), 0.02, ""), y)
    assert network.was_upright.count(False) == turned


class TellsLevel(torch.nn.Module):
    """Returns its noise level as an image."""

    def forward(self, x, sigma):
        return sigma.expand_as(x)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_map_of_noise_is_turned_with_the_image(number):
    z = torch.rand(1, 3, 20, 32, generator=rng(0))
    relative = torch.rand(1, 1, 20, 32, generator=rng(1)) + 0.5
    prior = invert.Denoiser(TellsLevel(), takes_map=True)
    f = degrade.parse("poisson:40")
    problem = Problem(observation=z, operator=f, prior=prior, seeds=(0,))
    estimate = denoised(problem, z, 0.1, relative, number)
    assert torch.allclose(turned(estimate, -number), (0.1 * relative).expand_as(z))


def test_averaged_is_the_mean_of_images_turned_back():
    """Against numpy, for an estimate that adds a ramp from left to right."""
    x = torch.rand(1, 1, 6, 6, generator=rng(0))
    ramp = torch.arange(6.0)
    result = averaged(x + ramp, (1, 2, 3), lambda number: turned(x, number) + ramp)
    ramps = [numpy.rot90(numpy.tile(numpy.arange(6.0), (6, 1)), -n) for n in range(4)]
    expected = x[0, 0].numpy() + numpy.mean(ramps, 0)
    numpy.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-5)
