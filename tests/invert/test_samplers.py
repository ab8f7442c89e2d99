"""Samplers against closed forms: a mixture of Gaussians as prior, and the papers' own formulas.

The denoiser of a mixture and the posterior of a linear observation are known exactly, so it is
known what a sampler should reach, and by how much the published ones miss it.
"""

from dataclasses import replace

import numpy
import pytest
import torch
from torch import nn

import degrade
import invert
from invert.correction import Corrected, Guess, NetworkSpread
from invert.evidence import error_of
from invert.methods import METHODS, method_of
from invert.problem import Problem
from invert.sampler import Mix, Sampler, Schedule
from tests.conftest import picture, rng

from .mixtures import (
    DEVIATION,
    SHAPE,
    SIGMA,
    SIZE,
    matrix,
    mixture,
    observation,
    one_mode,
    two_modes,
)


class Posterior:
    """p(x | y = A x + noise) for the mixture: its modes, their weights, and its moments."""

    def __init__(self, means, a, y, sigma=SIGMA):
        spread = DEVIATION**2 * a @ a.T + sigma**2 * torch.eye(len(y))
        gain = DEVIATION**2 * a.T @ torch.linalg.inv(spread)
        misfits = [y - a @ mean for mean in means]
        scores = [-0.5 * misfit @ torch.linalg.solve(spread, misfit) for misfit in misfits]
        self.weights = torch.stack(scores).softmax(0)
        self.modes = torch.stack(
            [mean + gain @ misfit for mean, misfit in zip(means, misfits, strict=True)]
        )
        self.mean = self.weights @ self.modes
        around = self.modes - self.mean
        within = DEVIATION**2 * (torch.eye(SIZE) - gain @ a)
        self.covariance = within + (self.weights * around.T) @ around


def samples(method, means, sigma=SIGMA, count=150, spec="pool:2"):
    """Samples [count, 16] of a method, and the posterior that they should have."""
    linear = degrade.parse(spec).sample(SHAPE)
    f = linear >> degrade.Gaussian(sigma) if sigma else linear
    clean = means[0] + DEVIATION * torch.randn(SIZE, generator=rng(1))
    y = f(clean.view(SHAPE), rng(2))
    denoiser = mixture(means)
    restored = invert.restore(y.expand(count, -1, -1, -1), f, denoiser, method, seed=range(count))
    assert restored.finite.all()
    a = matrix(linear)
    return restored.latent.flatten(1), Posterior(means, a, y.flatten(), sigma), a, y.flatten()


def moments(drawn, posterior):
    """The error of the mean in posterior deviations, and the ratio of the variances."""
    variance = posterior.covariance.diagonal()
    error = ((drawn.mean(0) - posterior.mean) / variance.sqrt()).abs().mean()
    ratio = (drawn.var(0) / variance).mean()
    return float(error), float(ratio)


@pytest.mark.parametrize("method", ["pigdm", "diffpir", "mpgd", "daps"])
def test_samples_have_the_posterior_of_one_mode(method):
    drawn, posterior, *_ = samples(shortened(method), one_mode(), count=80)
    error, ratio = moments(drawn, posterior)
    assert error < 0.2 and 0.8 < ratio < 1.1


@pytest.mark.parametrize("method", ["pigdm", "diffpir", "daps"])
def test_samples_choose_modes_as_often_as_the_posterior(method):
    drawn, posterior, *_ = samples(method_of(method, 30), two_modes())
    distances = (drawn[:, None] - posterior.modes).square().sum(2)
    chosen = (distances.argmin(1) == 0).float().mean()
    assert 0.3 < posterior.weights[0] < 0.7  # the observation leaves it open
    assert abs(chosen - posterior.weights[0]) < 0.12  # three deviations of 150 choices


def shortened(method):
    return method_of(method, 60)


def test_ddnm_reproduces_an_observation_without_noise():
    drawn, posterior, a, y = samples(method_of("ddnm", 25), one_mode(), sigma=0.0, count=100)
    assert (drawn @ a.T - y).abs().max() < 1e-3
    hidden = torch.eye(SIZE) - torch.linalg.pinv(a) @ a
    expected = hidden @ posterior.mean
    deviation = posterior.covariance.trace() / SIZE
    assert (hidden @ drawn.mean(0) - expected).abs().mean() < 0.3 * deviation.sqrt()


def test_ddnm_narrows_the_posterior():
    """Its noise is not the posterior's: known since the paper, and why `diffpir` is here."""
    drawn, posterior, *_ = samples(shortened("ddnm"), one_mode(), count=80)
    assert moments(drawn, posterior)[1] < 0.6


