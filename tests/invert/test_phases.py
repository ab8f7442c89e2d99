"""Methods of several phases: early stopping, rollback, and images that do not mix."""

import math
from dataclasses import replace

import pytest
import torch

import invert
from degrade import parse
from invert import Method, Phase, perceptual
from invert.latent import Codes, Z
from invert.loss import MSE, Lpips, Term
from invert.optim import NGD, Adam
from invert.point import Point
from invert.start import Mean
from invert.stopping import Below, Patience, StopRule
from tests.conftest import rng

from .solving import QUICK, quick


class Breaks(Term):
    """NaN for the image of a chosen row, from a step on."""

    weight, name = 1.0, "breaks"

    def __init__(self, row, step):
        self.row, self.step = row, step

    def prepare(self, problem):
        steps = iter(range(1000))

        def measure(view):
            bad = torch.zeros(problem.batch)
            if next(steps) >= self.step:
                bad[self.row] = math.nan
            return view.point.latent.flatten(1).square().sum(1) + bad

        return measure


def test_nan_loss_returns_the_last_finite_image(small):
    y = torch.zeros(2, 3, 32, 32)

    def run(step, steps):
        method = Method((Phase("W", steps, NGD(0.1), (Breaks(1, step),)),))
        return invert.restore(y, parse("clamp"), small, method, lr_scale=1.0, **QUICK)

    broken, good, short = run(3, 8), run(99, 8), run(99, 2)
    assert broken.finite.tolist() == [True, False] and good.finite.all()
    assert torch.equal(broken.latent[0], good.latent[0])
    # the last step with a finite loss is the second
    assert torch.equal(broken.latent[1], short.latent[1])
    assert torch.isnan(broken.history[3:, 1]).all() and torch.isfinite(broken.history[:, 0]).all()


class Bursts(torch.nn.Module):
    """Draws z's mean, and NaN where it is above 4."""

    def forward(self, z):
        level = z.mean(1)[:, None, None, None].expand(-1, 3, 32, 32)
        return level + 0 * (4 - level).sqrt()


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_nan_image_stops_alone(steps):
    """Also if the image becomes NaN in the last step, after which no loss is measured."""
    G = invert.wrap(Bursts(), z_dim=4)
    start = torch.tensor([[-3.0] * 4, [3.0] * 4])
    y = torch.full((2, 3, 32, 32), 1.0)

    class Begin(Mean):
        def __call__(self, problem):
            z = start[: problem.batch]
            return Point(z, z)

    method = Method((Phase(Z(), steps, Adam(0.9), (Away(),)),), Begin())
    r = invert.restore(y, parse("pool:1"), G, method, seed=[1, 2], **QUICK)
    assert r.finite.tolist() == [True, False]
    assert torch.isfinite(r.image).all() and torch.isfinite(r.latent).all()


class Away(Term):
    """Drives the image to ever greater values."""

    weight, name = 1.0, "away"

    def prepare(self, problem):
        return lambda view: -view.prediction.flatten(1).mean(1)


def test_terms_of_one_kind_add_up(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)

    def first(*loss):
        method = Method((Phase("W", 1, NGD(0.1), loss), Phase("W", 1, NGD(0.1), loss)))
        r = invert.restore(y, parse("clamp"), small, method, **QUICK)
        assert list(r.phase_images) == ["W", "W, phase 2"]
        return r.history[0, 0].item()

    assert first(MSE(), MSE(unit=255)) == pytest.approx(
        first(MSE()) + first(MSE(unit=255)), rel=1e-5
    )


def test_draws_ignore_the_rest_of_the_batch(small, monkeypatch):
    """Also if another image of the batch stops early, draws nothing, or has a mask."""
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    phase = Phase("W", 12, NGD(0.05), (MSE(), Lpips(enlarge=True)), stop=Patience(2))
    method = Method(
        (replace(phase, space=Codes("W", jitter=0.5)), replace(phase, space=Codes("W+"), stop=None))
    )
    f = parse(
        "perimage(poisson:3,model=gaussian ; poisson:3,model=gaussian >> strokes:3,seed=1 ; pool:1)"
    )
    y = f(small.synthesize(small.some_w(3)[0]).clamp(0, 1), [rng(i) for i in range(3)])
    together = invert.restore(y, f, small, method, [5, 6, 7], **QUICK)
    for i in range(3):
        alone = invert.restore(y[i : i + 1], f.row(i, 3), small, method, 5 + i, **QUICK)
        assert torch.allclose(alone.image, together.image[i : i + 1], atol=1e-3)


class Plan(Term):
    """A loss whose values come from a table [steps, B], with a constant gradient."""

    weight, name = 1.0, "plan"

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float)

    def prepare(self, problem):
        rows = iter(self.table)

        def measure(view):
            with_gradient = view.point.latent.flatten(1).sum(1)
            return next(rows) + with_gradient - with_gradient.detach()

        return measure


