"""Methods, terms and optimisers: each against its closed form, its constraint, or what it promises."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import invert
from degrade import parse
from degrade.rng import Rng
from invert import METHODS, Method, Phase, perceptual
from invert.latent import Codes, Gaussian, Space, Weights, Z
from invert.loss import L1, MSE, Lpips, Term, View
from invert.optim import NGD, Adam, Below, CycleWithDrop, L1Ball, Patience, Ramp, Sphere, Whiten, onto_l1_ball
from invert.point import Moment, Point
from invert.prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, OffsetNorm, WhiteNoise
from invert.start import BestOf, Centroids, Mean, distances, kmeans
from tests.conftest import picture, rng

from .checkpoints import stylegan2

SEARCHES = [name for name in METHODS if name != "ddrm"]
QUICK = {"perceptual": "alex"}


def quick(name, count=6):
    """The method, with few candidates to begin with, so that its phases are what takes time."""
    method = METHODS[name]
    start = replace(method.start, count=count) if isinstance(method.start, (BestOf, Centroids)) else method.start
    return replace(method, start=start)


def lively(**options):
    """A generator of 32² with noise maps that matter, and codes and images of an ordinary size."""
    G = stylegan2(resolution=32, width=9, **options)
    for conv in G.synthesis.convs:
        conv.noise_strength.fill_(0.1)
    for i in range(2):
        getattr(G.mapping, f"fc{i}").weight_gain *= 200
    G.mapping.w_avg.copy_(G.some_w(1000)[0].mean(0))
    return G


@pytest.fixture(scope="module")
def small():
    return lively()


# What every method keeps -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_a_method_lowers_its_loss_and_repeats_itself(small, name):
    f = parse("downsample:2 >> poisson:96").approx()
    y = f(small.synthesize(small.some_w(5)[0][3:]).clamp(0, 1), [rng(1), rng(2)])
    before = {k: v.clone() for k, v in small.state_dict().items()}
    method = quick(name)
    short = replace(method, phases=tuple(replace(phase, steps=12) for phase in method.phases))
    one, two = (invert.restore(y, f, small, short, [7, 8], **QUICK) for _ in range(2))
    assert torch.equal(one.image, two.image) and torch.equal(one.history, two.history)
    assert torch.equal(one.latent, two.latent) and one.finite.all()
    first = one.history[:12]
    assert (first[2:].min(0).values < first[1]).all()  # ramps begin with a step of no length
    assert one.image.min() >= 0 and one.image.max() <= 1 and not one.image.requires_grad
    assert all(torch.equal(before[k], v) for k, v in small.state_dict().items())  # whatever was tuned
    assert set(one.phase_images) == {phase.name for phase in method.phases}
    other = invert.restore(y[1:], f, small, short, [8], **QUICK)  # alone: what it was in the batch
    assert torch.allclose(other.history[:3, 0], one.history[:3, 1], rtol=2e-2)


@pytest.mark.parametrize("name", [name for name in SEARCHES if not name.endswith("-original")])
def test_a_method_ends_nearer_to_the_picture_than_the_mean(avatars, name):
    """On `downsample:4 >> jpeg:18`, with 200 steps, and nothing set but the network."""
    f = parse("downsample:4 >> jpeg:18")
    clean = picture(0)
    r = invert.restore(f(clean), f.approx(), avatars, name, steps=200, **QUICK)
    mean = avatars.synthesize(avatars.w_avg[None]).clamp(0, 1)
    assert perceptual.lpips(r.image, clean) < perceptual.lpips(mean, clean) - 0.05


@pytest.mark.parametrize("name", SEARCHES)
def test_a_method_finds_what_the_generator_itself_drew(avatars, name):
    """With the identity for operator: within LPIPS 0.3, from 0.5 or more at the start."""
    clean = avatars.synthesize(avatars.mapping(torch.randn(1, 128, generator=rng(4)))).clamp(0, 1)
    mean = avatars.synthesize(avatars.w_avg[None]).clamp(0, 1)
    r = invert.restore(clean, parse("clamp"), avatars, quick(name, 60), steps=60, **QUICK)
    assert perceptual.lpips(mean, clean) > 0.45 and perceptual.lpips(r.image, clean) < 0.3


@pytest.mark.parametrize("name", ["pti", "cri", "dgp"])
def test_an_image_that_is_tuned_on_its_own_does_not_see_its_batch(small, name, monkeypatch):
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(5)[0][2:]).clamp(0, 1))
    seen = []
    method = replace(quick(name), phases=(replace(quick(name).phases[-1], stop=None),))
    r = invert.restore(y, f, small, method, [1, 2, 3], callback=seen.append, steps=3, **QUICK)
    assert [s.step for s in seen] == list(range(1, 10)) and {s.total for s in seen} == {9}
    for i in range(3):
        alone = invert.restore(y[i : i + 1], f, small, method, i + 1, steps=3, **QUICK)
        assert torch.allclose(r.history[:, i], alone.history[:, 0], rtol=1e-4)
        assert torch.allclose(r.image[i : i + 1], alone.image, atol=1e-4)


# Constraints -------------------------------------------------------------------------------------------


def z_of(G, y, phase, steps, name="z"):
    method = Method((replace(phase, steps=steps),))
    return getattr(invert.restore(y, parse("clamp"), G, method, 3, **QUICK).point, name)


def test_pulse_stays_on_its_sphere(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    phase = METHODS["pulse"].phases[0]
    start, end = (z_of(small, y, phase, steps) for steps in (0, 15))
    assert not torch.allclose(start, end, atol=0.1)
    assert torch.allclose(start.norm(dim=-1), end.norm(dim=-1), rtol=1e-5)
    start, end = (z_of(small, y, phase, steps, "noises") for steps in (0, 15))
    moved = [not torch.equal(a, b) for a, b in zip(start, end, strict=True)]
    assert moved == [True] * 5 + [False] * (len(moved) - 5) and not start[-1].any()
    assert all(torch.allclose(a.norm(), b.norm(), rtol=1e-5) for a, b in zip(start, end, strict=True))


def test_ilo_stays_in_its_balls(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    ball = Adam(0.1, project=(L1Ball(z=2.0, noise=3.0, features=5.0),))
    phase = Phase(Gaussian(block=1, noises=7), 10, ball, METHODS["ilo"].phases[1].loss)
    for name, radius in (("z", 2.0), ("noises", 3.0), ("start", 5.0)):
        start, end = (z_of(small, y, phase, steps, name) for steps in (0, 10))
        pairs = zip(start, end, strict=True) if name == "noises" else [(start, end)]
        for i, (a, b) in enumerate(pairs):
            a, b = (a.maps, b.maps) if name == "start" else (a, b)
            travelled = float((a - b).abs().sum())
            assert travelled <= radius * (1 + 1e-4)
            assert (travelled > 0.5 * radius) == (name != "noises" or 1 <= i < 7)  # the first map lies before the block


def test_pti_keeps_its_pivot_and_dgp_its_other_weights(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    phases = METHODS["pti"].phases
    pivot, tuned = (
        invert.restore(y, parse("clamp"), small, Method(tuple(replace(p, steps=4) for p in some)), 3, **QUICK)
        for some in (phases[:1], phases)
    )
    assert torch.equal(pivot.latent, tuned.latent) and pivot.point.weights is None
    (weights,) = tuned.point.weights
    names = {name for name, _ in small.named_parameters()}
    assert set(weights) == {name for name in names if name.startswith("synthesis.")}
    assert tuned.point.noises is None  # those of the search for the pivot are thrown away

    phase = replace(METHODS["dgp"].phases[0], steps=4)
    r = invert.restore(y, parse("clamp"), small, Method((phase,)), 3, **QUICK)
    (weights,) = r.point.weights
    assert {name.split(".")[1] for name in weights} == {"b4", "b8"} and not any("torgb" in name for name in weights)
    assert torch.allclose(r.point.image(small).clamp(0, 1), r.image)


@given(st.integers(0, 99), st.floats(0.1, 20))
def test_the_l1_ball_s_nearest_point(seed, radius):
    """The solution is a soft threshold; the threshold is found by bisection, in float64."""
    d = torch.randn(3, 2, 7, generator=rng(seed), dtype=torch.float64) * 2
    found = onto_l1_ball(d, radius)
    for row, projected in zip(d.flatten(1), found.flatten(1), strict=True):
        low, high = 0.0, float(row.abs().max())
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if (row.abs() - middle).clamp_min(0).sum() > radius else (low, middle)
        expected = row if row.abs().sum() <= radius else row.sign() * (row.abs() - high).clamp_min(0)
        assert torch.allclose(projected, expected, atol=1e-9)


# Parts -------------------------------------------------------------------------------------------------


def value(term, point=None, problem=None, variables=None, prediction=None):
    problem = problem or SimpleNamespace(batch=1, device=torch.device("cpu"))
    return term.prepare(problem)(View(prediction, prediction, point, variables or {}, Rng.of(rng(), 1)))


def test_terms_in_closed_form(small):
    a, b = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 2.0, 0, 0])
    latent = torch.stack([a, b])[None]
    # two layers at a right angle: of four pairs, two have θ = π/2
    assert value(Geodesic(of="latent"), Point(latent)).item() == pytest.approx(4 / 8 * (math.pi / 2) ** 2 / 2, rel=1e-4)
    assert value(Collinear(), Point(latent)).item() == pytest.approx(0.5)
    assert value(Normal(), Point(latent, latent)).item() == pytest.approx(5 / 8)
    assert value(OffsetNorm(), variables={"offset": latent}).item() == pytest.approx(5**0.5)
    assert value(OffsetNorm(order=1), variables={"offset": latent}).item() == pytest.approx(3)
    flat, white = torch.ones(1, 1, 16, 16), torch.randn(1, 1, 256, 256, generator=rng())
    assert value(WhiteNoise(), Point(latent, noises=(flat,))).item() == pytest.approx(4)  # two axes, two scales
    assert value(WhiteNoise(), Point(latent, noises=(white,))).item() < 0.01

    problem = invert.problem.Problem(torch.zeros(2, 3, 32, 32), parse("clamp"), small, (0, 1))
    ws = torch.randn(2, small.num_ws, 7, generator=rng())
    expected = ((ws - small.w_avg) ** 2).mean((1, 2)) / small.w_std**2
    assert torch.allclose(value(Near(), Point(ws), problem), expected)
    z = torch.randn(2, 5, generator=rng())
    expected = (small.mapping(z)[:, None] - ws).square().mean((1, 2))
    assert torch.allclose(value(Mapped(), Point(ws, z), problem), expected)
    x = torch.full((2, 3, 32, 32), 0.5)
    assert torch.allclose(value(MSE(unit=255), None, problem, prediction=x), torch.full((2,), 127.5**2))
    assert torch.allclose(value(MSE(floor=1), None, problem, prediction=x), torch.ones(2))
    assert torch.allclose(value(L1(), None, problem, prediction=x), torch.full((2,), 0.5))
    enlarged = value(Lpips(enlarge=True, net="alex"), None, replace(problem, observation=x[..., :16, :16]),
                     prediction=x[..., :16, :16] / 2)  # fmt: skip
    assert torch.allclose(enlarged, perceptual.lpips(x, x / 2, "alex"), rtol=2e-2)


def test_the_geodesic_term_has_a_gradient_where_layers_are_equal():
    w = torch.ones(1, 3, 4, requires_grad=True)
    value(Geodesic(of="latent"), Point(w)).sum().backward()
    assert torch.isfinite(w.grad).all()


def test_locality_is_nothing_for_the_generator_itself_and_more_for_another(small):
    problem = invert.problem.Problem(torch.zeros(1, 3, 32, 32), parse("clamp"), small, (0,))
    own = {k: v for k, v in small.named_parameters() if k.startswith("synthesis.")}
    w = small.some_w(1)[0]
    assert value(Locality(), Point(w, weights=(own,)), problem).item() == 0
    brighter = own | {"synthesis.b32.torgb.bias": own["synthesis.b32.torgb.bias"] + 0.1}
    only_mse = Locality(mse=1, lpips=0)
    shown = []
    with pytest.MonkeyPatch.context() as spy:
        spy.setattr(
            type(small), "synthesize", lambda self, code, **o: shown.append((code, o)) or torch.zeros(1, 3, 32, 32)
        )
        value(only_mse, Point(w, weights=(own,)), problem)
    for code, options in shown:  # 30 away over all layers together, without noise, towards a truncated code
        assert code.shape == (1, small.num_ws, 7) and options == {"noise_mode": "none"}
        assert (code - w[:, None]).norm().item() == pytest.approx(30, rel=1e-4)
    assert value(only_mse, Point(w, weights=(brighter,)), problem).item() == pytest.approx(0.01, rel=1e-3)


def test_schedules_and_rules_to_stop():
    ramp, drop = Ramp(), CycleWithDrop()
    assert [ramp(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)] == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    assert Ramp(down=0.75)(0.625) == pytest.approx(0.5)
    assert [drop(t) for t in (0, 0.45, 0.9, 0.95, 1)] == pytest.approx([0.1, 1, 0.1, 0.0505, 0.001])
    stop = Patience(2).begin(2)
    losses = [(3, 3), (2, 4), (1, 5), (1, 2)]
    assert [stop({"loss": torch.tensor(pair, dtype=torch.float)}).tolist() for pair in losses] == [
        [False, False], [False, False], [False, True], [False, False],
    ]  # fmt: skip
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
    assert torch.equal(first["x"], v) and torch.allclose(second["x"], torch.full((1, 3), -0.025), rtol=1e-4)
    odd = move(second, {"x": torch.tensor([[math.nan, math.inf, 1.0]])}, 2)
    assert torch.isfinite(odd["x"]).all() and odd["x"][0, 2] < second["x"][0, 2]


def test_every_image_has_draws_of_its_own(small):
    problem = invert.problem.Problem(torch.zeros(3, 3, 32, 32), parse("gaussian:0.2"), small, (1, 2, 1))
    image = torch.zeros(3, 3, 32, 32)
    for draw in (lambda p, x: p.predict(x, "a"), lambda p, x: p.rng("a").normal(x)):
        rows = draw(problem, image)
        assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
        assert torch.equal(rows[1:2], draw(problem.row(1), image[:1]))  # alone, or with whatever mates
    assert not torch.equal(problem.predict(image, "a"), problem.predict(image, "b"))


def test_rates_of_codes_follow_the_spread_and_others_do_not():
    move = Adam(0.1, z_lr=0.01).begin({k: torch.zeros(1, 2) for k in ("latent", "offset", "z", "weight:a")}, 1, 0.5)
    ones = {k: torch.ones(1, 2) for k in ("latent", "offset", "z", "weight:a")}
    moved = {k: -v[0, 0].item() for k, v in move({k: 0 * v for k, v in ones.items()}, ones, 0).items()}
    assert moved == pytest.approx({"latent": 0.05, "offset": 0.05, "z": 0.01, "weight:a": 0.1}, rel=1e-4)


def test_whitened_noise_has_mean_0_and_mean_square_1():
    noise = torch.randn(2, 1, 8, 8, generator=rng()) * 3 + 1
    white = Whiten().begin({})({"noise0": noise, "latent": noise})
    assert torch.equal(white["latent"], noise)
    assert white["noise0"].mean((1, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(white["noise0"].square().mean((1, 2, 3)), torch.ones(2))
    assert set(Sphere().begin({"latent": noise})({"latent": noise})) == {"latent"}


def test_kmeans_finds_clusters_that_are_there():
    centers = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    points = torch.cat([c + torch.randn(50, 2, generator=rng(i)) for i, c in enumerate(centers)])
    found = kmeans(points, 3)
    nearest = torch.cdist(centers, found).amin(1)
    assert (nearest < 0.5).all() and torch.equal(found, kmeans(points, 3))
    assert torch.equal(kmeans(points, 1), points.mean(0, keepdim=True)) or torch.allclose(
        kmeans(points, 1), points.mean(0)
    )
    assert kmeans(torch.zeros(5, 2), 3).shape == (3, 2)
    with pytest.raises(ValueError, match="count=4"):
        kmeans(points[:3], 4)


@pytest.mark.parametrize("start", [BestOf(20, Lpips(enlarge=True)), Centroids(4), Centroids(4, through_operator=False)])
def test_the_chosen_start_is_the_nearest(small, start):
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(3)[0]).clamp(0, 1))
    problem = invert.problem.Problem(y, f, small, (1, 2, 3), "alex")
    chosen = start(problem)
    if isinstance(start, Centroids):
        candidates = kmeans(small.some_w(10_000)[0], 4)
        shown = small.synthesize(candidates)
        seen = f(shown) if start.through_operator else F.interpolate(shown, (16, 16), mode="bilinear", antialias=True)
        big = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (seen, y)]
        for i in range(3):
            scores = perceptual.lpips(big[0], big[1][i : i + 1].expand(4, -1, -1, -1), "alex")
            assert torch.equal(chosen.latent[i], candidates[scores.argmin()])
    else:
        for i in range(3):
            row = problem.row(i)
            own = distances(row, chosen.latent[i : i + 1], start.by)
            others = distances(row, small.mapping(torch.randn(20, 5, generator=rng(9))), start.by)
            assert own < others.median() and torch.allclose(problem.map(chosen.z)[i], chosen.latent[i])


# The engine -------------------------------------------------------------------------------------------


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


def test_a_loss_that_is_not_finite_stops_its_image_at_the_last_good_place(small):
    y = torch.zeros(2, 3, 32, 32)

    def run(step, steps):
        method = Method((Phase("W", steps, NGD(0.1), (Breaks(1, step),)),))
        return invert.restore(y, parse("clamp"), small, method, lr_scale=1.0, **QUICK)

    broken, good, short = run(3, 8), run(99, 8), run(99, 2)
    assert broken.finite.tolist() == [True, False] and good.finite.all()
    assert torch.equal(broken.latent[0], good.latent[0])
    assert torch.equal(broken.latent[1], short.latent[1])  # where the loss was last a number
    assert torch.isnan(broken.history[3:, 1]).all() and torch.isfinite(broken.history[:, 0]).all()


class Bursts(torch.nn.Module):
    """Draws z's mean, and NaN where it is above 4."""

    def forward(self, z):
        level = z.mean(1)[:, None, None, None].expand(-1, 3, 32, 32)
        return level + 0 * (4 - level).sqrt()


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_an_image_that_is_not_finite_stops_alone(steps):
    """Also where only the last step leads to it, which no loss sees."""
    G = invert.wrap(Bursts(), z_dim=4)
    start = torch.tensor([[-3.0] * 4, [3.0] * 4])
    y = torch.full((2, 3, 32, 32), 1.0)

    class Begin(Mean):
        def __call__(self, problem):
            own = start if problem.batch == 2 else start[:1]
            return Point(own, own)

    method = Method((Phase(Z(), steps, Adam(0.9), (Away(),)),), Begin())
    r = invert.restore(y, parse("pool:1"), G, method, seed=[1, 2], **QUICK)
    assert r.finite.tolist() == [True, False] and torch.isfinite(r.image).all() and torch.isfinite(r.latent).all()


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

    assert first(MSE(), MSE(unit=255)) == pytest.approx(first(MSE()) + first(MSE(unit=255)), rel=1e-5)


