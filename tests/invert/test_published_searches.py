"""The published searches: their constants, and their losses against the authors' formulas."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import invert
from degrade import parse
from invert import METHODS, Method, perceptual
from invert.latent import Codes, GaussianCodes, Weights
from invert.loss import L1, MSE, Lpips
from invert.optim import Adam, CycleWithDrop, Ramp, Sphere, Whiten
from invert.prior import Collinear, Locality, OffsetNorm
from invert.start import BestOf, Centroids
from invert.stopping import Below, Patience
from tests.conftest import rng

from .solving import QUICK, lively, quick

TABLE = {  # METHODS.md, sections 3 to 10: steps, optimiser, and every term with its weight
    "adam-id": [
        (150, Adam(lr), [(1, "Lpips"), (0.1, "L1"), (0.1, "SamePerson")])
        for lr in (0.05, 0.01, 0.002)
    ],
    "pulse": [
        (
            250,
            Adam(0.8, schedule=CycleWithDrop(), project=(Sphere(),)),
            [(100, "MSE"), (0.05, "Geodesic")],
        )
    ],
    "pulse-original": [
        (
            100,
            Adam(0.4, schedule=CycleWithDrop(), project=(Sphere(),)),
            [(100, "MSE"), (0.05, "Geodesic")],
        )
    ],
    "brgm": [
        (501, Adam(0.1), [(1e-3, "MSE"), (1.25, "Lpips"), (100, "Near"), (32.4, "Collinear")])
    ],
    "brgm-original": [
        (
            5000,
            Adam(0.1, schedule=Ramp(0.25, 0.05)),
            [(1e-3, "MSE"), (1, "Lpips"), (100, "Near"), (3, "Collinear")],
        )
    ],
    "lbrgm": [(500, Adam(0.05), [(2e-4, "MSE"), (2.5, "Lpips"), (30, "Mapped"), (0.4, "Normal")])],
    "lbrgm-original": [
        (2000, Adam(0.1), [(2e-4, "MSE"), (2.5, "Lpips"), (30, "Mapped"), (0.4, "Normal")])
    ],
    "ilo": [
        (
            n,
            Adam(0.1, schedule=Ramp(0.75, 0.05), project=(Sphere(),)),
            [(1, "MSE"), (1, "Lpips"), (0.01, "Geodesic")],
        )
        for n in (50, 50, 25, 25)
    ],
    "pti": [
        (
            450,
            Adam(0.01, schedule=Ramp(0.25, 0.05), project=(Whiten(),)),
            [(1, "Lpips"), (1e5, "WhiteNoise")],
        ),
        (350, Adam(3e-4), [(1, "MSE"), (1, "Lpips"), (1, "Locality")]),
    ],
    "pti-original": [
        (
            450,
            Adam(0.01, schedule=Ramp(0.25, 0.05), project=(Whiten(),)),
            [(1, "Lpips"), (1e5, "WhiteNoise")],
        ),
        (350, Adam(3e-4), [(1, "MSE"), (1, "Lpips")]),
    ],
    "cri": [
        (
            500,
            Adam(0.1, schedule=Ramp(0.25, 0.05)),
            [(1, "Lpips"), (10, "MSE"), (0.5, "OffsetNorm")],
        ),
        (20, Adam(3e-4), [(1, "Lpips"), (1, "MSE"), (1, "Locality")]),
    ],
    "cri-xl": [
        (
            1000,
            Adam(0.1, schedule=Ramp(0.25, 0.05)),
            [(1, "Lpips"), (10, "MSE"), (0.5, "OffsetNorm")],
        ),
        (350, Adam(3e-4), [(1, "Lpips"), (1, "MSE"), (1, "Locality")]),
    ],
    "dgp": [
        (
            200,
            Adam(lr, betas=(0, 0.999), eps=1e-8, z_lr=z),
            [(1, "Deep"), (1, "MSE"), (0.01, "Normal")],
        )
        for lr, z in ((5e-5, 2e-3), (5e-5, 1e-3), (2e-5, 2e-5), (1e-5, 1e-5), (1e-5, 1e-5))
    ],
    "dgp-colorization": [
        (steps, Adam(lr, betas=(0, 0.999), eps=1e-8, z_lr=z), [(1, "Deep"), (0.01, "Normal")])
        for steps, lr, z in (
            (200, 5e-5, 2e-3),
            (200, 5e-5, 1e-3),
            (300, 5e-5, 5e-4),
            (400, 5e-5, 5e-5),
            (300, 2e-5, 2e-5),
        )
    ],
    "dgp-inpainting": [
        (
            200,
            Adam(lr, betas=(0, 0.999), eps=1e-8, z_lr=z),
            [(deep, "Deep"), (mse, "MSE"), (0.01, "Normal")],
        )
        for lr, z, deep, mse in (
            (5e-5, 2e-3, 1, 1),
            (5e-5, 1e-3, 1, 1),
            (2e-5, 2e-5, 1, 1),
            (2e-5, 2e-5, 1, 1),
            (1e-5, 1e-5, 0.5, 10),
        )
    ],
}


@pytest.mark.parametrize("name", TABLE)
def test_methods_have_the_published_constants(name):
    phases = []
    for phase in METHODS[name].phases:
        terms = [(pytest.approx(term.weight), type(term).__name__) for term in phase.loss]
        phases.append((phase.steps, phase.optimiser, terms))
    assert phases == TABLE[name]


def test_pulse_and_ilo_have_further_constants():
    pulse, ilo, text = (METHODS[name].phases for name in ("pulse", "ilo", "ilo-text"))
    assert pulse[0].space == GaussianCodes(0, 5, quiet_end=True)
    assert pulse[0].loss[0] == MSE(100, unit=1, floor=2e-3)
    assert ilo[0].loss[0].unit == 2
    assert [phase.keep for phase in ilo] == [None, None, None, "mse"]  # of the last round alone
    assert {phase.stop for phase in text} == {Patience(15)}
    assert [phase.space for phase in text] == [phase.space for phase in ilo]


@pytest.mark.parametrize(
    "side, blocks", [(1024, [0, 1, 2, 3]), (512, [0, 0, 1, 2]), (256, [0, 0, 0, 1]), (128, [0] * 4)]
)
def test_ilo_counts_its_rounds_from_the_image(side, blocks):
    """At 1024² as published: 4², 8² and 16² features, and 5 + 2k noise maps in round k."""
    generator = lively()
    generator.blocks = side.bit_length() - 2  # one for each of 4², 8², …
    spaces = [phase.space for phase in METHODS["ilo"].phases]
    assert [space.block_in(generator) for space in spaces] == blocks
    if side == 1024:
        counts = []
        for space, block in zip(spaces, blocks, strict=True):
            counts.append(space.noises + space.noises_per_block * block)
        assert counts == [5 + 2 * k for k in range(4)]


def test_ilo_frees_the_features_at_its_reduction(small):
    """8² features of a generator of 32² images are 4 times smaller, as those of block 2 are."""
    y = torch.rand(1, 3, 32, 32, generator=rng())
    ends = []
    for space in (GaussianCodes(reduction=4, noises_per_block=1), GaussianCodes(2, noises=7)):
        phase = replace(METHODS["ilo"].phases[1], space=space)
        r = invert.restore(y, parse("clamp"), small, Method((phase,)), 3, steps=3, **QUICK)
        assert r.point.start.maps.shape[2:] == (8, 8)
        ends.append(r.image)
    assert torch.equal(*ends)


def test_pti_and_cri_have_further_constants():
    pti, original, cri_ = (METHODS[name].phases for name in ("pti", "pti-original", "cri"))
    assert pti[0].space == Codes("W", jitter=0.05, noises=True)
    assert pti[1].stop is None and original[1].stop == Below("lpips", 0.06)
    assert pti[1].loss[1].net == "alex" and pti[1].loss[2] == Locality(1, 0.1, 0.1, "alex", 30, 0.5)
    assert cri_[1].loss[2] == Locality(1, 0, 10, None, 30, 0.5)
    assert cri_[0].loss[1].unit == 255 and cri_[0].loss[2] == OffsetNorm(0.5, order=2)
    assert METHODS["cri"].start == Centroids(10, through_operator=False)


def test_brgm_and_lbrgm_have_further_constants():
    assert METHODS["brgm"].phases[0].loss[3] == Collinear(32.4, beyond_x16=10)
    at_256 = Lpips(2.5, at=256)
    assert METHODS["lbrgm"].start == BestOf(200, at_256, 0.8)
    assert METHODS["lbrgm-original"].start == BestOf(100, at_256, 1.0)


@pytest.mark.parametrize(
    "name, blocks, features, deviation",
    [
        ("dgp", [2, 3, 4, 5, 7], 8, 0.3),
        ("dgp-colorization", [2, 3, 4, 5, 6], 7, 0.5),
        ("dgp-inpainting", [7] * 5, 8, 0.3),
    ],
)
def test_dgp_has_further_constants(name, blocks, features, deviation):
    method = METHODS[name]
    assert [phase.space for phase in method.phases] == [Weights(n, z=True) for n in blocks]
    assert {phase.loss[0].last for phase in method.phases} == {features}
    start = method.start
    assert (start.count, start.by.last, start.deviation) == (500, 3, deviation)


def test_adam_id_and_robust_text_have_further_constants():
    assert {phase.stop for phase in METHODS["adam-id"].phases} == {Patience(15)}
    assert METHODS["robust-text"].phases[0].loss == (
        Lpips(levels=6, first=1, shortest=16, fill=(0.5, 1.0)),
        L1(0.1),
    )


def recorded(G, f, name, monkeypatch, steps=3):
    """Observation, steps and result of a short run in float32, so that formulas can be compared."""
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    y = f(G.synthesize(G.some_w(4)[0][3:]).clamp(0, 1))
    method = quick(name)
    first = replace(method.phases[0], steps=steps, stop=None)
    method = replace(method, phases=(first,))
    reported = []
    r = invert.restore(y, f, G, method, 5, callback=reported.append, **QUICK)
    return y, reported, r


@pytest.mark.parametrize("side, weight", [(2, 0.1), (1, 1.0)])
def test_brgm_loss_equals_its_authors_formula(small, side, weight, monkeypatch):
    """In [0, 255] units, LPIPS at 256², and collinearity that counts 10 times beyond ×16."""
    f = parse(f"pool:{32 // side}")
    y, steps, _ = recorded(small, f, "brgm", monkeypatch)
    for before, step in zip(steps, steps[1:], strict=False):
        pixels = 0.001 * (255 * (step.prediction - y)).square().mean()
        large = [F.interpolate(x, (256, 256), mode="area") for x in (step.prediction, y)]
        lpips = 1.25 * perceptual.lpips(*large, "alex")
        w = before.latent[0]  # of the image that this step measures
        prior = 100 * ((w - small.w_avg) / small.w_std).square().mean()
        pairs = [1 - F.cosine_similarity(a, b, dim=0) for a in w for b in w]
        collinearity = weight * 18 * 18 * torch.stack(pairs).abs().mean()
        expected = pixels + lpips + prior + collinearity
        assert torch.allclose(step.loss, expected, rtol=1e-3)


def test_cri_loss_equals_its_authors_formula(small, monkeypatch):
    """LPIPS + 10·MSE in [0, 255] units + 0.5·‖offset‖ of all layers together."""
    f = parse("downsample:2").approx()
    y, steps, r = recorded(small, f, "cri", monkeypatch, steps=6)

    def large(x):  # 16² is too small for the network
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    start = steps[0].latent  # the first step of a ramp has length 0
    for before, step in zip(steps, steps[1:], strict=False):
        lpips = perceptual.lpips(large(step.prediction), large(y), "alex")
        mse = (255 * (step.prediction - y)).square().mean()
        offset = (before.latent - start).square().sum().sqrt()
        assert torch.allclose(step.loss, lpips + 10 * mse + 0.5 * offset, rtol=1e-4, atol=1e-4)
    assert (r.latent - start).abs().max() > 0.01


def test_dgp_loss_equals_its_authors_formula(small, monkeypatch):
    """Small targets are enlarged bilinearly, then compared in [-1, 1] units and by features."""
    f = parse("downsample:2").approx()
    network = perceptual.load("alex")
    y, steps, _ = recorded(small, f, "dgp", monkeypatch)

    def enlarged(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    for step in steps:
        x, target = enlarged(step.prediction), enlarged(y)
        assert torch.allclose(step.terms["mse"], (2 * x - 2 * target).square().mean(), rtol=1e-4)
        maps = zip(network.maps(x), network.maps(target), strict=True)
        deep = sum((a - b).abs().mean() for a, b in maps)
        assert torch.allclose(step.terms["deep"], deep, rtol=1e-3)


def test_dgp_chooses_z_by_the_last_three_features(small, monkeypatch):
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(4)[0][3:]).clamp(0, 1))
    start = replace(METHODS["dgp"].start, count=20)
    problem = invert.problem.Problem(y, f, small, (1,), "alex")
    (draws,) = problem.normal("candidates", 20, small.z_dim)
    network = perceptual.load("alex")
    target = network.maps(F.interpolate(y, scale_factor=2, mode="bilinear"))[-3:]
    scores = []
    for z in 0.3 * draws:
        x = F.interpolate(f(small(small.mapping(z[None]))), scale_factor=2, mode="bilinear")
        pairs = zip(network.maps(x)[-3:], target, strict=True)
        scores.append(sum((a - b).abs().mean() for a, b in pairs))
    best = torch.stack(scores).argmin()
    assert torch.allclose(start(problem).z[0], 0.3 * draws[best])
