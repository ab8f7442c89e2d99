"""Optimisers, schedules, constraints and rules to stop, each against its closed form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from invert import METHODS
from invert.methods import method_of
from invert.optim import (
    Adam,
    Below,
    CycleWithDrop,
    Patience,
    Ramp,
    Sphere,
    Whiten,
    ngd,
    onto_l1_ball,
)
from tests.conftest import rng


@given(st.integers(-60, 60).map(lambda k: 10.0**k), st.integers(0, 1000))
def test_ngd_does_not_see_the_loss_s_scale(scale, seed):
    v, g = (torch.randn(2, 3, 8, generator=rng(seed + i), dtype=torch.float64) for i in range(2))
    assert torch.allclose(ngd(v, g, 0.1), ngd(v, g * scale, 0.1), rtol=1e-12)


def test_ngd_moves_every_code_by_the_learning_rate_and_a_flat_one_not_at_all():
    v, g = torch.zeros(2, 3, 8), torch.randn(2, 3, 8, generator=rng())
    g[0, 1], g[1, 2, 3] = 0, torch.nan
    g[1, 0] *= 1e-30  # its square is below float32
    moved = ngd(v, g, 0.5)
    lengths = moved.norm(dim=-1)
    assert lengths[0, 1] == 0 and torch.isfinite(moved).all()
    assert torch.allclose(lengths.flatten()[[0, 2, 3, 4, 5]], torch.tensor(0.5))
    assert torch.allclose(F.cosine_similarity(moved[0, 0], g[0, 0], dim=0), torch.tensor(-1.0))


@given(st.integers(0, 1000))
def test_shortened_phases_add_up_keep_their_share_and_reach_as_far(steps):
    shortened, whole = method_of("robust", steps).phases, METHODS["robust"].phases
    counts = [p.steps for p in shortened]
    assert sum(counts) == steps and max(counts) - min(counts) <= 1
    for short, full in zip(shortened, whole, strict=True):
        assert short.steps == 0 or short.steps * short.optimiser.lr == pytest.approx(
            full.steps * full.optimiser.lr
        )
    assert all(
        p.optimiser == METHODS["brgm"].phases[0].optimiser for p in method_of("brgm", steps).phases
    )


@given(st.integers(0, 99), st.floats(0.1, 20))
def test_the_l1_ball_s_nearest_point(seed, radius):
    """The solution is a soft threshold; the threshold is found by bisection, in float64."""
    d = torch.randn(3, 2, 7, generator=rng(seed), dtype=torch.float64) * 2
    found = onto_l1_ball(d, radius)
    for row, projected in zip(d.flatten(1), found.flatten(1), strict=True):
        low, high = 0.0, float(row.abs().max())
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if (row.abs() - middle).clamp_min(0).sum() > radius
                else (low, middle)
            )
        expected = (
            row if row.abs().sum() <= radius else row.sign() * (row.abs() - high).clamp_min(0)
        )
        assert torch.allclose(projected, expected, atol=1e-9)


def test_schedules_and_rules_to_stop():
    ramp, drop = Ramp(), CycleWithDrop()
    assert [ramp(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)] == pytest.approx(
        [0, 0.5, 1, 1, 1, 0.5, 0]
    )
    assert Ramp(down=0.75)(0.625) == pytest.approx(0.5)
    assert [drop(t) for t in (0, 0.45, 0.9, 0.95, 1)] == pytest.approx([0.1, 1, 0.1, 0.0505, 0.001])
    stop = Patience(2).begin(2)
    losses = [(3, 3), (2, 4), (1, 5), (1, 2)]
    assert [stop({"loss": torch.tensor(pair, dtype=torch.float)}).tolist() for pair in losses] == [
        [False, False],
        [False, False],
        [False, True],
        [False, False],
    ]
    assert Below("mse", 0.5).begin(2)({"mse": torch.tensor([0.5, 0.6])}).tolist() == [True, False]


def test_adam_is_torch_s(small):
    v = torch.randn(2, 4, generator=rng())
    mine, free = Adam(0.1, betas=(0.8, 0.95)).begin({"x": v}, 5, 1.0), v.clone().requires_grad_()
    theirs, values = torch.optim.Adam([free], 0.1, betas=(0.8, 0.95)), {"x": v}
    for step in range(5):
        g = torch.randn(2, 4, generator=rng(step))
        free.grad = g
        theirs.step()
        values = mine(values, {"x": g}, step)
    assert torch.allclose(values["x"], free, atol=1e-6)


def test_adam_reads_its_schedule_before_the_step_and_survives_a_gradient_that_is_no_number():
    v = torch.zeros(1, 3)
    move = Adam(0.1, schedule=lambda t: t).begin({"x": v}, 4, 1.0)
    ones = {"x": torch.ones(1, 3)}
    first = move({"x": v}, ones, 0)
    second = move(first, ones, 1)
    assert torch.equal(first["x"], v) and torch.allclose(
        second["x"], torch.full((1, 3), -0.025), rtol=1e-4
    )
    odd = move(second, {"x": torch.tensor([[math.nan, math.inf, 1.0]])}, 2)
    assert torch.isfinite(odd["x"]).all() and odd["x"][0, 2] < second["x"][0, 2]


def test_rates_of_codes_follow_the_spread_and_others_do_not():
    move = Adam(0.1, z_lr=0.01).begin(
        {k: torch.zeros(1, 2) for k in ("latent", "offset", "z", "weight:a")}, 1, 0.5
    )
    ones = {k: torch.ones(1, 2) for k in ("latent", "offset", "z", "weight:a")}
    moved = {
        k: -v[0, 0].item() for k, v in move({k: 0 * v for k, v in ones.items()}, ones, 0).items()
    }
    assert moved == pytest.approx(
        {"latent": 0.05, "offset": 0.05, "z": 0.01, "weight:a": 0.1}, rel=1e-4
    )


def test_whitened_noise_has_mean_0_and_mean_square_1():
    noise = torch.randn(2, 1, 8, 8, generator=rng()) * 3 + 1
    white = Whiten().begin({})({"noise0": noise, "latent": noise})
    assert torch.equal(white["latent"], noise)
    assert white["noise0"].mean((1, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(white["noise0"].square().mean((1, 2, 3)), torch.ones(2))
    assert set(Sphere().begin({"latent": noise})({"latent": noise})) == {"latent"}