def test_what_happens_to_batch_mates_changes_no_draw(small, monkeypatch):
    """A mate that stops early, draws nothing, or has a mask."""
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    phase = Phase("W", 12, NGD(0.05), (MSE(), Lpips(enlarge=True)), stop=Patience(2))
    method = Method((replace(phase, space=Codes("W", jitter=0.5)), replace(phase, space=Codes("W+"), stop=None)))
    f = parse("perimage(poisson:3,model=gaussian ; poisson:3,model=gaussian >> strokes:3,seed=1 ; pool:1)")
    y = f(small.synthesize(small.some_w(3)[0]).clamp(0, 1), [rng(i) for i in range(3)])
    together = invert.restore(y, f, small, method, [5, 6, 7], **QUICK)
    for i in range(3):
        alone = invert.restore(y[i : i + 1], f.row(i, 3), small, method, 5 + i, **QUICK)
        assert torch.allclose(alone.image, together.image[i : i + 1], atol=1e-3)


class Plan(Term):
    """A loss that is read from a table [steps, B], with a gradient that never ends."""

    weight, name = 1.0, "plan"

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float)

    def prepare(self, problem):
        rows = iter(self.table)

        def measure(view):
            slope = view.point.latent.flatten(1).sum(1)
            return next(rows) + slope - slope.detach()

        return measure


