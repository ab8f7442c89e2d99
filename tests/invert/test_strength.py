"""How strongly plug-and-play restoration denoises, and the trials that decide it."""

import math
from dataclasses import replace

import pytest
import torch

import degrade
import invert
from invert.descent import descend, geometric
from invert.problem import Problem
from invert.strength import Candidate, decibels, find_strength, preferred, turns
from invert.trials import (
    TRIAL_SIDE,
    TrialPart,
    draw_trial,
    draws_nothing,
    photo_trials,
    trial_parts,
    uncut,
)
from tests.conftest import picture, rng, slow_except


def psnr(x, y):
    return float(-10 * (x - y).square().mean().log10())


def problem_of(spec, y, prior):
    """The problem of undoing an operator, for one observation."""
    return Problem(observation=y, operator=degrade.parse(spec), prior=prior, seeds=(0,))


def texture(side):
    """A picture of grey clouds, whose spectrum falls as 1/f, as that of photos does."""
    noise = torch.randn(1, 1, side, side, generator=rng(1))
    down = torch.fft.fftfreq(side)[:, None]
    across = torch.fft.rfftfreq(side)
    frequency = (down.square() + across.square()).sqrt().clamp_min(1 / side)
    clouds = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    grey = (0.5 + 0.1 * clouds / clouds.std()).clamp(0, 1)
    return grey.repeat(1, 3, 1, 1)


@pytest.mark.parametrize("sigma", slow_except((0.03,), (0.03, 0.12)))
def test_strength_finds_the_sigma_of_noise(photo, sigma):
    f = degrade.parse(f"gaussian:{sigma}")
    y = f(picture(0), rng(0))
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    strength = find_strength(problem, 12, 0.4, 0.015)
    assert len(strength.levels) == 1
    assert strength.levels[0] == pytest.approx(sigma, rel=0.25)
    assert strength.error == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "slope", "offset"),
    [
        pytest.param("deadpixels:0.2 >> jpeg:60", 0.8, 0.0, marks=pytest.mark.slow),
        ("saltpepper:0.3 >> jpeg:60", 0.7, 0.15),
        pytest.param("gaussian:0.1 >> pixels:0.5", 1.0, 0.0, marks=pytest.mark.slow),
        pytest.param("jpeg:30", 1.0, 0.0, marks=pytest.mark.slow),
    ],
)
def test_mean_of_the_observation_is_measured(photo, spec, slope, offset):
    """A share p of dead pixels leaves (1 - p) x; half of salt and pepper is white."""
    f = degrade.parse(spec).sample((1, 3, 128, 128), rng(0)).approx()
    y = f(picture(0), rng(0))
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    response = find_strength(problem, 12, 0.4, 0.015).response
    assert response.slope == pytest.approx(slope, abs=0.03)
    assert response.offset == pytest.approx(offset, abs=0.03)


def test_mean_of_a_white_page_is_measured(photo):
    """All levels of its observation are far below white."""
    clean = torch.ones(1, 3, 64, 64)
    f = degrade.parse("deadpixels:0.2 >> jpeg:60")
    problem = Problem(observation=f(clean, rng(0)), operator=f, prior=photo, seeds=(0,))
    response = find_strength(problem, 12, 0.4, 0.015).response
    assert response.slope == pytest.approx(0.8, abs=0.03)
    assert response.slope + response.offset == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("loss", "lower", "gain"), [(1.0, 0.1, 10.0), (0.0, 0.0, 0.0), (0.1, 0.0, math.inf)]
)
def test_decibels_of_a_loss_that_is_zero(loss, lower, gain):
    assert decibels(loss, lower) == pytest.approx(gain)
    assert decibels(lower, loss) == pytest.approx(-gain)


def test_descent_finds_the_minimum_of_a_parabola():
    wanted = 0.07

    def loss(sigma):
        return (torch.tensor(sigma / wanted).log() ** 2).item()

    assert descend(loss, 0.02, 0.005, 1.0) == pytest.approx(wanted, rel=1e-3)
    assert descend(loss, 0.2, 0.1, 1.0) == pytest.approx(0.1, rel=0.1)  # the end of the range


def test_levels_fall_by_one_factor():
    levels = geometric(0.4, 0.1, 3)
    assert levels == pytest.approx((0.4, 0.2, 0.1))


def test_turned_jpeg_takes_one_turn(photo):
    f = degrade.parse("turn:1,mirror=1 >> jpeg:20")
    y = f(picture(0)[..., :64, :48])
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    assert len(find_strength(problem, 12, 0.4, 0.015).levels) == 1


def test_trials_of_large_photos_stay_small(shrink):
    """Also where the operator cannot be cut, because a mask is still to be drawn."""
    y = torch.rand(1, 3, 420, 640, generator=rng(0))
    for spec in ("jpeg:30", "deadpixels:0.1", "downsample:2"):
        f = degrade.parse(spec)
        problem = Problem(observation=y, operator=f, prior=shrink, seeds=(0,))
        parts = trial_parts(problem)
        assert len(parts) == 4
        assert all(max(part.height, part.width) <= 160 for part in parts), spec


def test_noise_that_follows_the_level_is_removed_by_a_map(photo):
    """Poisson noise is four times stronger in white than in 1/16; a map beats one sigma."""
    clean = picture(2)[..., :96, :96].clone()
    clean[..., :48] *= 1 / 16
    f = degrade.parse("poisson:60")
    y = f(clean, rng(3))
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    strength = find_strength(problem, 12, 0.4, 0.015)
    assert strength.fixed == pytest.approx(0, abs=1e-4)
    *_, with_map = turns(problem, strength)
    *_, alike = turns(problem, replace(strength, fixed=None))
    assert psnr(with_map, clean) > psnr(alike, clean) + 0.3