def test_stop_rule_is_per_image_and_keep_is_lowest(small):
    y = torch.zeros(2, 3, 32, 32)
    plan = Plan([(5, 5), (4, 6), (3, 7), (2, 8), (9, 9), (9, 9)])
    stopped = Method((Phase("W", 6, NGD(0.1), (plan,), stop=Patience(2)),))
    r = invert.restore(y, parse("clamp"), small, stopped, lr_scale=1.0, **QUICK)
    travelled = (r.latent - small.w_avg).norm(dim=1) / 0.1
    assert torch.allclose(travelled, torch.tensor([5.0, 2.0]), atol=1e-3) and len(r.history) == 6

    class Once(StopRule):  # says "stop" in one step only; the image must stay stopped
        def init(self, batch):
            return {"step": 0}

        def update(self, measured, state):
            step = state["step"]
            return torch.tensor([step == 1, False]), {"step": step + 1}

    once = Method((Phase("W", 6, NGD(0.1), (plan,), stop=Once()),))
    r = invert.restore(y, parse("clamp"), small, once, lr_scale=1.0, **QUICK)
    assert torch.allclose(
        (r.latent - small.w_avg).norm(dim=1) / 0.1, torch.tensor([1.0, 6.0]), atol=1e-3
    )
    kept = Method((Phase("W", 6, NGD(0.1), (plan,), keep="plan"),))
    r = invert.restore(y, parse("clamp"), small, kept, lr_scale=1.0, **QUICK)
    assert torch.allclose(
        (r.latent - small.w_avg).norm(dim=1) / 0.1, torch.tensor([3.0, 0.0]), atol=1e-3
    )


def test_draws_differ_between_images(small):
    problem = invert.problem.Problem(
        torch.zeros(3, 3, 32, 32), parse("gaussian:0.2"), small, (1, 2, 1)
    )
    image = torch.zeros(3, 3, 32, 32)
    for draw in (lambda p, x: p.predict(x, "a"), lambda p, x: p.rng("a").normal(x)):
        rows = draw(problem, image)
        assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
        assert torch.equal(rows[1:2], draw(problem.row(1), image[:1]))  # the same as alone
    assert not torch.equal(problem.predict(image, "a"), problem.predict(image, "b"))


def test_init_continues_from_a_latent(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    args = dict(observation=y, operator=parse("clamp"), prior=small, **QUICK)
    args["consistency"] = False
    first = invert.restore(**args, steps=6)
    steps = []
    r = invert.restore(**args, init=first.latent[:, :, 0], steps=6, callback=steps.append)
    assert [step.phase.name for step in steps] == ["W+", "W+", "W++", "W++"]
    assert torch.equal(
        invert.restore(**args, init=first.latent, steps=0).latent,
        small.unpack(small.pack(first.latent)),
    )
    one, two = (invert.restore(**args, init="random", seed=seed, steps=0).image for seed in (1, 2))
    assert not torch.allclose(one, two, atol=0.01)
    assert r.latent.shape == first.latent.shape
    for name in ("pulse", "ilo", "cri"):
        drawn = [
            invert.restore(**args, method=quick(name), init="random", seed=seed, steps=4).image
            for seed in (1, 2)
        ]
        assert not torch.allclose(*drawn, atol=1e-3)
    for method, init, words in [
        ("robust", torch.full((1, 7), math.nan), "init must be"),
        ("robust", [1.0], "init must be"),
        ("pulse", first.latent, "no phase that could go on"),
        ("robust", torch.zeros(1, 3), "latent has shape"),
        ("robust", torch.zeros(2, 7), "2 latents for 1"),
        ("robust", "best", "init='best'"),
    ]:
        with pytest.raises(ValueError, match=words):
            invert.restore(**args, method=method, init=init)


def test_oracle_mask_keeps_dead_pixels_exact():
    f = parse("downsample:2 >> poisson:48 >> deadpixels:0.5 >> jpeg:30").sample(
        (2, 3, 32, 32), [rng(1), rng(2)]
    )
    with_mask = invert.oracle_mask(f)
    assert "deadpixels:0.5,seed=" in str(with_mask) and "model=gaussian" in str(with_mask)
    assert "seed=" not in str(f.approx())
    grey = torch.full((2, 3, 32, 32), 0.5)
    y = f(grey, [rng(3), rng(4)])
    prediction = with_mask(grey, [rng(5), rng(6)])
    is_near = (prediction - y).abs() < 0.5
    assert is_near.float().mean() > 0.9


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(method=3), "method=3"),
        (dict(seed=1.5), "seed=1.5"),
        (dict(seed=None), "seed=None"),
        (dict(identity=torch.nn.Identity()), "identity is a Identity; give"),
        (dict(identity=invert.FaceIdentity(torch.nn.Identity())), "no term for it"),
        (
            dict(
                identity=invert.FaceIdentity(torch.nn.Identity(), torch.rand(3, 3, 8, 8)),
                method="adam-id",
            ),
            "3 references",
        ),
    ],
)
def test_restore_errors_name_the_argument(small, change, words):
    args = dict(
        observation=torch.rand(1, 3, 32, 32), operator=parse("clamp"), prior=small, steps=1, **QUICK
    )
    with pytest.raises(ValueError, match=words):
        invert.restore(**args | change)


def test_phase_without_needed_terms_is_refused():
    for arguments, words in [
        (dict(loss=()), "no terms"),
        (dict(loss=(MSE(),), keep="lpips"), "one term 'lpips'; the loss has 0"),
        (dict(loss=(MSE(), MSE()), stop=Below("mse", 1)), "one term 'mse'; the loss has 2"),
    ]:
        with pytest.raises(ValueError, match=words):
            Phase("W", 1, NGD(0.1), **arguments)
    with pytest.raises(ValueError, match="reference is"):
        invert.FaceIdentity(torch.nn.Identity(), torch.rand(3, 8, 8))