def test_images_stop_one_by_one_and_the_lowest_can_be_kept(small):
    y = torch.zeros(2, 3, 32, 32)
    plan = Plan([(5, 5), (4, 6), (3, 7), (2, 8), (9, 9), (9, 9)])
    stopped = Method((Phase("W", 6, NGD(0.1), (plan,), stop=Patience(2)),))
    r = invert.restore(y, parse("clamp"), small, stopped, lr_scale=1.0, **QUICK)
    travelled = (r.latent - small.w_avg).norm(dim=1) / 0.1
    assert torch.allclose(travelled, torch.tensor([5.0, 2.0]), atol=1e-3) and len(r.history) == 6

    class Once:  # as a rule that changes its mind
        def begin(self, batch):
            steps = iter(range(9))
            return lambda values: torch.tensor([next(steps) == 1, False])

    once = Method((Phase("W", 6, NGD(0.1), (plan,), stop=Once()),))
    r = invert.restore(y, parse("clamp"), small, once, lr_scale=1.0, **QUICK)
    assert torch.allclose((r.latent - small.w_avg).norm(dim=1) / 0.1, torch.tensor([1.0, 6.0]), atol=1e-3)
    kept = Method((Phase("W", 6, NGD(0.1), (plan,), keep="plan"),))
    r = invert.restore(y, parse("clamp"), small, kept, lr_scale=1.0, **QUICK)
    assert torch.allclose((r.latent - small.w_avg).norm(dim=1) / 0.1, torch.tensor([3.0, 0.0]), atol=1e-3)


