"""`restore` with `robust`, from outside."""

import math
from dataclasses import replace

import numpy
import pytest
import torch

import invert
from degrade import Mask, parse
from invert import METHODS, Method, Phase, perceptual
from invert.loss import L1, Lpips
from invert.optim import NGD
from tests.conftest import picture, rng

from .solving import QUICK


def test_robust_is_the_published_schedule():
    published = (("W", 0.08), ("W+", 0.02), ("W++", 0.005))
    terms = (Lpips(levels=6, fill=(0.25, 0.5)), L1(0.1, coarsest=True))
    assert METHODS["robust"].phases == tuple(
        Phase(space, 150, NGD(lr), terms) for space, lr in published
    )


def test_a_portrait_is_found_again(avatars):
    """The observation is the generator's own; the solve starts far and ends near it."""
    w = avatars.mapping(torch.randn(1, 128, generator=rng(4)))
    clean = avatars.synthesize(w).clamp(0, 1)
    f = parse("downsample:4 >> jpeg:30").approx()
    r = invert.restore(f(clean), f, avatars, steps=90, **QUICK)
    start = perceptual.lpips(avatars.synthesize(avatars.w_avg[None]), clean)
    assert perceptual.lpips(r.image, clean) < 0.6 * start
    assert r.history.shape == (90, 1) and r.history[-5:].mean() < 0.7 * r.history[0].mean()
    assert r.latent.shape == (1, 12, 192, 256) and set(r.phase_images) == {"W", "W+", "W++"}
    assert r.image.min() >= 0 and r.image.max() <= 1


@pytest.mark.parametrize("steps", [3, 12])
def test_codes_travel_no_further_than_the_published_schedule_allows(avatars, steps):
    y = picture(0)
    r = invert.restore(y, parse("clamp"), avatars, steps=steps, lr_scale=0.5, **QUICK)
    unit = 0.5 * (0.08 + 0.02 + 0.005)
    travelled = (r.latent - avatars.w_avg).norm(dim=-1).max()
    assert (
        unit * steps < travelled <= 150 * unit * (1 + 1e-5)
    )  # at the published rates: unit * steps / 3


def test_learning_rates_follow_the_spread_of_w(avatars):
    y = picture(0)
    own = invert.restore(y, parse("clamp"), avatars, steps=2, **QUICK)
    scaled = invert.restore(
        y, parse("clamp"), avatars, steps=2, lr_scale=avatars.w_spread / 9.5, **QUICK
    )
    assert torch.equal(own.latent, scaled.latent)


def test_one_seed_one_result_another_seed_another(avatars):
    f = parse("downsample:2 >> poisson:24 >> strokes:2,seed=1").approx()
    y = f(picture(0), rng())
    a, b, c = (invert.restore(y, f, avatars, seed=s, steps=4, **QUICK) for s in (1, 1, 2))
    assert torch.equal(a.image, b.image) and torch.equal(a.history, b.history)
    assert not torch.equal(a.history, c.history)


def test_a_batch_gives_each_image_what_it_gets_alone(avatars, monkeypatch):
    monkeypatch.setattr(
        perceptual, "fastest_dtype", lambda device: torch.float32
    )  # float tolerance needs floats
    f = parse("downsample:2 >> poisson:48 >> deadpixels:0.05 >> jpeg:30 >> strokes:2")
    x = torch.cat([picture(i) for i in range(3)])
    together = f.sample(x.shape, [rng(i) for i in range(3)])
    y = together(x, rng(1))
    method = Method(
        tuple(replace(phase, steps=2) for phase in METHODS["robust"].phases)
    )  # at its own rates
    r = invert.restore(y, together.approx(), avatars, method, seed=[3, 4, 5], **QUICK)
    for i in range(3):
        alone = f.sample(x[i : i + 1].shape, rng(i))
        one = invert.restore(y[i : i + 1], alone.approx(), avatars, method, seed=3 + i, **QUICK)
        assert torch.allclose(r.history[:, i], one.history[:, 0], rtol=1e-3)
        assert torch.allclose(r.image[i : i + 1], one.image, atol=2e-3)


def test_a_full_solve_in_a_batch_restores_as_well_as_alone(avatars):
    """Normalised steps through rounding are chaotic, so the images drift apart; their quality does not."""
    f = parse("downsample:2 >> jpeg:30")
    x = torch.cat([picture(0), picture(1)])
    together = invert.restore(f(x), f.approx(), avatars, seed=3, **QUICK)
    alone = invert.restore(f(x)[1:], f.approx(), avatars, seed=3, **QUICK)
    reached = [
        perceptual.lpips(image, x[1:], "alex") for image in (together.image[1:], alone.image)
    ]
    assert abs(reached[0] - reached[1]) < 5e-3


def test_one_seed_gives_every_row_the_same_stream(avatars):
    f = parse("downsample:4 >> gaussian:0.2").approx()
    y = f(torch.cat([picture(0)] * 2), [rng(), rng()])
    r = invert.restore(y, f, avatars, seed=7, steps=3, **QUICK)
    assert torch.allclose(r.history[:, 0], r.history[:, 1], rtol=1e-4)


def test_the_callback_sees_every_step(avatars):
    seen = []
    r = invert.restore(picture(0), parse("clamp"), avatars, steps=6, callback=seen.append, **QUICK)
    assert [s.step for s in seen] == [1, 2, 3, 4, 5, 6] and {s.total for s in seen} == {6}
    assert [s.phase.name for s in seen] == ["W", "W", "W+", "W+", "W++", "W++"]
    assert torch.equal(torch.stack([s.loss for s in seen]), r.history)
    assert seen[0].latent.shape == (1, 256) and seen[-1].latent.shape == (1, 12, 192, 256)
    for space, i in [("W", 1), ("W+", 3), ("W++", 5)]:
        assert torch.equal(r.phase_images[space], avatars.synthesize(seen[i].latent).clamp(0, 1))
    assert torch.equal(r.phase_images["W++"], r.image) and torch.equal(seen[5].latent, r.latent)


def test_a_caller_without_gradients_gets_the_same(avatars):
    plain = invert.restore(picture(0), parse("clamp"), avatars, steps=2, seed=5, **QUICK)
    with torch.no_grad():
        r = invert.restore(
            picture(0), parse("clamp"), avatars, steps=2, seed=numpy.int64(5), **QUICK
        )
    assert (
        torch.equal(r.latent, plain.latent)
        and not r.latent.requires_grad
        and not r.image.requires_grad
    )


def test_no_steps_give_the_mean_image(avatars):
    r = invert.restore(picture(0), parse("clamp"), avatars, steps=0, **QUICK)
    assert torch.allclose(r.image, avatars.synthesize(avatars.w_avg[None]).clamp(0, 1), atol=1e-5)
    assert r.history.shape == (0, 1)


@pytest.mark.parametrize(
    "change, words",
    [
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
    ],
)
def test_mistakes_are_named(avatars, change, words):
    args = (
        dict(observation=picture(0), operator=parse("clamp"), generator=avatars, steps=1, **QUICK)
        | change
    )
    with pytest.raises(ValueError, match=words):
        invert.restore(**args)
