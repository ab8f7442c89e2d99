import math
from types import SimpleNamespace

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import invert
from degrade import Mask, parse
from degrade.rng import Rng
from invert import METHODS, Phase, perceptual
from invert.loss import L1, Lpips, View
from invert.methods import MULTISCALE, method_of
from invert.optim import NGD, ngd
from tests.conftest import picture, rng

CHEAP = {"perceptual": "alex"}


class Recorder:
    """Stands for the perceptual network and keeps the images that it is shown."""

    def __init__(self, min_side=17):
        self.min_side, self.shown = min_side, []

    def features(self, x):
        self.shown.append(x)
        return x

    def distance(self, a, b):
        return (a - b).square().mean((1, 2, 3))


def loss_of(terms, y, visible=None, network=None):
    """(prediction, rng) → the weighted sum of some terms against y."""
    network = network or perceptual.load()
    problem = SimpleNamespace(
        observation=y, visible=visible, network=lambda net=None: network, batch=len(y), device=y.device
    )
    measures = [(term.weight, term.prepare(problem)) for term in terms]
    return lambda x, rng: sum(weight * measure(View(x, x, None, {}, rng)) for weight, measure in measures)


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


def test_robust_is_the_published_schedule():
    published = (("W", 0.08), ("W+", 0.02), ("W++", 0.005))
    terms = (Lpips(levels=6, fill=(0.25, 0.5)), L1(0.1, coarsest=True))
    assert METHODS["robust"].phases == tuple(Phase(space, 150, NGD(lr), terms) for space, lr in published)


@given(st.integers(0, 1000))
def test_shortened_phases_add_up_and_keep_their_share(steps):
    shortened = [p.steps for p in method_of("robust", steps).phases]
    assert sum(shortened) == steps and max(shortened) - min(shortened) <= 1


