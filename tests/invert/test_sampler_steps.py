"""Steps of samplers against the papers' own formulas, at the same draws."""

from dataclasses import replace

import pytest
import torch

import degrade
import invert
from invert.correction import (
    AdamOnImage,
    Descend,
    Draw,
    Guess,
    Guide,
    NoiseShare,
    NormGuide,
    Project,
    Prox,
    UnitPrior,
)
from invert.evidence import Evidence
from invert.methods import METHODS
from invert.problem import Problem
from invert.sampler import Ddim, Mix
from invert.solve import image_seeds
from tests.conftest import picture, rng

from .mixtures import SHAPE, SIGMA, SIZE, matrix, mixture, observation, one_mode, two_modes


def step_of(correct, operator, y, sigma=0.3, next_sigma=0.2, renoise=None):
    """One step from a fixed z with the mixture as prior: the guess, x̂ and z'."""
    denoiser = mixture(two_modes())
    problem = Problem(y, operator, denoiser, seeds=(5,) * len(y))
    z = torch.rand(len(y), *SHAPE[1:], generator=rng(7)) + 0.2
    z.requires_grad_()
    x0 = denoiser.denoise(z, sigma)
    guess = Guess(problem, z, x0, sigma, next_sigma, 0.25, "test")
    evidence = Evidence(problem)
    corrected = correct(guess, evidence, correct.begin(evidence, x0.detach()))
    detached = replace(guess, z=z.detach(), x0=x0.detach())
    following = None if renoise is None else renoise(corrected, detached)
    return guess, corrected.image.detach(), following


def vp(sigma):
    """√ᾱ of a noise level in [0, 1] units."""
    return 1 / (1 + 4 * sigma**2) ** 0.5


def test_dps_equals_the_ancestral_step_less_the_gradient():
    f = degrade.parse("pool:2").sample(SHAPE)
    y = observation(f)
    sigma, next_sigma, zeta = 0.3, 0.2, 0.4
    guess, _, z = step_of(NormGuide(zeta), f, y, sigma, next_sigma, Ddim())

    alpha, next_alpha = vp(sigma), vp(next_sigma)
    x_t = (alpha * (2 * guess.z.detach() - 1)).requires_grad_()
    x0 = 2 * guess.problem.denoiser.denoise((x_t / alpha + 1) / 2, sigma) - 1
    norm = torch.linalg.norm(2 * y - 1 - (2 * f((x0.clamp(-1, 1) + 1) / 2) - 1))
    (gradient,) = torch.autograd.grad(norm, x_t)
    beta = 1 - alpha**2 / next_alpha**2
    mean = next_alpha * beta * x0 + (1 - next_alpha**2) * (alpha / next_alpha) * x_t
    mean = mean / (1 - alpha**2)
    deviation = ((1 - next_alpha**2) / (1 - alpha**2) * beta) ** 0.5
    fresh = guess.draws("noise").normal(y.new_zeros(SHAPE))
    expected = (mean + deviation * fresh - zeta * gradient).detach()
    assert torch.allclose(next_alpha * (2 * z - 1), expected, atol=1e-5)


def test_diffpir_equals_its_proximal_step_and_noise():
    """H = I, so the proximal point is (y + ρ x0) / (1 + ρ) with the code's mixed units of ρ."""
    f = degrade.Gaussian(SIGMA)
    y = observation(f)
    sigma, next_sigma, weight, zeta = 0.3, 0.2, 7.0, 0.3
    guess, _, z = step_of(Prox(NoiseShare(weight)), f, y, sigma, next_sigma, Mix(zeta))

    rho = weight * SIGMA**2 / (2 * sigma) ** 2
    x0 = (y + rho * guess.x0) / (1 + rho)
    x0, next_alpha, alpha = 2 * x0 - 1, vp(next_sigma), vp(sigma)
    epsilon = (alpha * (2 * guess.z - 1) - alpha * x0) / (1 - alpha**2) ** 0.5
    fresh = guess.draws("noise").normal(y)
    mixed = (1 - zeta) ** 0.5 * epsilon + zeta**0.5 * fresh
    expected = next_alpha * x0 + (1 - next_alpha**2) ** 0.5 * mixed
    assert torch.allclose(next_alpha * (2 * z - 1), expected.detach(), atol=1e-3)


@pytest.mark.filterwarnings("ignore:observation has values from")
def test_diffpir_equals_the_loop_of_its_code_under_strong_noise():
    """All steps with H = I in [-1, 1], at the same draws; ours also corrects the last x0."""
    f = degrade.Gaussian(0.9)
    y = observation(f)
    method = METHODS["diffpir-deblurring"].with_steps(12)
    denoiser = mixture(two_modes())
    restored = invert.restore(y, f, denoiser, method, seed=0)

    problem = Problem(y, f, denoiser, seeds=image_seeds(0, 1))
    levels = method.schedule.levels(denoiser)
    noise = problem.rng("run0/start").normal(y)
    x = vp(levels[0]) * (2 * y - 1) + (1 - vp(levels[0]) ** 2) ** 0.5 * noise
    for step, (sigma, following) in enumerate(zip(levels, [*levels[1:], None], strict=True)):
        alpha = vp(sigma)
        x0 = denoiser.denoise((x / alpha + 1) / 2, sigma)
        rho = 7 * 0.9**2 / (2 * sigma) ** 2
        x0 = 2 * (y + rho * x0) / (1 + rho) - 1
        if following is None:
            break
        epsilon = (x - alpha * x0) / (1 - alpha**2) ** 0.5
        fresh = problem.rng(f"run0/step{step}/noise").normal(y)
        mixed = 0.7**0.5 * epsilon + 0.3**0.5 * fresh
        x = vp(following) * x0 + (1 - vp(following) ** 2) ** 0.5 * mixed
    assert torch.allclose(2 * restored.latent - 1, x0, atol=2e-3)


