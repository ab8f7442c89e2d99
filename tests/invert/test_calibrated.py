"""The energy score and the bits that an image leaves unexplained, against closed forms."""

import math

import pytest
import torch

import degrade
from degrade.rng import Rng
from invert import Method, Phase, restore
from invert.calibrated import BitsLeft, Energy, pyramid
from invert.loss import View
from invert.optim import NGD
from invert.problem import Problem
from tests.conftest import picture, rng

from .checkpoints import stylegan2


def problem_of(observation, operator):
    seeds = tuple(range(len(observation)))
    return Problem(observation, operator, stylegan2(resolution=32), seeds)


def energy_of(image, problem, step=0, **options):
    prediction = problem.predict(image, f"first/{step}")
    view = View(prediction, image, None, {}, Rng.of(rng(), len(image)), step)
    return Energy(**options).prepare(problem)(view)


def test_energy_is_mean_l1_over_scales_without_noise():
    x, y = picture(1)[..., :64, :64], picture(2)[..., :64, :64]
    problem = problem_of(y, degrade.Identity())
    expected = 0.0
    for size in (1, 2, 4, 8, 16):
        a, b = (torch.nn.functional.avg_pool2d(p, size) for p in (x, y))
        expected = expected + (a - b).abs().mean() / 5
    assert torch.allclose(energy_of(x, problem)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("spec", ["poisson:3", "poisson:3 >> deadpixels:0.2"])
def test_energy_is_least_at_the_truth(spec):
    """A plain distance of two noisy pictures is biased towards images whose noise is smaller."""
    operator = degrade.parse(spec)
    truth, side = 0.5, 64
    levels = torch.linspace(0.2, 0.8, 25)
    images = levels[:, None, None, None].expand(-1, 3, side, side)
    clean = torch.full((1, 3, side, side), truth)
    energies = torch.zeros(len(levels))
    distances = torch.zeros(len(levels))
    for draw in range(16):
        y = operator(clean, rng(draw)).expand(len(levels), -1, -1, -1)
        problem = problem_of(y, operator)
        energies += energy_of(images, problem, draw)
        prediction = problem.predict(images, f"distance/{draw}")
        distances += (prediction - y).abs().mean((1, 2, 3))
    assert abs(levels[energies.argmin()] - truth) <= 0.05
    assert levels[distances.argmin()] < truth - 0.1


def test_scales_with_noise_count_less_in_energy():
    """At a scale of noise N the factor is floor / (floor + N)."""
    x = torch.full((1, 3, 4, 4), 0.5)
    problem = problem_of(x, degrade.Gaussian(0.2))
    floor = 0.05
    first = problem.predict(x, "first/0")
    second = problem.predict(x, "energy/0")
    noise = (first - second).abs().mean() / 2
    misfit = ((first - x).abs().mean() + (second - x).abs().mean()) / 2
    expected = floor / (floor + noise) * (misfit - noise)
    assert torch.allclose(energy_of(x, problem, floor=floor)[0], expected, rtol=1e-4)


def test_bits_left_of_a_constant_error_without_noise():
    """Only the coarsest band differs, which has 3·4·4 values, of pixels of 8 and of 16."""
    x = picture(0)[..., :64, :64]
    for operator, image, pixel_side in (
        (degrade.Identity(), x[..., :32, :32], 8),
        (degrade.Pool(2), x, 16),
    ):
        problem = problem_of(operator(image), operator)
        bits = BitsLeft(1, floor=0.03).bits(problem, image + 0.3)
        expected = 3 * 4 * 4 / 2 * math.log2(1 + (pixel_side * 0.3 / 0.03) ** 2)
        assert bits.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("spec", ["gaussian:0.2", "poisson:12", "downsample:4 >> gaussian:0.1"])
def test_the_truth_leaves_few_bits_and_noise_hides_some(spec):
    clean, wrong = picture(3), picture(4)
    operator = degrade.parse(spec)
    y = operator(clean, rng())
    noisy = problem_of(y, operator)
    clean_problem = problem_of(clean, degrade.Identity())
    left_by_truth = BitsLeft(0.5).bits(noisy, clean).item()
    left_by_other = BitsLeft(0.5).bits(noisy, wrong).item()
    without_noise = BitsLeft(0.5).bits(clean_problem, wrong).item()
    assert left_by_truth < 0.3 * left_by_other
    assert left_by_other < 0.5 * without_noise


def test_pyramid_handles_odd_sides_and_rows():
    assert [tuple(p.shape[2:]) for p in pyramid(torch.zeros(1, 3, 33, 19))] == [
        (33, 19),
        (16, 9),
        (8, 4),
    ]
    assert len(pyramid(torch.zeros(1, 3, 1, 50))) == 1


def test_reach_is_zero_once_all_is_explained():
    """A search that begins at the truth's code stays; from another code it moves."""
    G = stylegan2(resolution=32)
    y = G.synthesize(G.w_avg[None])
    phase = Phase("W", 3, NGD(0.1), (Energy(),), reach=BitsLeft(0.5))
    explained = restore(y, degrade.Identity(), G, Method((phase,)))
    assert torch.equal(explained.latent, G.w_avg[None])
    other = picture(5)[..., :32, :32]
    moved = restore(other, degrade.Identity(), G, Method((phase,)))
    assert (moved.latent - G.w_avg).norm() > 0.01


def test_reach_of_an_image_does_not_depend_on_the_batch():
    G = stylegan2(resolution=32)
    y = torch.cat([picture(seed)[..., :32, :32] for seed in (1, 2)])
    phase = Phase("W", 2, NGD(0.1), (Energy(),), reach=BitsLeft(0.5))
    f = degrade.parse("poisson:20")
    both = restore(y, f, G, Method((phase,)), seed=[7, 8]).latent
    alone = restore(y[1:], f, G, Method((phase,)), seed=[8]).latent
    assert torch.allclose(both[1:], alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_generators_of_half_precision_are_searched(dtype):
    G = stylegan2(resolution=32).to(dtype)
    y = picture(1)[..., :32, :32]
    result = restore(y, degrade.Gaussian(0.1), G, "calibrated", steps=6)
    assert torch.isfinite(result.image).all() and result.history[-1] != result.history[0]