def test_a_search_goes_on_from_a_latent(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    args = dict(observation=y, operator=parse("clamp"), generator=small, **QUICK)
    first = invert.restore(**args, steps=6)
    seen = []
    r = invert.restore(**args, init=first.latent[:, :, 0], steps=6, callback=seen.append)
    assert [s.phase.name for s in seen] == ["W+", "W+", "W++", "W++"]
    assert torch.equal(
        invert.restore(**args, init=first.latent, steps=0).latent, small.unpack(small.pack(first.latent))
    )
    one, two = (invert.restore(**args, init="random", seed=seed, steps=0).image for seed in (1, 2))
    assert not torch.allclose(one, two, atol=0.01)
    assert r.latent.shape == first.latent.shape
    for name in ("pulse", "ilo", "cri"):
        drawn = [invert.restore(**args, method=quick(name), init="random", seed=seed, steps=4).image for seed in (1, 2)]
        assert not torch.allclose(*drawn, atol=1e-3)
    for method, init, words in [
        ("robust", torch.full((1, 7), math.nan), "init must be"), ("robust", [1.0], "init must be"),
        ("pulse", first.latent, "no phase that could go on"), ("robust", torch.zeros(1, 3), "latent has shape"),
        ("robust", torch.zeros(2, 7), "2 latents for 1"), ("robust", "best", "init='best'"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            invert.restore(**args, method=method, init=init)


def test_methods_ask_for_what_they_need(small):
    module = torch.nn.Sequential(torch.nn.Linear(4, 3 * 32 * 32), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 32, 32)))
    G = invert.wrap(module, z_dim=4)
    y = torch.rand(1, 3, 32, 32, generator=rng())
    for name in SEARCHES:
        if name == "dgp":
            assert invert.restore(y, parse("clamp"), G, quick(name), steps=3, **QUICK).finite.all()
        else:
            with pytest.raises(ValueError, match="this generator has no W"):
                invert.restore(y, parse("clamp"), G, name, **QUICK)
    with pytest.raises(ValueError, match="layer 4.*blocks 1 to 3, not 4"):
        phase = Phase(Gaussian(block=4), 1, Adam(0.1), (MSE(),))
        invert.restore(y, parse("clamp"), small, Method((phase,)), **QUICK)


def test_a_class_is_said_or_recognised():
    G = lively(c_dim=3)
    y = torch.rand(2, 3, 32, 32, generator=rng())
    args = dict(observation=y, operator=parse("clamp"), generator=G, method="lbrgm", **QUICK)
    args["method"] = replace(METHODS["lbrgm"], start=BestOf(3, Lpips(enlarge=True)))
    said = invert.restore(**args, class_label=[2, 0], steps=2)
    seen = []
    known = invert.restore(**args, class_label=lambda x: seen.append(x) or torch.tensor([2, 0]), steps=2)
    assert torch.equal(said.image, known.image) and torch.equal(seen[0], y)
    assert not torch.equal(said.image, invert.restore(**args, class_label=1, steps=2).image)
    with pytest.raises(ValueError, match="class_label is missing"):
        invert.restore(**args)
    for name in ("robust", "pulse"):  # where there is one mean for all, the class's is taken
        args["method"] = quick(name)
        zero, one = (invert.restore(**args, class_label=label, steps=0).image for label in (0, 1))
        assert not torch.allclose(zero, one, atol=1e-3)
    mean = G.mapping(torch.randn(40_000, 5, generator=rng(3)), 2).mean(0)
    problem = invert.problem.Problem(y, parse("clamp"), G, (0, 1), label=F.one_hot(torch.tensor([2, 0]), 3).float())
    assert torch.allclose(problem.center[0], mean, atol=0.05)


def test_what_leaves_a_block_can_enter_it_again(small):
    w = small.some_w(2)[0]
    ws = w[:, None] + 0.1 * torch.randn(2, small.num_ws, 7, generator=rng())
    image = small.synthesize(ws)
    for block in (1, 2, 3):
        features = small.features(ws, block)
        assert features.maps.shape[2] == 2 ** (block + 1) and torch.equal(small.synthesize(ws, start=features), image)
        if block > 1:
            assert torch.equal(small.features(ws, block, start=small.features(ws, block - 1)).maps, features.maps)
    noises = [conv.noise_const[None, None] for conv in small.synthesis.convs]
    assert torch.equal(small.synthesize(ws, noises=noises), image)
    assert not torch.allclose(small.synthesize(ws, noises=[n + 1 for n in noises]), image, atol=1e-3)
    for call, words in [
        (lambda: small.features(ws, 0), "block=0"), (lambda: small.features(ws, 4), "block=4"),
        (lambda: small.synthesize(ws, noises=noises[:-1]), "noises have the sides"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()


def test_every_space_begins_with_the_image_it_is_given(small):
    problem = invert.problem.Problem(torch.zeros(2, 3, 32, 32), parse("clamp"), small, (1, 2))
    w = small.some_w(2)[0]
    spaces: list[Space] = [Codes("W"), Codes("W+"), Codes("W++"), invert.latent.Offset(), Weights()]
    for space in spaces:
        point = Point(w) if not space.per_image else Point(w[:1])
        own = problem.row(0) if space.per_image else problem
        begun, free = space.begin(point, own)
        placed = space.place(free, begun, own, Moment(1.0, Rng.of((), 0)))
        assert torch.allclose(placed.image(small), point.image(small), atol=1e-5)
    point = Point(w)
    for block in (0, 1, 2):  # each round of ILO begins where the one before ended
        space = Gaussian(block=block)
        begun, free = space.begin(point, problem)
        placed = space.place(free, begun, problem, Moment(1.0, Rng.of((), 0)))
        if block:
            assert torch.allclose(placed.image(small), point.image(small), atol=1e-4)
        free = {k: v + 0.1 * torch.randn(v.shape, generator=rng(block)) for k, v in free.items()}
        point = space.place(free, begun, problem, Moment(1.0, Rng.of((), 0))).detached()


def test_the_pivot_s_jitter_fades(small):
    problem = invert.problem.Problem(torch.zeros(1, 3, 32, 32), parse("clamp"), small, (1,))
    space = Codes("W", jitter=0.05)
    w = torch.zeros(1, 7)
    widths = []
    for progress in (0.0, 0.375, 0.75):
        draws = [
            space.place({"latent": w}, Point(w), problem, Moment(progress, Rng.of(rng(i), 1))).latent
            for i in range(200)
        ]
        widths.append(torch.stack(draws).std().item() / (0.05 * small.w_std))
    assert widths == pytest.approx([1, 0.25, 0], abs=0.06)


def test_the_solver_can_be_told_which_pixels_are_dead():
    f = parse("downsample:2 >> poisson:48 >> deadpixels:0.5 >> jpeg:30").sample((2, 3, 32, 32), [rng(1), rng(2)])
    told = invert.oracle_mask(f)
    assert "deadpixels:0.5,seed=" in str(told) and "model=gaussian" in str(told)
    assert "seed=" not in str(f.approx())
    y = f(torch.full((2, 3, 32, 32), 0.5), [rng(3), rng(4)])
    assert ((told(torch.full((2, 3, 32, 32), 0.5), [rng(5), rng(6)]) - y).abs() < 0.5).float().mean() > 0.9


TABLE = {  # METHODS.md, sections 3 to 10: steps, optimiser, and every term with its weight
    "adam-id": [(150, Adam(lr), [(1, "Lpips"), (0.1, "L1"), (0.1, "SamePerson")]) for lr in (0.05, 0.01, 0.002)],
    "pulse": [(250, Adam(0.8, schedule=CycleWithDrop(), project=(Sphere(),)), [(100, "MSE"), (0.05, "Geodesic")])],
    "pulse-original": [(100, Adam(0.4, schedule=CycleWithDrop(), project=(Sphere(),)),
                        [(100, "MSE"), (0.05, "Geodesic")])],
    "brgm": [(501, Adam(0.1), [(1e-3, "MSE"), (1.25, "Lpips"), (100, "Near"), (32.4, "Collinear")])],
    "brgm-original": [(5000, Adam(0.1, schedule=Ramp(0.25, 0.05)),
                       [(1e-3, "MSE"), (1, "Lpips"), (100, "Near"), (3, "Collinear")])],
    "lbrgm": [(500, Adam(0.05), [(2e-4, "MSE"), (2.5, "Lpips"), (30, "Mapped"), (0.4, "Normal")])],
    "lbrgm-original": [(2000, Adam(0.1), [(2e-4, "MSE"), (2.5, "Lpips"), (30, "Mapped"), (0.4, "Normal")])],
    "ilo": [(n, Adam(0.1, schedule=Ramp(0.75, 0.05), project=(Sphere(),)),
             [(1, "MSE"), (1, "Lpips"), (0.01, "Geodesic")]) for n in (50, 50, 25, 25)],
    "pti": [(450, Adam(0.01, schedule=Ramp(0.25, 0.05), project=(Whiten(),)), [(1, "Lpips"), (1e5, "WhiteNoise")]),
            (350, Adam(3e-4), [(1, "MSE"), (1, "Lpips"), (1, "Locality")])],
    "cri": [(500, Adam(0.1, schedule=Ramp(0.25, 0.05)), [(1, "Lpips"), (10, "MSE")]),
            (20, Adam(3e-4), [(1, "Lpips"), (1, "MSE"), (1, "Locality")])],
    "dgp": [(200, Adam(lr, betas=(0, 0.999), eps=1e-8, z_lr=z), [(1, "Deep"), (1, "MSE"), (0.01, "Normal")])
            for lr, z in ((5e-5, 2e-3), (5e-5, 1e-3), (2e-5, 2e-5), (1e-5, 1e-5), (1e-5, 1e-5))],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_constants_are_the_published_ones(name):
    found = [
        (phase.steps, phase.optimiser, [(pytest.approx(term.weight), type(term).__name__) for term in phase.loss])
        for phase in METHODS[name].phases
    ]
    assert found == TABLE[name]


def test_further_constants_are_the_published_ones():
    pulse, ilo, pti, cri_, dgp = (METHODS[name].phases for name in ("pulse", "ilo", "pti", "cri", "dgp"))
    assert pulse[0].space == Gaussian(0, 5, quiet_end=True) and pulse[0].loss[0] == MSE(100, unit=1, floor=2e-3)
    assert [phase.space for phase in ilo] == [Gaussian(k, 5 + 2 * k) for k in range(4)]
    assert {phase.keep for phase in ilo} == {"mse"} and ilo[0].loss[0].unit == 2
    assert pti[0].space == Codes("W", jitter=0.05, noises=True) and pti[1].stop == Below("lpips", 0.06)
    assert pti[1].loss[1].net == "alex" and pti[1].loss[2] == Locality(1, 0.1, 0.1, "alex", 30, 0.5)
    assert cri_[1].loss[2] == Locality(1, 0, 10, None, 30, 0.5) and cri_[0].loss[1].unit == 2
    assert [phase.space for phase in dgp] == [Weights(n, z=True) for n in (2, 3, 4, 5, 7)]
    assert METHODS["lbrgm"].start == BestOf(200, Lpips(2.5, at_most=256, enlarge=True), 0.8)
    assert METHODS["lbrgm-original"].start == BestOf(100, Lpips(2.5, at_most=256, enlarge=True), 1.0)
    assert METHODS["dgp"].start.count == 500 and METHODS["cri"].start == Centroids(10, True)
    assert {phase.stop for phase in METHODS["adam-id"].phases} == {Patience(15)}
    assert METHODS["robust-text"].phases[0].loss == (
        Lpips(levels=6, first=1, shortest=16, fill=(0.5, 1.0)), L1(0.1),
    )  # fmt: skip


def test_large_images_are_compared_at_256(small):
    x, y = torch.rand(1, 3, 300, 300, generator=rng()), torch.rand(1, 3, 300, 300, generator=rng(1))
    problem = invert.problem.Problem(y, parse("clamp"), small, (0,), "alex")
    small_x, small_y = (F.interpolate(image, (256, 256), mode="area") for image in (x, y))
    found = value(Lpips(at_most=256), None, problem, prediction=x)
    assert torch.allclose(found, perceptual.lpips(small_x, small_y, "alex"), rtol=2e-2)


def test_truncated_candidates_lie_nearer_to_the_mean(small):
    problem = invert.problem.Problem(torch.rand(1, 3, 32, 32), parse("clamp"), small, (1,), "alex")
    near, far = (BestOf(1, Lpips(enlarge=True), psi)(problem) for psi in (0.5, 1.0))
    assert torch.allclose(near.latent - small.w_avg, (far.latent - small.w_avg) / 2, atol=1e-6)
    assert torch.equal(near.z, far.z)


@pytest.mark.parametrize("change, words", [
    (dict(method=3), "method=3"), (dict(seed=1.5), "seed=1.5"), (dict(seed=None), "seed=None"),
    (dict(identity=torch.nn.Identity()), "identity is a Identity; give"),
    (dict(identity=invert.Identity(torch.nn.Identity())), "no term for it"),
    (dict(identity=invert.Identity(torch.nn.Identity(), torch.rand(3, 3, 8, 8)), method="adam-id"), "3 references"),
])  # fmt: skip
def test_wrong_arguments_are_named(small, change, words):
    args = dict(observation=torch.rand(1, 3, 32, 32), operator=parse("clamp"), generator=small, steps=1, **QUICK)
    with pytest.raises(ValueError, match=words):
        invert.restore(**args | change)


def test_a_phase_that_cannot_be_is_refused():
    for arguments, words in [
        (dict(loss=()), "no terms"), (dict(loss=(MSE(),), keep="lpips"), "one term 'lpips'; the loss has 0"),
        (dict(loss=(MSE(), MSE()), stop=Below("mse", 1)), "one term 'mse'; the loss has 2"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Phase("W", 1, NGD(0.1), **arguments)
    with pytest.raises(ValueError, match="reference is"):
        invert.Identity(torch.nn.Identity(), torch.rand(3, 8, 8))