def test_daps_equals_its_langevin_step_for_phase_retrieval():
    """Images in [-1, 1], magnitudes of images in [0, 1], and a rate that has fallen by progress."""
    f = degrade.tasks["daps/phase-retrieval"]
    y = observation(f)
    daps = METHODS["daps-phase-retrieval"].correct
    guess, image, _ = step_of(replace(daps, count=1), f, y)

    x0 = (2 * guess.x0.detach() - 1).requires_grad_()
    framed = torch.nn.functional.pad(x0 * 0.5 + 0.5, (1, 1, 1, 1))
    spectrum = torch.fft.fftshift(torch.fft.fft2(framed, norm="ortho"), (-2, -1))
    misfit = (spectrum.abs().view_as(y) - y).square().sum()
    (gradient,) = torch.autograd.grad(misfit, x0)
    rate = 5e-5 * (1 + guess.progress * (0.01 - 1))
    fresh = guess.draws("langevin0").normal(x0.detach())
    expected = x0 - rate * gradient / 0.01**2 + (2 * rate) ** 0.5 * fresh
    assert torch.allclose(2 * image - 1, expected.detach(), atol=1e-5)


def test_reddiff_equals_one_step_of_adam():
    f = degrade.parse("pool:2").sample(SHAPE)
    y = observation(f)
    guess, image, _ = step_of(AdamOnImage(0.1, 0.25), f, y)

    mu = (2 * guess.x0.detach() - 1).requires_grad_()
    fresh = torch.zeros(SHAPE)  # the noise cancels in ε̂ − n
    x0 = 2 * guess.x0.detach() - 1
    sigma = 2 * guess.sigma
    epsilon = (mu + sigma * fresh - x0) / sigma
    data = (2 * y - 1 - (2 * f((mu + 1) / 2) - 1)).square().mean() / 2
    prior = 0.25 * sigma * ((epsilon - fresh).detach() * mu).mean()
    adam = torch.optim.Adam([mu], 0.1, betas=(0.9, 0.99))
    (data + prior).backward()
    adam.step()
    assert torch.allclose(2 * image - 1, mu.detach(), atol=1e-5)


def test_pigdm_equals_the_dense_formula():
    f = degrade.parse("pool:2").sample(SHAPE) >> degrade.Gaussian(SIGMA)
    y = observation(f)
    guess, image, _ = step_of(Guide(UnitPrior()), f, y)

    a = matrix(f[0])
    r2 = 4 * guess.sigma**2 / (1 + 4 * guess.sigma**2) / 4
    residual = y.flatten() - a @ guess.x0.detach().flatten()
    inner = torch.linalg.solve(SIGMA**2 * torch.eye(len(residual)) + r2 * a @ a.T, residual)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: guess.problem.denoiser.denoise(z, guess.sigma).flatten(), guess.z.detach()
    ).view(SIZE, SIZE)
    expected = guess.x0.detach().flatten() + guess.sigma**2 * jacobian.T @ a.T @ inner
    assert torch.allclose(image.flatten(), expected, atol=2e-3)


def test_project_keeps_what_a_jpeg_says():
    f = degrade.JPEG(20)
    clean = torch.nn.functional.interpolate(picture(3), size=32)
    y = f(clean)
    problem = Problem(y, f, invert.load_prior("photo"), seeds=(0,))
    x0 = (clean + 0.1 * torch.randn(clean.shape, generator=rng(0))).clamp(0, 1)
    guess = Guess(problem, x0, x0, 0.3, 0.2, 0.0, "test")
    image = Project()(guess, Evidence(problem), None).image
    assert torch.equal(f(image), y)


def test_draws_have_the_proximal_point_as_mean():
    f = degrade.parse("pool:2").sample(SHAPE) >> degrade.Gaussian(SIGMA)
    y = observation(f).expand(400, -1, -1, -1)
    problem = Problem(y, f, mixture(one_mode()), seeds=tuple(range(400)))
    x0 = torch.full((400, *SHAPE[1:]), 0.5)
    guess = Guess(problem, x0, x0, 0.3, 0.2, 0.0, "test")
    evidence = Evidence(problem)
    drawn = Draw(UnitPrior())(guess, evidence, None).image.flatten(1)
    mean = Prox(UnitPrior())(guess, evidence, None).image[0].flatten()
    a, r2 = matrix(f[0]), float(UnitPrior()(guess)) ** 2
    covariance = torch.linalg.inv(a.T @ a / SIGMA**2 + torch.eye(SIZE) / r2)
    assert (drawn.mean(0) - mean).abs().max() < 0.06
    assert (drawn.T.cov().diagonal() / covariance.diagonal()).sub(1).abs().mean() < 0.15


def test_descend_finds_the_minimum_along_the_gradient():
    f = degrade.parse("pool:2").sample(SHAPE) >> degrade.Gaussian(SIGMA)
    y = observation(f)
    guess, image, _ = step_of(Descend(), f, y)

    def objective(x):
        data = (f[0](x) - y).square().sum() / SIGMA**2
        return data + (x - guess.x0).square().sum() / guess.sigma**2

    at_minimum = objective(image)
    for share in (0.9, 1.1):
        assert at_minimum < objective(guess.x0 + share * (image - guess.x0))


# Schedules, errors, batches -----------------------------------------------------------------------
