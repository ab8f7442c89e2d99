"""Optimisers, schedules, constraints and stop rules, each against its closed form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from invert import METHODS, roles
from invert.axes import Axes
from invert.methods import method_of
from invert.optim import (
    NGD,
    Adam,
    CodeScale,
    Conditions,
    CycleWithDrop,
    L1Ball,
    Ramp,
    Sphere,
    Whiten,
    ngd,
    onto_l1_ball,
)
from invert.stopping import Below, Patience
from tests.conftest import rng


@given(st.integers(-60, 60).map(lambda k: 10.0**k), st.integers(0, 1000))
def test_ngd_ignores_the_scale_of_the_loss(scale, seed):
    v, g = (torch.randn(2, 3, 8, generator=rng(seed + i), dtype=torch.float64) for i in range(2))
    assert torch.allclose(ngd(v, g, 0.1), ngd(v, g * scale, 0.1), rtol=1e-12)


def test_ngd_moves_codes_by_the_learning_rate():
    v, g = torch.zeros(2, 3, 8), torch.randn(2, 3, 8, generator=rng())
    g[0, 1], g[1, 2, 3] = 0, torch.nan
    g[1, 0] *= 1e-30  # its square is below float32
    moved = ngd(v, g, 0.5)
    lengths = moved.norm(dim=-1)
    assert lengths[0, 1] == 0 and torch.isfinite(moved).all()
    assert torch.allclose(lengths.flatten()[[0, 2, 3, 4, 5]], torch.tensor(0.5))
    assert torch.allclose(F.cosine_similarity(moved[0, 0], g[0, 0], dim=0), torch.tensor(-1.0))


@given(st.integers(0, 1000))
def test_with_steps_keeps_shares_and_distance(steps):
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
def test_l1_ball_projection_is_the_nearest_point(seed, radius):
    """The projection is a soft threshold. Bisection in float64 finds the threshold."""
    d = torch.randn(3, 2, 7, generator=rng(seed), dtype=torch.float64) * 2
    result = onto_l1_ball(d, radius)
    for row, projected in zip(d.flatten(1), result.flatten(1), strict=True):
        low, high = 0.0, float(row.abs().max())
        for _ in range(80):
            middle = (low + high) / 2
            if (row.abs() - middle).clamp_min(0).sum() > radius:
                low = middle
            else:
                high = middle
        expected = row.sign() * (row.abs() - high).clamp_min(0)
        if row.abs().sum() <= radius:
            expected = row
        assert torch.allclose(projected, expected, atol=1e-9)


def test_schedules_and_stop_rules():
    ramp, drop = Ramp(), CycleWithDrop()
    assert [ramp(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)] == pytest.approx(
        [0, 0.5, 1, 1, 1, 0.5, 0]
    )
    assert Ramp(down=0.75)(0.625) == pytest.approx(0.5)
    assert [drop(t) for t in (0, 0.45, 0.9, 0.95, 1)] == pytest.approx([0.1, 1, 0.1, 0.0505, 0.001])
    losses = [(3, 3), (2, 4), (1, 5), (1, 2)]
    stop = Patience(2)
    state, stopped = stop.init(2), []
    for pair in losses:
        done, state = stop.update({"loss": torch.tensor(pair, dtype=torch.float)}, state)
        stopped.append(done.tolist())
    assert stopped == [[False, False], [False, False], [False, True], [False, False]]
    below = Below("mse", 0.5)
    done, _ = below.update({"mse": torch.tensor([0.5, 0.6])}, below.init(2))
    assert done.tolist() == [True, False] and below.needs == ("mse",)


def conditions(steps=1, scale=1.0, **kinds):
    return Conditions(kinds, steps, CodeScale(scale, scale))


def test_adam_equals_torch_optim_adam():
    v = torch.randn(2, 4, generator=rng())
    mine, fixed = Adam(0.1, betas=(0.8, 0.95)), conditions(5, x=roles.Z)
    free = v.clone().requires_grad_()
    theirs, values = torch.optim.Adam([free], 0.1, betas=(0.8, 0.95)), {"x": v}
    state = mine.init(values, fixed)
    for step in range(5):
        g = torch.randn(2, 4, generator=rng(step))
        free.grad = g
        theirs.step()
        values, state = mine.update({"x": g}, state, values, fixed)
    assert torch.allclose(values["x"], free, atol=1e-6)


def test_adam_schedule_is_read_before_the_step():
    v, ones = {"x": torch.zeros(1, 3)}, {"x": torch.ones(1, 3)}
    adam, fixed = Adam(0.1, schedule=lambda t: t), conditions(4, x=roles.Z)
    first, state = adam.update(ones, adam.init(v, fixed), v, fixed)
    second, state = adam.update(ones, state, first, fixed)
    assert torch.equal(first["x"], v["x"])
    assert torch.allclose(second["x"], torch.full((1, 3), -0.025), rtol=1e-4)
    broken = {"x": torch.tensor([[math.nan, math.inf, 1.0]])}
    third, _ = adam.update(broken, state, second, fixed)
    assert torch.isfinite(third["x"]).all() and third["x"][0, 2] < second["x"][0, 2]


def test_update_does_not_change_the_old_state():
    v, g = {"x": torch.zeros(1, 3)}, {"x": torch.ones(1, 3)}
    adam, fixed = Adam(0.1), conditions(4, x=roles.Z)
    state = adam.init(v, fixed)
    once, after = adam.update(g, state, v, fixed)
    again, _ = adam.update(g, state, v, fixed)
    assert torch.equal(once["x"], again["x"]) and not state["first"]["x"].any()
    assert after["step"] == 1 and state["step"] == 0


def test_learning_rate_follows_the_role_not_the_name():
    kinds = dict(latent=roles.Z, mine=roles.CODES, z=roles.WEIGHTS, other=roles.NOISE)
    fixed = Conditions(kinds, 1, CodeScale(0.5, 0.25))
    values = {name: torch.zeros(1, 2) for name in kinds}
    ones = {name: torch.ones(1, 2) for name in kinds}
    adam = Adam(0.1, z_lr=0.01)
    moved, _ = adam.update(ones, adam.init(values, fixed), values, fixed)
    assert {name: -v[0, 0].item() for name, v in moved.items()} == pytest.approx(
        dict(latent=0.01, mine=0.025, z=0.1, other=0.1), rel=1e-4
    )
    ngd = NGD(0.1)
    moved, _ = ngd.update(ones, ngd.init(values, fixed), values, fixed)
    assert {name: v.norm().item() for name, v in moved.items()} == pytest.approx(
        dict(latent=0.1, mine=0.05, z=0.1, other=0.1), rel=1e-4
    )


def test_code_scale_of_lengths_and_coordinates():
    assert CodeScale.of(9.5, 512) == CodeScale(1.0, 1.0)
    assert CodeScale.of(9.5, 128) == CodeScale(1.0, pytest.approx(2.0))
    codes = torch.randn(20_000, 128, generator=rng()) * 0.3
    scale = CodeScale.of(codes.norm(dim=1).mean().item(), 128)
    assert scale.coordinate == pytest.approx(0.3 / (9.5 / 512**0.5), rel=1e-2)


def test_whiten_gives_noise_mean_0_and_mean_square_1():
    noise = torch.randn(2, 1, 8, 8, generator=rng()) * 3 + 1
    fixed = conditions(mine=roles.NOISE, latent=roles.CODES)
    white = Whiten().apply({"mine": noise, "latent": noise}, {}, fixed)
    assert torch.equal(white["latent"], noise)
    assert white["mine"].mean((1, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(white["mine"].square().mean((1, 2, 3)), torch.ones(2))


def test_constraints_leave_codes_alone():
    codes = {"z": torch.randn(2, 4, generator=rng())}  # a name of one's own does not matter
    fixed = conditions(z=roles.CODES)
    for constraint in (Sphere(), L1Ball(z=0.0, noise=0.0, features=0.0)):
        moved = {"z": codes["z"] * 3}
        kept = constraint.apply(moved, constraint.init(codes, fixed), fixed)
        assert torch.allclose(kept["z"], moved["z"])


def test_stretched_multiplies_by_a_power_of_the_covariance():
    """W = N(0, diag(4, 1, 1/4)), turned; with power ½ the factors are the deviations 2, 1, ½."""
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng()))
    variances = torch.tensor([4.0, 1.0, 0.25])
    w = torch.randn(200_000, 3, generator=rng(1)) * variances.sqrt() @ turn.T
    axes = Axes.of(w)
    codes = torch.randn(2, 5, 3, generator=rng(2))
    covariance = turn @ torch.diag(variances / variances.mean()) @ turn.T
    assert torch.allclose(axes.stretched(codes, 1.0), codes @ covariance, atol=0.03)
    twice = axes.stretched(axes.stretched(codes, 0.5), 0.5)
    assert torch.allclose(twice, axes.stretched(codes, 1.0), atol=1e-5)
    assert torch.allclose(axes.stretched(codes, 0.0), codes, atol=1e-5)


def test_ngd_stretch_turns_a_step_and_keeps_its_length():
    w = torch.randn(50_000, 2, generator=rng()) * torch.tensor([3.0, 1 / 3])
    kinds = {"codes": roles.CODES, "noise": roles.NOISE}
    fixed = Conditions(kinds, 1, CodeScale(0.5, 0.5), Axes.of(w))
    values = {name: torch.zeros(1, 2) for name in kinds}
    ones = {name: torch.full((1, 2), 1e-30) for name in kinds}
    ngd = NGD(0.1, stretch=0.5)
    assert ngd.needs_axes and not NGD(0.1).needs_axes
    moved, _ = ngd.update(ones, ngd.init(values, fixed), values, fixed)
    codes = moved["codes"][0]
    assert codes.norm().item() == pytest.approx(0.05, rel=1e-4)
    assert (codes[0] / codes[1]).item() == pytest.approx(9, rel=0.03)
    assert moved["noise"][0].tolist() == pytest.approx([-0.1 / math.sqrt(2)] * 2)


def test_axes_of_images_of_several_classes_are_kept_apart():
    wide = Axes.of(torch.randn(10_000, 2, generator=rng()) * torch.tensor([2.0, 1.0]))
    tall = Axes.of(torch.randn(10_000, 2, generator=rng()) * torch.tensor([1.0, 2.0]))
    both = Axes.cat([wide, tall])
    codes = torch.randn(2, 4, 2, generator=rng(3))
    stretched = both.stretched(codes, 0.5)
    assert torch.allclose(stretched[:1], wide.stretched(codes[:1], 0.5), atol=1e-6)
    assert torch.allclose(stretched[1:], tall.stretched(codes[1:], 0.5), atol=1e-6)