def test_a_mean_with_full_noise_halves_the_variance():
    """So DiffPIR's ζ and λ are tuned against each other, and `diffpir` uses DDIM's noise."""
    sampler = replace(shortened("diffpir"), renoise=Mix())
    drawn, posterior, *_ = samples(sampler, one_mode(), count=80)
    assert 0.35 < moments(drawn, posterior)[1] < 0.65


def test_reddiff_fits_the_noise_of_the_observation():
    """It knows no σ of the noise, so it reproduces y, near the posterior's mean elsewhere."""
    reddiff = METHODS["reddiff"].with_steps(200)
    drawn, posterior, a, y = samples(reddiff, one_mode(), count=4)
    assert (drawn @ a.T - y).square().mean().sqrt() < 0.2 * SIGMA
    assert moments(drawn, posterior)[0] < 0.8


# The papers' formulas, written in their own units: x = 2 · image − 1 and VP states ---------------


def vp_denoiser():
    return invert.Denoiser(
        nn.Identity(), channels=1, predicts="epsilon", betas="linear", signed=True
    )


def times_of(schedule):
    denoiser = vp_denoiser()
    levels = 2 * torch.tensor(schedule.levels(denoiser), dtype=torch.float64)
    return denoiser.table.time(levels).round().int().tolist()


def test_schedules_are_those_of_the_authors():
    assert times_of(Schedule(1000)) == list(range(999, -1, -1))  # DPS
    assert times_of(Schedule(100)) == list(range(990, -1, -10))  # DDNM
    assert times_of(Schedule(20, start=0.3)) == list(range(285, -1, -15))  # DDRM-JPEG
    diffpir = [int(t) for t in numpy.sqrt(numpy.linspace(0, 1000**2, 20))]
    diffpir[-1] -= 1
    assert times_of(Schedule(20, "quadratic")) == diffpir[::-1]
    daps = (numpy.linspace(100 ** (1 / 7), 0.1 ** (1 / 7), 200)) ** 7
    assert numpy.allclose(2 * numpy.array(Schedule(200, "karras").levels(vp_denoiser())), daps)


def test_schedule_stays_within_what_a_network_knows():
    denoiser = invert.load_prior("photo")
    low, high = denoiser.sigma_range
    for spacing in ("even", "quadratic", "karras"):
        levels = Schedule(10, spacing).levels(denoiser)
        assert levels == sorted(levels, reverse=True)
        assert low <= levels[-1] * 1.0001 and levels[0] <= high * 1.0001


def test_schedule_rejects_more_steps_than_the_table_has():
    with pytest.raises(ValueError, match="steps=1001 must be 1 to 1000"):
        Schedule(1001).levels(vp_denoiser())


@pytest.mark.parametrize("spec", ["pool:2 >> gaussian:0.07", "gaussian:0.07", "pool:2"])
def test_error_of_linear_operators_is_their_noise(spec):
    f = degrade.parse(spec).sample(SHAPE)
    problem = Problem(observation(f), f, mixture(one_mode()), seeds=(0,))
    assert error_of(problem) == (0.07 if "gaussian" in spec else 0)


def test_network_spread_is_the_posterior_deviation():
    """For one mode the posterior of x given z has variance σ² d² / (σ² + d²)."""
    f = degrade.Gaussian(SIGMA)
    denoiser = mixture(one_mode())
    problem = Problem(observation(f), f, denoiser, seeds=(0,))
    z = torch.rand(SHAPE, generator=rng(1))
    guess = Guess(problem, z, denoiser.denoise(z, 0.3), 0.3, 0.2, 0.0, "test")
    expected = (0.3**2 * DEVIATION**2 / (0.3**2 + DEVIATION**2)) ** 0.5
    assert float(NetworkSpread()(guess)) == pytest.approx(expected, rel=1e-3)


def test_noise_in_the_corrected_image_is_not_added_again():
    image = torch.zeros(1, 1, 64, 64)
    f = degrade.Gaussian(SIGMA)
    problem = Problem(image, f, mixture(one_mode()), seeds=(0,))
    z = 0.3 * torch.randn(image.shape, generator=rng(0))
    guess = Guess(problem, z, image, 0.3, 0.2, 0.0, "test")
    following = Mix()(Corrected(image, torch.full((1, 1, 1, 1), 0.12)), guess)
    assert float(following.std()) == pytest.approx(0.16, rel=0.03)  # √(0.2² − 0.12²)