@pytest.mark.parametrize("net, side, levels, l1_side", [
    ("vgg", 128, 3, 16), ("vgg", 32, 1, 16), ("vgg", 16, 0, 16), ("vgg", 8, 0, 8), ("vgg", 2048, 6, 32),
    ("alex", 128, 3, 16), ("alex", 31, 0, 31), ("vgg", 31, 1, 15),
])  # fmt: skip
def test_scales_are_the_published_ones(net, side, levels, l1_side):
    network = Recorder(perceptual.load(net).min_side)
    x, y = (torch.rand(1, 3, side, side, generator=rng(seed)) for seed in (0, 1))
    loss_of((Lpips(levels=6),), y, network=network)
    assert [image.shape[-1] for image in network.shown] == [side // 2**i for i in range(levels)]
    coarse = [F.avg_pool2d(image, side // l1_side) for image in (x, y)]
    found = loss_of((L1(coarsest=True),), y, network=network)(x, None)
    assert torch.allclose(found, (coarse[0] - coarse[1]).abs().mean(), rtol=1e-4)


def test_the_text_s_scales_are_halved_once_and_go_down_to_16():
    network = Recorder()
    text = METHODS["robust-text"].phases[0].loss
    y = torch.rand(1, 3, 128, 128, generator=rng())
    x = torch.zeros(1, 3, 128, 128)
    loss = loss_of(text, y, network=network)
    assert [image.shape[-1] for image in network.shown] == [64, 32, 16]
    lpips = sum(F.avg_pool2d(y, k).square().mean() for k in (2, 4, 8))
    assert torch.allclose(loss(x, Rng.of(rng(), 1)), lpips + 0.1 * y.abs().mean(), rtol=1e-5)


def test_the_loss_is_a_sum_of_lpips_over_scales_and_l1_at_the_last():
    x, y = picture(1)[..., :64, :64], picture(2)[..., :64, :64]
    expected = perceptual.lpips(x, y) + perceptual.lpips(F.avg_pool2d(x, 2), F.avg_pool2d(y, 2))
    expected = expected + 0.1 * (F.avg_pool2d(x, 4) - F.avg_pool2d(y, 4)).abs().mean()
    assert torch.allclose(loss_of(MULTISCALE, y)(x, Rng.of(rng(), 1)), expected, rtol=1e-5)


def test_hidden_regions_do_not_enter_the_perceptual_part():
    """With everything hidden both images turn into the same noise; L1 alone sees a difference."""
    x, y = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    loss = loss_of(MULTISCALE, y, torch.zeros(1, 1, 64, 64))
    assert loss(x, Rng.of(rng(), 1)) == 0
    shown = loss_of(MULTISCALE, y, torch.ones(1, 1, 64, 64))(picture(1)[..., :64, :64], Rng.of(rng(), 1))
    plain = loss_of(MULTISCALE, y)(picture(1)[..., :64, :64], Rng.of(rng(), 1))
    assert torch.allclose(shown, plain)


def test_hidden_regions_are_filled_with_fresh_noise_at_every_scale():
    """N(0.25, 0.5²), as strong as the region is hidden, equal in both images and new at every step."""
    visible = torch.ones(1, 1, 128, 128)
    visible[..., 33:] = 0  # an odd edge, so that a column is hidden in part at the coarser scales
    x, y = (level * visible.expand(1, 3, 128, 128) for level in (0.5, 0.75))
    network, stream = Recorder(), rng()
    loss, steps = loss_of(MULTISCALE, y, visible, network), []
    for _ in range(2):
        network.shown.clear()
        loss(x, Rng.of(stream, 1))
        steps.append(list(zip(network.shown[0::2], network.shown[1::2], strict=True)))
    for scale, pairs in enumerate(zip(*steps, strict=True)):
        hidden = F.avg_pool2d(1 - visible, 2**scale).expand(1, 3, -1, -1)
        fills = []
        for pair in pairs:
            prediction, observation = sorted(pair, key=lambda image: image[0, 0, 0, 0])
            fills.append(prediction - F.avg_pool2d(x, 2**scale))
            assert torch.allclose(fills[-1], observation - F.avg_pool2d(y, 2**scale), atol=1e-6)
        assert not torch.equal(*fills) and (fills[0][hidden == 0] == 0).all()
        for part in (hidden == 1, (hidden > 0) & (hidden < 1)):
            z = ((fills[0] / hidden - 0.25) / 0.5)[part]  # N(0, 1), to four standard errors
            assert len(z) == 0 or (abs(z.mean()) < 4 / len(z) ** 0.5 and abs(z.std() - 1) < 4 / (2 * len(z)) ** 0.5)
    assert len(steps[0]) == 3


def test_a_portrait_is_found_again(avatars):
    """The observation is the generator's own; the solve starts far and ends near it."""
    w = avatars.mapping(torch.randn(1, 128, generator=rng(4)))
    clean = avatars.synthesize(w).clamp(0, 1)
    f = parse("downsample:4 >> jpeg:30").approx()
    r = invert.restore(f(clean), f, avatars, steps=90, **CHEAP)
    start = perceptual.lpips(avatars.synthesize(avatars.w_avg[None]), clean)
    assert perceptual.lpips(r.image, clean) < 0.6 * start
    assert r.history.shape == (90, 1) and r.history[-5:].mean() < 0.7 * r.history[0].mean()
    assert r.latent.shape == (1, 12, 192, 256) and set(r.phase_images) == {"W", "W+", "W++"}
    assert r.image.min() >= 0 and r.image.max() <= 1


def test_codes_travel_no_further_than_the_schedule_allows(avatars):
    y = picture(0)
    r = invert.restore(y, parse("clamp"), avatars, steps=12, lr_scale=0.5, **CHEAP)
    bound = 0.5 * 4 * (0.08 + 0.02 + 0.005)
    assert (r.latent - avatars.w_avg).norm(dim=-1).max() <= bound * (1 + 1e-5)


def test_learning_rates_follow_the_spread_of_w(avatars):
    y = picture(0)
    own = invert.restore(y, parse("clamp"), avatars, steps=2, **CHEAP)
    scaled = invert.restore(y, parse("clamp"), avatars, steps=2, lr_scale=avatars.w_spread / 9.5, **CHEAP)
    assert torch.equal(own.latent, scaled.latent)


def test_one_seed_one_result_another_seed_another(avatars):
    f = parse("downsample:2 >> poisson:24 >> strokes:2,seed=1").approx()
    y = f(picture(0), rng())
    a, b, c = (invert.restore(y, f, avatars, seed=s, steps=4, **CHEAP) for s in (1, 1, 2))
    assert torch.equal(a.image, b.image) and torch.equal(a.history, b.history)
    assert not torch.equal(a.history, c.history)


def test_a_batch_gives_each_image_what_it_gets_alone(avatars, monkeypatch):
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)  # float tolerance needs floats
    f = parse("downsample:2 >> poisson:48 >> deadpixels:0.05 >> jpeg:30 >> strokes:2")
    x = torch.cat([picture(i) for i in range(3)])
    together = f.sample(x.shape, [rng(i) for i in range(3)])
    y = together(x, rng(1))
    r = invert.restore(y, together.approx(), avatars, seed=[3, 4, 5], steps=5, **CHEAP)
    for i in range(3):
        alone = f.sample(x[i : i + 1].shape, rng(i))
        one = invert.restore(y[i : i + 1], alone.approx(), avatars, seed=3 + i, steps=5, **CHEAP)
        assert torch.allclose(r.history[:, i], one.history[:, 0], rtol=1e-3)
        assert torch.allclose(r.image[i : i + 1], one.image, atol=2e-3)


def test_a_full_solve_in_a_batch_restores_as_well_as_alone(avatars):
    """Normalised steps through rounding are chaotic, so the images drift apart; their quality does not."""
    f = parse("downsample:2 >> jpeg:30")
    x = torch.cat([picture(0), picture(1)])
    together = invert.restore(f(x), f.approx(), avatars, seed=3, **CHEAP)
    alone = invert.restore(f(x)[1:], f.approx(), avatars, seed=3, **CHEAP)
    reached = [perceptual.lpips(image, x[1:], "alex") for image in (together.image[1:], alone.image)]
    assert abs(reached[0] - reached[1]) < 5e-3


def test_one_seed_gives_every_row_the_same_stream(avatars):
    f = parse("downsample:4 >> gaussian:0.2").approx()
    y = f(torch.cat([picture(0)] * 2), [rng(), rng()])
    r = invert.restore(y, f, avatars, seed=7, steps=3, **CHEAP)
    assert torch.allclose(r.history[:, 0], r.history[:, 1], rtol=1e-4)


def test_the_callback_sees_every_step(avatars):
    seen = []
    r = invert.restore(picture(0), parse("clamp"), avatars, steps=6, callback=seen.append, **CHEAP)
    assert [s.step for s in seen] == [1, 2, 3, 4, 5, 6] and {s.total for s in seen} == {6}
    assert [s.phase.name for s in seen] == ["W", "W", "W+", "W+", "W++", "W++"]
    assert torch.equal(torch.stack([s.loss for s in seen]), r.history)
    assert seen[0].latent.shape == (1, 256) and seen[-1].latent.shape == (1, 12, 192, 256)
    for space, i in [("W", 1), ("W+", 3), ("W++", 5)]:
        assert torch.equal(r.phase_images[space], avatars.synthesize(seen[i].latent).clamp(0, 1))
    assert torch.equal(r.phase_images["W++"], r.image) and torch.equal(seen[5].latent, r.latent)


def test_a_caller_without_gradients_gets_the_same(avatars):
    plain = invert.restore(picture(0), parse("clamp"), avatars, steps=2, seed=5, **CHEAP)
    with torch.no_grad():
        r = invert.restore(picture(0), parse("clamp"), avatars, steps=2, seed=numpy.int64(5), **CHEAP)
    assert torch.equal(r.latent, plain.latent) and not r.latent.requires_grad and not r.image.requires_grad


def test_no_steps_give_the_mean_image(avatars):
    r = invert.restore(picture(0), parse("clamp"), avatars, steps=0, **CHEAP)
    assert torch.allclose(r.image, avatars.synthesize(avatars.w_avg[None]).clamp(0, 1), atol=1e-5)
    assert r.history.shape == (0, 1)


@pytest.mark.parametrize("change, words", [
    (dict(observation=torch.rand(1, 3, 64, 64)), "128×128"),
    (dict(observation=torch.rand(1, 1, 128, 128)), "but clamp turns"),
    (dict(observation=torch.full((1, 3, 128, 128), math.nan)), "NaN"),
    (dict(method="magic"), "method='magic'"),
    (dict(perceptual="resnet"), "resnet"),
    (dict(steps=-1), "steps=-1"),
    (dict(seed=[1, 2]), "2 values for 1 images"),
    (dict(lr_scale=math.nan), "lr_scale=nan"),
    (dict(lr_scale=-1.0), "lr_scale=-1.0"),
    (dict(operator=parse("strokes:3")), "sample"),
    (dict(operator=Mask(torch.ones(1, 1, 8, 8))), "give one of their size"),
])  # fmt: skip
def test_mistakes_are_named(avatars, change, words):
    args = dict(observation=picture(0), operator=parse("clamp"), generator=avatars, steps=1, **CHEAP) | change
    with pytest.raises(ValueError, match=words):
        invert.restore(**args)
