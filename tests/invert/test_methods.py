"""Properties that all methods share, and what each keeps while it searches."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F

import invert
from degrade import parse
from invert import METHODS, Method, Phase, perceptual
from invert.latent import GaussianCodes
from invert.loss import MSE, Lpips, Term
from invert.optim import NGD, Adam, L1Ball, Optimiser
from invert.start import BestOf
from tests.conftest import EFFORT, picture, rng, slow_except

from .checkpoints import conditional_xl
from .solving import QUICK, SEARCHES, lively, quick

# settings of a method that is tested under its main name; they run only with more test effort
VARIANTS = {"cri-xl", "dgp-colorization", "dgp-inpainting", "ilo-text"}
MAIN = [n for n in SEARCHES if EFFORT > 1 or not (n in VARIANTS or n.endswith("-original"))]

BY_DEFAULT = ("calibrated",)  # tried with the bundled generator in every run


class Enough(Exception):
    """Ends a restoration whose first steps are enough."""


def first_losses(count, *request, **options):
    """The losses of the first steps of a restoration, [count, B]; it ends there."""
    losses = []

    def look(step):
        losses.append(step.loss)
        if len(losses) == count:
            raise Enough

    with pytest.raises(Enough):
        invert.restore(*request, callback=look, **options)
    return torch.stack(losses)


@pytest.mark.parametrize("name", MAIN)
def test_methods_lower_their_loss_repeatably(small, name):
    f = parse("downsample:2 >> poisson:96").approx()
    y = f(small.synthesize(small.some_w(5)[0][3:]).clamp(0, 1), [rng(1), rng(2)])
    before = {k: v.clone() for k, v in small.state_dict().items()}
    method = quick(name)
    first_phase = replace(method.phases[0], steps=5)
    later_phases = [replace(phase, steps=1) for phase in method.phases[1:]]
    short = replace(method, phases=(first_phase, *later_phases))
    # short steps, since Adam's own would overshoot in a W of only 7 coordinates
    options = QUICK | {"lr_scale": small.w_spread / 9.5}
    one, two = (invert.restore(y, f, small, short, [7, 8], **options) for _ in range(2))
    assert torch.equal(one.image, two.image) and torch.equal(one.history, two.history)
    assert torch.equal(one.latent, two.latent) and one.finite.all()
    first = one.history[:5]
    assert (first[2:].min(0).values < first[1]).all()  # ramps begin with a step of no length
    assert one.image.min() >= 0 and one.image.max() <= 1 and not one.image.requires_grad
    for name_of_weight, weight in small.state_dict().items():  # weight tuning restores the weights
        assert torch.equal(before[name_of_weight], weight)
    assert set(one.phase_images) == {phase.name for phase in method.phases}
    first_only = replace(method, phases=(first_phase,))
    alone = first_losses(3, y[1:], f, small, first_only, [8], **options)
    assert torch.allclose(alone[:, 0], one.history[:3, 1], rtol=2e-2)


def candidates(name):
    """How many candidates a short test draws for the start; of dgp, it decides the most."""
    return 60 if name == "dgp" else 12


@pytest.fixture(scope="module")
def distance_of_the_mean(avatars):
    """LPIPS between the generator's mean image and a portrait."""
    mean = avatars.synthesize(avatars.w_avg[None]).clamp(0, 1)
    return perceptual.lpips(mean, picture(0))


@pytest.fixture(scope="module")
def generated(avatars):
    """An image of the generator that is far from its mean."""
    mean = avatars.synthesize(avatars.w_avg[None]).clamp(0, 1)
    image = avatars.synthesize(avatars.mapping(torch.randn(1, 128, generator=rng(4)))).clamp(0, 1)
    assert perceptual.lpips(mean, image) > 0.45
    return image


@pytest.mark.parametrize("name", [name for name in MAIN if name != "calibrated"])
def test_methods_come_nearer_than_their_start(small, name):
    """To an image of a tiny generator, which is itself the start of `calibrated`.

    The tests below measure how near they come to a portrait.
    """
    w = small.mapping(torch.randn(1, small.z_dim, generator=rng(5)))
    image = small.synthesize(w).clamp(0, 1)
    options = QUICK | {"lr_scale": small.w_spread / 9.5}
    start, end = (
        invert.restore(image, parse("clamp"), small, quick(name), steps=steps, **options).image
        for steps in (0, 12)
    )
    assert perceptual.lpips(end, image) < 0.9 * perceptual.lpips(start, image)


@pytest.mark.parametrize("name", slow_except(BY_DEFAULT, MAIN))
def test_methods_end_nearer_than_the_mean(avatars, distance_of_the_mean, name):
    """On `downsample:4 >> jpeg:18`, with few steps and fewer candidates for the start."""
    f = parse("downsample:4 >> jpeg:18")
    clean = picture(0)
    steps = 12 if name == "ilo" else 8  # ilo has four phases
    method = quick(name, candidates(name))
    r = invert.restore(f(clean), f.approx(), avatars, method, steps=steps, **QUICK)
    assert perceptual.lpips(r.image, clean) < distance_of_the_mean - 0.05