SAMPLERS = [name for name, method in METHODS.items() if isinstance(method, Sampler)]
# The others are set for one task, or know no noise.
ONE_SETTING = {"ddnm", "pigdm", "mpgd", "diffpir", "daps"}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_stay_finite_and_denoise(name):
    """Six steps; those of one setting halve the error of what is observed."""
    clean, y, few = noisy_photo(name)
    restored = invert.restore(y, degrade.Gaussian(0.2), invert.load_prior("photo"), few)
    assert restored.finite.all() and restored.image.shape == clean.shape
    if name in ONE_SETTING:
        assert len(restored.history) == 6
        assert (restored.image - clean).square().mean() < 0.5 * (y - clean).square().mean()


def noisy_photo(name):
    """A small picture of odd proportions, with noise; and the method in six steps."""
    method = METHODS[name]
    few = replace(method, schedule=replace(method.schedule, steps=6), runs=1)
    clean = torch.nn.functional.interpolate(picture(5), size=(40, 32), mode="area")
    return clean, degrade.Gaussian(0.2)(clean, rng(0)), few


PHASES = degrade.tasks["daps/phase-retrieval"]


@pytest.mark.parametrize(
    ("name", "steps"), [("dps", 20), ("daps-phase-retrieval", 5), ("reddiff", 20)]
)
def test_methods_of_the_gradient_alone_retrieve_phases(name, steps):
    """They begin at plain grey, and explain the magnitudes better than it."""
    clean = torch.nn.functional.interpolate(picture(5), size=(48, 48), mode="area")
    y = PHASES(clean, rng(0))
    restored = invert.restore(y, PHASES, invert.load_prior("avatars"), name, steps=steps)
    of_grey = (PHASES(torch.full_like(clean, 0.5), rng(1)) - y).square().mean()
    assert restored.image.shape == clean.shape and restored.finite.all()
    assert restored.history[-1] < 0.5 * of_grey


@pytest.mark.parametrize(
    "name, words",
    [
        ("pnp", "fouriermagnitude .* only dps, reddiff and daps-original can use a denoiser here"),
        ("diffpir", "fouriermagnitude .* only dps, reddiff and daps-original can use a denoiser"),
        ("daps", "fouriermagnitude .* only dps, reddiff and daps-original can use a denoiser here"),
        ("ddrm", "method='ddrm' needs a linear operator.*fouriermagnitude is neither"),
    ],
)
def test_methods_of_a_linear_part_refuse_magnitudes(name, words):
    y = PHASES(torch.rand(1, 3, 16, 16, generator=rng(0)), rng(1))
    with pytest.raises(ValueError, match=words):
        invert.restore(y, PHASES, invert.load_prior("avatars"), name, steps=2)


def test_images_of_a_batch_do_not_change_each_other():
    sampler = shortened("diffpir").with_steps(4)
    f = degrade.parse("pool:2").sample((2, *SHAPE[1:])) >> degrade.Gaussian(SIGMA)
    y = torch.rand(2, 1, 2, 2, generator=rng(0))
    both = invert.restore(y, f, mixture(one_mode()), sampler, seed=[1, 2])
    again = invert.restore(y, f, mixture(one_mode()), sampler, seed=[1, 2])
    alone = invert.restore(y[1:], f, mixture(one_mode()), sampler, seed=2)
    assert torch.equal(both.image, again.image)
    assert torch.allclose(alone.image, both.image[1:], atol=1e-5)
    assert not torch.equal(both.image[0], both.image[1])


def test_operator_per_image_is_solved_image_by_image():
    f = degrade.Gaussian((0.05, 0.2))
    y = f(torch.rand(2, *SHAPE[1:], generator=rng(0)), rng(1))
    sampler = shortened("diffpir").with_steps(4)
    both = invert.restore(y, f, mixture(one_mode()), sampler, seed=[1, 2])
    alone = invert.restore(y[1:], degrade.Gaussian(0.2), mixture(one_mode()), sampler, seed=2)
    assert both.history.shape == (4, 2)
    assert torch.allclose(alone.image, both.image[1:], atol=1e-5)


def test_samplers_refuse_what_is_still_to_be_drawn():
    with pytest.raises(ValueError, match="still to be drawn"):
        invert.restore(
            torch.rand(1, 3, 16, 16),
            degrade.parse("gaussian:0.1..0.2"),
            invert.load_prior("photo"),
            "diffpir",
        )