@pytest.mark.slow
def test_uniform_noise_needs_no_map(photo):
    f = degrade.parse("gaussian:0.05")
    y = f(picture(2)[..., :96, :96], rng(3))
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    assert find_strength(problem, 12, 0.4, 0.015).fixed is None


def test_trial_has_the_full_size_if_the_operator_returns_to_it():
    f = degrade.parse("resize:scale=0.5,of=128x128 >> resize:scale=1,of=128x128")
    shape = (1, 3, 128, 128)
    assert uncut(f, shape) == TrialPart(f, 128, 128)
    g = degrade.parse("resize:scale=0.5")
    assert uncut(g, shape) == TrialPart(g, TRIAL_SIDE, TRIAL_SIDE)


def test_large_image_that_cannot_be_cut_is_refused():
    """Restoring it whole would take more memory than a computer has."""
    f = degrade.parse("resize:size=382|509 >> resize:size=3000|4000")
    with pytest.raises(ValueError, match="image of 4000 x 3000 is too large to be restored whole"):
        uncut(f, (1, 3, 3000, 4000))


def test_level_for_a_textured_photo_is_nearly_the_best(photo):
    """Synthetic pictures have less texture than this one: they choose more, and lose 0.08 dB."""
    clean = texture(192)
    y = degrade.JPEG(40)(clean)
    problem = problem_of("jpeg:40", y, photo)
    (chosen,) = find_strength(problem, 12, 0.4, 0.015).levels
    reached = psnr(photo.denoise(y, chosen), clean)
    factors = (0.5, 0.7, 1.4, 2)
    possible = [psnr(photo.denoise(y, chosen * factor), clean) for factor in factors]
    assert reached > max(possible) - 0.03


class Half(torch.nn.Module):
    """A denoiser that removes half of what another one removes."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x, sigma):
        return (x + self.denoiser.denoise(x, sigma)) / 2


@pytest.mark.parametrize("best_is_variant", [True, False])
def test_variant_that_restores_best_is_taken(photo, best_is_variant):
    good = invert.Denoiser(photo.module, sigma_range=photo.sigma_range)
    poor_module, good_module = Half(good), photo.module
    first, second = (poor_module, good_module) if best_is_variant else (good_module, poor_module)
    variant = invert.Denoiser(second, sigma_range=photo.sigma_range)
    prior = invert.Denoiser(first, sigma_range=photo.sigma_range, variants=[variant])
    f = degrade.parse("gaussian:0.1 >> clamp")
    y = f(picture(0)[..., :64, :64], rng(0))
    restored = invert.restore(y, f, prior, "pnp").image
    assert torch.equal(restored, invert.restore(y, f, good, "pnp").image)


def test_variant_is_taken_if_it_costs_little(shrink):
    variant = invert.Denoiser(shrink.module)
    prior = Candidate(shrink, 0.1, 1.0)
    assert preferred([prior]) is prior
    for loss, is_taken in ((0.9, True), (1.05, True), (1.07, False)):
        candidate = Candidate(variant, 0.1, loss)
        assert (preferred([prior, candidate]) is candidate) == is_taken


def test_photo_prior_knows_errors_of_jpeg(photo):
    y = degrade.JPEG(20)(picture(0))
    assert find_strength(problem_of("jpeg:20", y, photo), 12, 0.4, 0.015).denoiser in photo.variants
    noisy = degrade.Gaussian(0.1)(picture(0), rng(0))
    of_noise = find_strength(problem_of("gaussian:0.1", noisy, photo), 12, 0.4, 0.015)
    assert of_noise.denoiser is photo


def test_variants_are_of_the_same_images(photo, shrink):
    grey = invert.Denoiser(shrink.module, channels=1)
    with pytest.raises(ValueError, match="one has channels=1, and the denoiser 3"):
        invert.Denoiser(photo.module, variants=[grey])
    suited = photo.suited_to(torch.zeros(1, 1, 8, 8))
    assert [variant.channels for variant in suited.variants] == [1]


def test_trials_on_the_photo_need_one_large_enough(shrink):
    large = problem_of("jpeg:40", picture(0).repeat(1, 1, 2, 3), shrink)
    small = problem_of("jpeg:40", picture(0)[..., :64, :80], shrink)
    assert len(photo_trials(large)) == 4
    assert photo_trials(small) == []


def test_trial_on_the_photo_undoes_its_curve_first(shrink):
    """The picture of the trial has the levels of the undamaged photo."""
    clean = texture(192)
    f = degrade.parse("gamma:1.8 >> jpeg:90")
    (trial,) = photo_trials(problem_of("gamma:1.8 >> jpeg:90", f(clean), shrink))
    half = torch.nn.functional.avg_pool2d(clean, 2)
    assert float(trial.truth.mean() - half.mean()) == pytest.approx(0, abs=0.003)
    assert psnr(trial.truth, half) > 35
    assert torch.equal(f(trial.truth), trial.problem.observation)


def test_operator_that_draws_is_recognised(shrink):
    y = picture(0)
    for spec, repeats in (("jpeg:40", True), ("gaussian:0.02 >> jpeg:40", False)):
        problem = problem_of(spec, y, shrink)
        trial = draw_trial(problem, trial_parts(problem)[0], 0)
        assert draws_nothing(trial) == repeats, spec