@pytest.mark.parametrize("name", slow_except(BY_DEFAULT, MAIN))
def test_methods_recover_a_generated_image(avatars, generated, name):
    """With the identity for operator: within LPIPS 0.3, from 0.45 or more at the mean."""
    # two phases share the steps of pti and of cri, five those of dgp; the last steps of calibrated
    # are long where there is much to explain
    steps = {"pti": 20, "cri": 12, "dgp": 60, "calibrated": 12}.get(name, 8)
    method = quick(name, candidates(name))
    r = invert.restore(generated, parse("clamp"), avatars, method, steps=steps, **QUICK)
    assert perceptual.lpips(r.image, generated) < 0.3


@pytest.mark.parametrize("name", slow_except(("cri", "dgp"), ("pti", "cri", "dgp")))
def test_weight_tuning_ignores_the_batch(small, name, monkeypatch):
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(5)[0][2:]).clamp(0, 1))
    steps = []
    method = replace(quick(name), phases=(replace(quick(name).phases[-1], stop=None),))
    r = invert.restore(y, f, small, method, [1, 2, 3], callback=steps.append, steps=3, **QUICK)
    assert [step.step for step in steps] == list(range(1, 10))
    assert {step.total for step in steps} == {9}
    for i in range(3):
        alone = invert.restore(y[i : i + 1], f, small, method, i + 1, steps=3, **QUICK)
        assert torch.allclose(r.history[:, i], alone.history[:, 0], rtol=1e-4)
        assert torch.allclose(r.image[i : i + 1], alone.image, atol=1e-4)


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
    assert all(
        torch.allclose(a.norm(), b.norm(), rtol=1e-5) for a, b in zip(start, end, strict=True)
    )


def test_ilo_stays_in_its_balls(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    ball = Adam(0.1, project=(L1Ball(z=2.0, noise=3.0, features=5.0),))
    phase = Phase(GaussianCodes(block=1, noises=7), 10, ball, METHODS["ilo"].phases[1].loss)
    for name, radius in (("z", 2.0), ("noises", 3.0), ("start", 5.0)):
        start, end = (z_of(small, y, phase, steps, name) for steps in (0, 10))
        pairs = zip(start, end, strict=True) if name == "noises" else [(start, end)]
        for i, (first, last) in enumerate(pairs):
            if name == "start":
                first, last = first.maps, last.maps
            travelled = float((first - last).abs().sum())
            assert travelled <= radius * (1 + 1e-4)
            # the block does not use the noise map before it, and 7 maps are free
            is_moved = name != "noises" or 1 <= i < 7
            assert (travelled > 0.5 * radius) == is_moved


def test_pti_keeps_pivot_and_dgp_other_weights(small):
    y = small.synthesize(small.some_w(1)[0]).clamp(0, 1)
    phases = METHODS["pti"].phases
    pivot, tuned = (
        invert.restore(
            y, parse("clamp"), small, Method(tuple(replace(p, steps=4) for p in some)), 3, **QUICK
        )
        for some in (phases[:1], phases)
    )
    assert torch.equal(pivot.latent, tuned.latent) and pivot.point.weights is None
    weights = tuned.point.weights
    names = {name for name, _ in small.named_parameters()}
    assert set(weights) == {name for name in names if name.startswith("synthesis.")}
    assert tuned.point.noises is None  # the noise maps of the pivot are not used

    phase = replace(METHODS["dgp"].phases[0], steps=4)
    r = invert.restore(y, parse("clamp"), small, Method((phase,)), 3, **QUICK)
    weights = r.point.weights
    assert {name.split(".")[1] for name in weights} == {"b4", "b8"} and not any(
        "torgb" in name for name in weights
    )
    assert torch.allclose(r.point.image(small).clamp(0, 1), r.image)


def test_methods_ask_for_what_they_need(small):
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 3 * 32 * 32), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 32, 32))
    )
    G = invert.wrap(module, z_dim=4)
    y = torch.rand(1, 3, 32, 32, generator=rng())
    for name in SEARCHES:
        if name.startswith("dgp"):
            assert invert.restore(y, parse("clamp"), G, quick(name), steps=3, **QUICK).finite.all()
        else:
            with pytest.raises(ValueError, match="this generator has no W"):
                invert.restore(y, parse("clamp"), G, name, **QUICK)
    with pytest.raises(ValueError, match="layer 4.*blocks 1 to 3, not 4"):
        phase = Phase(GaussianCodes(block=4), 1, Adam(0.1), (MSE(),))
        invert.restore(y, parse("clamp"), small, Method((phase,)), **QUICK)


