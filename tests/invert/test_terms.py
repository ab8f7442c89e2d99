"""The terms of a loss, each against its closed form."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import invert
from degrade import parse
from degrade.rng import Rng
from invert import METHODS, perceptual
from invert.loss import FILLS, L1, MSE, Lpips, View
from invert.point import Point
from invert.prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, OffsetNorm, WhiteNoise
from invert.published_searches import MULTISCALE
from tests.conftest import picture, rng

from .solving import value


class Recorder:
    """Replaces the perceptual network, and keeps the images that it gets in `inputs`."""

    def __init__(self, min_side=17):
        self.min_side, self.inputs = min_side, []

    def maps(self, x):
        self.inputs.append(x)
        return (x,)

    def distance_to(self, maps, x):
        (map_of_other,) = maps
        (map_of_x,) = self.maps(x)
        return (map_of_x - map_of_other).square().mean((1, 2, 3))


def loss_of(terms, y, visible=None, network=None):
    """(prediction, rng, step) → the weighted sum of some terms against y."""
    network = network or perceptual.load()
    problem = SimpleNamespace(
        observation=y,
        visible=visible,
        network=lambda net=None: network,
        zeros=lambda: torch.zeros(len(y)),
    )
    measures = [(term.weight, term.prepare(problem)) for term in terms]

    def loss(prediction, rng, step=0):
        view = View(prediction, prediction, None, {}, rng, step)
        return sum(weight * measure(view) for weight, measure in measures)

    return loss


@pytest.mark.parametrize(
    "net, side, levels, l1_side",
    [
        ("vgg", 128, 3, 16),
        ("vgg", 32, 1, 16),
        ("vgg", 16, 0, 16),
        ("vgg", 8, 0, 8),
        ("vgg", 2048, 6, 32),
        ("alex", 128, 3, 16),
        ("alex", 31, 0, 31),
        ("vgg", 31, 1, 15),
    ],
)
def test_lpips_pyramid_has_the_published_scales(net, side, levels, l1_side):
    network = Recorder(perceptual.load(net).min_side)
    x, y = (torch.rand(1, 3, side, side, generator=rng(seed)) for seed in (0, 1))
    loss_of((Lpips(levels=6),), y, network=network)
    assert [image.shape[-1] for image in network.inputs] == [side // 2**i for i in range(levels)]
    coarse = [F.avg_pool2d(image, side // l1_side) for image in (x, y)]
    l1 = loss_of((L1(coarsest=True),), y, network=network)(x, None)
    assert torch.allclose(l1, (coarse[0] - coarse[1]).abs().mean(), rtol=1e-4)


def test_robust_text_scales_go_down_to_16():
    network = Recorder()
    text = METHODS["robust-text"].phases[0].loss
    y = torch.rand(1, 3, 128, 128, generator=rng())
    x = torch.zeros(1, 3, 128, 128)
    loss = loss_of(text, y, network=network)
    assert [image.shape[-1] for image in network.inputs] == [64, 32, 16]
    lpips = sum(F.avg_pool2d(y, k).square().mean() for k in (2, 4, 8))
    assert torch.allclose(loss(x, Rng.of(rng(), 1)), lpips + 0.1 * y.abs().mean(), rtol=1e-5)


def test_loss_sums_lpips_over_scales_and_l1():
    x, y = picture(1)[..., :64, :64], picture(2)[..., :64, :64]
    expected = perceptual.lpips(x, y) + perceptual.lpips(F.avg_pool2d(x, 2), F.avg_pool2d(y, 2))
    expected = expected + 0.1 * (F.avg_pool2d(x, 4) - F.avg_pool2d(y, 4)).abs().mean()
    assert torch.allclose(loss_of(MULTISCALE, y)(x, Rng.of(rng(), 1)), expected, rtol=1e-5)


def test_hidden_regions_do_not_enter_lpips():
    """With everything hidden, LPIPS compares the same noise fill in both images, so it is 0."""
    x, y = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    loss = loss_of(MULTISCALE, y, torch.zeros(1, 1, 64, 64))
    assert loss(x, Rng.of(rng(), 1)) == 0
    prediction = picture(1)[..., :64, :64]
    all_visible = loss_of(MULTISCALE, y, torch.ones(1, 1, 64, 64))
    without_mask = loss_of(MULTISCALE, y)
    expected = without_mask(prediction, Rng.of(rng(), 1))
    assert torch.allclose(all_visible(prediction, Rng.of(rng(), 1)), expected)


def test_noise_fill_is_fresh_at_every_scale():
    """N(0.25, 0.5²) times the hidden share, equal in both images and new at the next step."""
    visible = torch.ones(1, 1, 128, 128)
    visible[..., 33:] = 0  # an odd edge, so that a column is hidden in part at the coarser scales
    x, y = (level * visible.expand(1, 3, 128, 128) for level in (0.5, 0.75))
    network, stream = Recorder(), rng()
    loss, steps = loss_of(MULTISCALE, y, visible, network), []
    for step in range(2):
        network.inputs.clear()
        loss(x, Rng.of(stream, 1), step)
        steps.append(list(zip(network.inputs[:3], network.inputs[3:], strict=True)))
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
            assert len(z) == 0 or (
                abs(z.mean()) < 4 / len(z) ** 0.5 and abs(z.std() - 1) < 4 / (2 * len(z)) ** 0.5
            )
    assert len(steps[0]) == 3


@pytest.mark.parametrize(("side", "is_cached"), [(32, True), (256, True), (264, False)])
def test_noise_fill_repeats_where_cached(side, is_cached):
    """A cached fill is not drawn again, and the features of the observation are not computed."""
    visible = torch.zeros(1, 1, side, side)
    x = y = torch.zeros(1, 3, side, side)
    network = Recorder()
    loss = loss_of((Lpips(fill=(0.25, 0.5)),), y, visible, network)
    for step in range(FILLS):
        loss(x, Rng.of(rng(step), 1), step)
    observations, predictions = network.inputs[0::2], network.inputs[1::2]
    assert len(observations) == FILLS
    for observation, prediction in zip(observations, predictions, strict=True):
        assert torch.equal(observation, prediction)
    assert len({float(fill.sum()) for fill in observations}) == FILLS
    network.inputs.clear()
    loss(x, Rng.of(rng(99), 1), FILLS + 3)
    assert len(network.inputs) == (1 if is_cached else 2)
    assert torch.equal(network.inputs[-1], observations[3]) == is_cached


def test_terms_equal_their_closed_form(small):
    a, b = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 2.0, 0, 0])
    latent = torch.stack([a, b])[None]
    # two layers at a right angle: of four pairs, two have θ = π/2
    assert value(Geodesic(of="latent"), Point(latent)).item() == pytest.approx(
        4 / 8 * (math.pi / 2) ** 2 / 2, rel=1e-4
    )
    assert value(Collinear(), Point(latent)).item() == pytest.approx(0.5)
    assert value(Normal(), Point(latent, latent)).item() == pytest.approx(5 / 8)
    assert value(OffsetNorm(), variables={"offset": latent}).item() == pytest.approx(5**0.5)
    assert value(OffsetNorm(order=1), variables={"offset": latent}).item() == pytest.approx(3)
    flat, white = torch.ones(1, 1, 16, 16), torch.randn(1, 1, 256, 256, generator=rng())
    correlations = 2 * 2  # along two axes, at two scales
    of_flat = value(WhiteNoise(), Point(latent, noises=(flat,))).item()
    assert of_flat == pytest.approx(correlations)
    assert value(WhiteNoise(), Point(latent, noises=(white,))).item() < 0.01

    problem = invert.problem.Problem(torch.zeros(2, 3, 32, 32), parse("clamp"), small, (0, 1))
    ws = torch.randn(2, small.num_ws, 7, generator=rng())
    expected = ((ws - small.w_avg) ** 2).mean((1, 2)) / small.w_std**2
    assert torch.allclose(value(Near(), Point(ws), problem), expected)
    z = torch.randn(2, 5, generator=rng())
    expected = (small.mapping(z)[:, None] - ws).square().mean((1, 2))
    assert torch.allclose(value(Mapped(), Point(ws, z), problem), expected)
    x = torch.full((2, 3, 32, 32), 0.5)
    assert torch.allclose(
        value(MSE(unit=255), None, problem, prediction=x), torch.full((2,), 127.5**2)
    )
    assert torch.allclose(value(MSE(floor=1), None, problem, prediction=x), torch.ones(2))
    assert torch.allclose(value(L1(), None, problem, prediction=x), torch.full((2,), 0.5))
    enlarged = value(
        Lpips(enlarge=True, net="alex"),
        None,
        replace(problem, observation=x[..., :16, :16]),
        prediction=x[..., :16, :16] / 2,
    )
    assert torch.allclose(enlarged, perceptual.lpips(x, x / 2, "alex"), rtol=2e-2)


def test_geodesic_gradient_is_finite_at_equal_layers():
    w = torch.ones(1, 3, 4, requires_grad=True)
    value(Geodesic(of="latent"), Point(w)).sum().backward()
    assert torch.isfinite(w.grad).all()


def test_locality_is_zero_without_tuning(small):
    problem = invert.problem.Problem(torch.zeros(1, 3, 32, 32), parse("clamp"), small, (0,))
    weights = {k: v[None] for k, v in small.named_parameters() if k.startswith("synthesis.")}
    w = small.some_w(1)[0]
    assert value(Locality(), Point(w, weights=weights), problem).item() == 0
    bias = "synthesis.b32.torgb.bias"
    brighter = weights | {bias: weights[bias] + 0.1}
    only_mse = Locality(mse=1, lpips=0)
    calls = []

    def synthesize(self, code, **options):
        calls.append((code, options))
        return torch.zeros(1, 3, 32, 32)

    with pytest.MonkeyPatch.context() as spy:
        spy.setattr(type(small), "synthesize", synthesize)
        value(only_mse, Point(w, weights=weights), problem)
    for code, options in calls:  # the distance of 30 is that of all layers together
        assert code.shape == (1, small.num_ws, 7) and options == {"noise_mode": "none"}
        assert (code - w[:, None]).norm().item() == pytest.approx(30, rel=1e-4)
    mse = value(only_mse, Point(w, weights=brighter), problem).item()
    assert mse == pytest.approx(0.01, rel=1e-3)


def test_lpips_reduces_large_images_to_256(small):
    x, y = torch.rand(1, 3, 300, 300, generator=rng()), torch.rand(1, 3, 300, 300, generator=rng(1))
    problem = invert.problem.Problem(y, parse("clamp"), small, (0,), "alex")
    small_x, small_y = (F.interpolate(image, (256, 256), mode="area") for image in (x, y))
    reduced = value(Lpips(at_most=256), None, problem, prediction=x)
    assert torch.allclose(reduced, perceptual.lpips(small_x, small_y, "alex"), rtol=2e-2)
