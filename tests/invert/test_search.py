"""The search of one phase: an explicit state that can be looked at, saved and resumed."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch

import invert
from degrade import parse
from invert import METHODS, Method, Phase, perceptual, roles
from invert.latent import Codes, GaussianCodes, Space
from invert.loss import FILLS, L1, MSE, Lpips
from invert.optim import NGD, Adam, Ramp, Sphere
from invert.point import Point
from invert.problem import Problem
from invert.roles import Variable
from invert.search import BestSoFar, Rollback, Search, SearchState
from invert.stopping import Patience
from invert.tree import tree_cat, tree_map
from tests.conftest import rng, slow_except

from .solving import QUICK, lively

LOSS = (MSE(), Lpips(enlarge=True))
PHASES = {
    "ngd": Phase("W++", FILLS + 8, NGD(0.05), LOSS),
    "adam": Phase(
        GaussianCodes(block=1),
        FILLS + 8,
        Adam(0.1, schedule=Ramp(), project=(Sphere(),)),
        LOSS,
        stop=Patience(15),
        keep="mse",
    ),
}


def problem_of(small):
    f = parse("gaussian:0.1 >> strokes:2,seed=1").approx()
    y = f(small.synthesize(small.some_w(4)[0][2:]).clamp(0, 1), [rng(1), rng(2)])
    return Problem(y, f, small, (5, 6), "alex")


def run(search, state, until):
    history = []
    while state.step < until and not search.ended(state):
        state, measurement = search.step(state)
        history.append(measurement.loss)
    return state, torch.stack(history)


@pytest.mark.parametrize("name", slow_except(("adam",), PHASES))
def test_resume_from_a_saved_state_gives_the_same_bits(small, name, tmp_path, monkeypatch):
    """The state is saved after the noise fills began to repeat, and loaded as plain tensors."""
    problem = problem_of(small)
    point = METHODS["robust"].start(problem)

    def new_search():
        return Search.of(PHASES[name], point, problem, "phase0")

    whole = new_search()
    end, history = run(whole, whole.init(), 99)
    first = new_search()
    middle, begun = run(first, first.init(), FILLS + 3)
    torch.save(vars(middle), tmp_path / "state.pt")
    loaded = SearchState(**torch.load(tmp_path / "state.pt", weights_only=True))
    second = new_search()
    resumed, rest = run(second, loaded, 99)
    assert torch.equal(torch.cat([begun, rest]), history)
    for a, b in zip(whole.finish(end), second.finish(resumed), strict=True):
        assert_same(a, b)


def assert_same(a, b):
    tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0) or x, a, b)


def test_step_does_not_change_its_input_state(small):
    problem = problem_of(small)
    search = Search.of(PHASES["adam"], METHODS["robust"].start(problem), problem, "phase0")
    state, _ = search.step(search.init())
    before = copy.deepcopy(vars(state))
    search.step(state)
    assert_same(before, vars(state))


def test_rollback_returns_to_the_last_finite_values():
    rollback = Rollback()
    state = rollback.init({"x": torch.tensor([[1.0], [1.0]])})
    values, state = rollback.update({"x": torch.full((2, 1), 2.0)}, torch.tensor([1, 0]) > 0, state)
    assert values["x"].flatten().tolist() == [2, 1] and state["finite"].tolist() == [True, False]
    values, state = rollback.update({"x": torch.full((2, 1), 3.0)}, torch.tensor([0, 1]) > 0, state)
    assert values["x"].flatten().tolist() == [2, 3] and state["finite"].tolist() == [False, False]


def test_best_so_far_keeps_the_lowest_finite_value():
    best, good = BestSoFar("mse"), torch.tensor([True, False])
    state = best.init({"x": torch.zeros(2, 1)})
    for x, mse in [(1.0, [3.0, 3.0]), (2.0, [1.0, 1.0]), (3.0, [2.0, 2.0])]:
        measured = {"mse": torch.tensor(mse)}
        state = best.update({"x": torch.full((2, 1), x)}, measured, good, state)
    assert state["values"]["x"].flatten().tolist() == [2, 0]


@dataclass(frozen=True)
class Own(Space):
    """W in a space that is not part of the package, under another name."""

    name = "own"

    def begin(self, point, problem):
        return point, {"anything": Variable(point.latent.clone(), roles.CODES)}

    def place(self, variables, point, problem, moment):
        return replace(point, latent=variables["anything"])


def test_own_space_gets_the_scale_of_its_role(small):
    y = torch.rand(1, 3, 32, 32, generator=rng())
    moved = []
    for space in (Own(), Codes("W")):
        method = Method((Phase(space, 1, Adam(0.1), (MSE(),)),))
        r = invert.restore(y, parse("clamp"), small, method, lr_scale=0.25)
        moved.append((r.latent - small.w_avg).abs().max().item())
    assert moved == pytest.approx([0.025, 0.025], rel=1e-3)


def test_adam_rate_follows_the_spread_of_a_coordinate(small):
    """NGD's step is in units of the length of W, Adam's in units of one coordinate."""
    y = torch.rand(1, 3, 32, 32, generator=rng())
    steps = {}
    for name, optimiser in (("adam", Adam(0.1)), ("ngd", NGD(0.1))):
        method = Method((Phase("W", 1, optimiser, (MSE(),)),))
        r = invert.restore(y, parse("clamp"), small, method)
        steps[name] = (r.latent - small.w_avg).abs()
    coordinate = small.w_spread / 7**0.5 / (9.5 / 512**0.5)
    assert steps["adam"].max().item() == pytest.approx(0.1 * coordinate, rel=1e-3)
    assert steps["ngd"].norm().item() == pytest.approx(0.1 * small.w_spread / 9.5, rel=1e-3)


def test_callback_gets_terms_image_and_prediction(small, monkeypatch):
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(4)[0][2:]).clamp(0, 1))
    method = Method((Phase("W", 3, NGD(0.1), (MSE(2.0), L1(0.5), MSE(unit=2))),))
    steps = []
    r = invert.restore(y, f, small, method, [1, 2], callback=steps.append, **QUICK)
    assert set(r.terms) == {"mse", "l1", "mse 2"}
    for number, step in enumerate(steps):
        assert set(step.terms) == set(r.terms)
        assert torch.allclose(step.prediction, f(step.image), atol=1e-6)
        mse = (step.prediction - y).square().flatten(1).mean(1)
        assert torch.allclose(step.terms["mse"], mse)
        parts = 2 * step.terms["mse"] + 0.5 * step.terms["l1"] + step.terms["mse 2"]
        assert torch.allclose(step.loss, parts)
        for name, value in step.terms.items():
            assert torch.equal(r.terms[name][number], value)
        assert not step.image.requires_grad and not step.prediction.requires_grad
    assert torch.allclose(steps[1].image, small.synthesize(steps[0].latent), atol=1e-6)


def test_history_of_terms_covers_all_phases(small):
    y = torch.rand(2, 3, 32, 32, generator=rng())
    phases = (
        Phase("W", 2, NGD(0.1), (MSE(),)),
        Phase(invert.latent.Weights(), 3, Adam(1e-3), (L1(), MSE())),
    )
    r = invert.restore(y, parse("clamp"), small, Method(phases))
    assert {name: history.shape for name, history in r.terms.items()} == {
        "mse": (5, 2),
        "l1": (5, 2),
    }
    assert torch.isnan(r.terms["l1"][:2]).all() and torch.isfinite(r.terms["l1"][2:]).all()
    assert torch.isfinite(r.terms["mse"]).all()


def test_point_rows_join_to_the_whole():
    small = lively()
    ws = small.some_w(2)[0][:, None].expand(-1, small.num_ws, -1)
    noises = tuple(torch.randn(2, 1, side, side) for side in small.noise_sides)
    weights = {"a": torch.randn(2, 3, 4)}
    point = Point(ws, ws[:, 0], noises, small.features(ws, 1), weights)
    joined = tree_cat(point.row(0), point.row(1))
    assert_same(joined, point)
    assert joined.start.block == 1