def test_class_label_is_given_or_recognised():
    G = lively(c_dim=3)
    y = torch.rand(2, 3, 32, 32, generator=rng())
    args = dict(observation=y, operator=parse("clamp"), prior=G, method="lbrgm", **QUICK)
    args["method"] = replace(METHODS["lbrgm"], start=BestOf(3, Lpips(enlarge=True)))
    expected = invert.restore(**args, class_label=[2, 0], steps=2)
    inputs = []

    def classifier(x):
        inputs.append(x.clone())
        x.zero_()  # it may use the memory of its input
        return torch.tensor([2, 0])

    recognised = invert.restore(**args, class_label=classifier, steps=2)
    assert torch.equal(recognised.image, expected.image) and torch.equal(inputs[0], y)
    assert not torch.equal(expected.image, invert.restore(**args, class_label=1, steps=2).image)
    with pytest.raises(ValueError, match="class_label=True must be integers from 0 to"):
        invert.restore(**args, class_label=True, steps=2)
    with pytest.raises(ValueError, match="class_label is missing"):
        invert.restore(**args)
    for name in ("robust", "pulse"):  # they use the mean of W of the class
        args["method"] = quick(name)
        zero, one = (invert.restore(**args, class_label=label, steps=0).image for label in (0, 1))
        assert not torch.allclose(zero, one, atol=1e-3)
    mean = G.mapping(torch.randn(40_000, 5, generator=rng(3)), 2).mean(0)
    problem = invert.problem.Problem(
        y, parse("clamp"), G, (0, 1), label=F.one_hot(torch.tensor([2, 0]), 3).float()
    )
    assert torch.allclose(problem.center[0], mean, atol=0.05)


def test_robust_leaves_out_w_plus_plus_without_filters():
    """StyleGAN3 and StyleGAN-XL have no W++: the search ends in W+, and says so."""
    G = conditional_xl()
    side = G.resolution
    y = torch.rand(1, 3, side, side, generator=rng())
    r = invert.restore(y, parse("clamp"), G, "robust", steps=3, class_label=1, **QUICK)
    assert list(r.phase_images) == ["W", "W+"] and len(r.history) == 2
    assert r.latent.shape == (1, G.num_ws, G.w_dim) and r.finite.all()
    assert any("W++ was left out: this generator has no W++" in note for note in r.notes)


def test_phases_that_all_lack_their_space_are_refused():
    G = conditional_xl()
    y = torch.rand(1, 3, G.resolution, G.resolution, generator=rng())
    method = Method((Phase("W++", 1, NGD(0.1), (MSE(),), optional=True),))
    with pytest.raises(ValueError, match=r"needs W\+\+: this generator has no W\+\+"):
        invert.restore(y, parse("clamp"), G, method, class_label=1, **QUICK)


@pytest.mark.parametrize("name", SEARCHES)
def test_methods_name_source_and_departures(name):
    method = METHODS[name]
    assert method.source and len(method.departures) > 20
    assert "  " not in method.departures and not method.departures.endswith(";")


@pytest.mark.parametrize("name", SEARCHES)
def test_knobs_change_methods_but_no_first_term(name):
    method = METHODS[name]
    assert method.tuned({}) == method and method.knobs[0].name == "lr"
    assert method.phases[0].loss[0].name not in {knob.name for knob in method.knobs}
    for knob in method.knobs:
        turned = method.tuned({knob.name: 2.0})
        for before, after in zip(method.phases, turned.phases, strict=True):
            factor = 2 if knob.name == "lr" else 1
            assert after.optimiser.lr == pytest.approx(factor * before.optimiser.lr)
            weights = [2 * t.weight if t.name == knob.name else t.weight for t in before.loss]
            assert [t.weight for t in after.loss] == pytest.approx(weights)
        assert turned != method and knob.low < 1 < knob.high
    with pytest.raises(ValueError, match="no 'depth' to tune"):
        method.tuned({"depth": 2.0})


@dataclass(frozen=True)
class OfTheBatch(Term):
    def value(self, view, problem):
        return (view.prediction - problem.observation).abs().mean()


def test_term_that_mixes_a_batch_is_named(small):
    method = Method((Phase("W", 2, NGD(0.1), (OfTheBatch(),)),))
    with pytest.raises(ValueError, match=r"term 'own' gives \[\]; give a number for each image"):
        invert.restore(torch.rand(2, 3, 32, 32), parse("clamp"), small, method)


def test_custom_optimiser_needs_only_update(small):
    class Descent(Optimiser):
        def update(self, grads, state, values, conditions):
            rate = conditions.scale.length
            return {k: v - rate * grads[k] for k, v in values.items()}, state

    method = Method((Phase("W", 4, Descent(), (MSE(),)),))
    r = invert.restore(
        torch.zeros(1, 3, 32, 32), parse("clamp"), small, method, steps=2, lr_scale=0.1
    )
    assert r.history.shape == (2, 1) and r.history[1] < r.history[0]
    with pytest.raises(
        ValueError, match="Descent has no learning rate that is known; define `times`"
    ):
        method.tuned({"lr": 2.0})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(loss=MSE()), "must be a tuple of terms"),
        (dict(loss=("mse",)), "must be a tuple of terms"),
        (dict(loss=()), "loss has no terms"),
        (dict(optimiser=0.1), "optimiser=0.1 must be an Optimiser"),
    ],
)
def test_phase_errors_name_the_argument(change, words):
    with pytest.raises(ValueError, match=words):
        Phase(**dict(space="W", steps=1, optimiser=NGD(0.1), loss=(MSE(),)) | change)
