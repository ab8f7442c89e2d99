"""Parts of a loss, each against its closed form."""

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
from invert.methods import MULTISCALE
from invert.point import Point
from invert.prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, OffsetNorm, WhiteNoise
from tests.conftest import picture, rng

from .solving import value


class Recorder:
    """Stands for the perceptual network and keeps the images that it is shown."""

    def __init__(self, min_side=17):
        self.min_side, self.shown = min_side, []

    def maps(self, x):
        self.shown.append(x)
        return (x,)

    def distance_to(self, maps, x):
        (other,), (own,) = maps, self.maps(x)
        return (own - other).square().mean((1, 2, 3))


def loss_of(terms, y, visible=None, network=None):
    """(prediction, rng, step) → the weighted sum of some terms against y."""
    network = network or perceptual.load()
    problem = SimpleNamespace(
        observation=y,
        visible=visible,
        network=lambda net=None: network,
        batch=len(y),
        device=y.device,
    )
    measures = [(term.weight, term.prepare(problem)) for term in terms]
    return lambda x, rng, step=0: sum(
        weight * measure(View(x, x, None, {}, rng, step)) for weight, measure in measures
    )


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
    assert [image.shape[-1] for image in network.shown] == [side // 2**i for i in range(levels)]
    coarse = [F.avg_pool2d(image, side // l1_side) for image in (x, y)]
    found = loss_of((L1(coarsest=True),), y, network=network)(x, None)
    assert torch.allclose(found, (coarse[0] - coarse[1]).abs().mean(), rtol=1e-4)


def test_robust_text_scales_go_down_to_16():
    network = Recorder()
    text = METHODS["robust-text"].phases[0].loss
    y = torch.rand(1, 3, 128, 128, generator=rng())
    x = torch.zeros(1, 3, 128, 128)
    loss = loss_of(text, y, network=network)
    assert [image.shape[-1] for image in network.shown] == [64, 32, 16]
    lpips = sum(F.avg_pool2d(y, k).square().mean() for k in (2, 4, 8))
    assert torch.allclose(loss(x, Rng.of(rng(), 1)), lpips + 0.1 * y.abs().mean(), rtol=1e-5)


def test_loss_sums_lpips_over_scales_and_l1():
    x, y = picture(1)[..., :64, :64], picture(2)[..., :64, :64]
    expected = perceptual.lpips(x, y) + perceptual.lpips(F.avg_pool2d(x, 2), F.avg_pool2d(y, 2))
    expected = expected + 0.1 * (F.avg_pool2d(x, 4) - F.avg_pool2d(y, 4)).abs().mean()
    assert torch.allclose(loss_of(MULTISCALE, y)(x, Rng.of(rng(), 1)), expected, rtol=1e-5)


def test_hidden_regions_do_not_enter_lpips():
    """With everything hidden both images turn into the same noise; L1 alone sees a difference."""
    x, y = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    loss = loss_of(MULTISCALE, y, torch.zeros(1, 1, 64, 64))
    assert loss(x, Rng.of(rng(), 1)) == 0
    shown = loss_of(MULTISCALE, y, torch.ones(1, 1, 64, 64))(
        picture(1)[..., :64, :64], Rng.of(rng(), 1)
    )
    plain = loss_of(MULTISCALE, y)(picture(1)[..., :64, :64], Rng.of(rng(), 1))
    assert torch.allclose(shown, plain)


def test_noise_fill_is_fresh_at_every_scale():
    """N(0.25, 0.5²) times the hidden share, equal in both images and new at the next step."""
    visible = torch.ones(1, 1, 128, 128)
    visible[..., 33:] = 0  # an odd edge, so that a column is hidden in part at the coarser scales
    x, y = (level * visible.expand(1, 3, 128, 128) for level in (0.5, 0.75))
    network, stream = Recorder(), rng()
    loss, steps = loss_of(MULTISCALE, y, visible, network), []
    for step in range(2):
        network.shown.clear()
        loss(x, Rng.of(stream, 1), step)
        steps.append(list(zip(network.shown[:3], network.shown[3:], strict=True)))
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


@pytest.mark.parametrize(("side", "again"), [(32, True), (256, True), (264, False)])
def test_noise_fill_repeats_where_cached(side, again):
    """Then nothing is drawn, and the network is not asked again for the observation."""
    visible = torch.zeros(1, 1, side, side)
    x = y = torch.zeros(1, 3, side, side)
    network = Recorder()
    loss = loss_of((Lpips(fill=(0.25, 0.5)),), y, visible, network)
    for step in range(FILLS):
        loss(x, Rng.of(rng(step), 1), step)
    first, seen = network.shown[0::2], network.shown[1::2]
    assert len(first) == FILLS and all(torch.equal(*pair) for pair in zip(first, seen, strict=True))
    assert len({float(fill.sum()) for fill in first}) == FILLS
    network.shown.clear()
    loss(x, Rng.of(rng(99), 1), FILLS + 3)
    assert len(network.shown) == (1 if again else 2)
    assert torch.equal(network.shown[-1], first[3]) == again


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
    assert value(WhiteNoise(), Point(latent, noises=(flat,))).item() == pytest.approx(
        4
    )  # two axes, two scales
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
    own = {k: v[None] for k, v in small.named_parameters() if k.startswith("synthesis.")}
    w = small.some_w(1)[0]
    assert value(Locality(), Point(w, weights=own), problem).item() == 0
    brighter = own | {"synthesis.b32.torgb.bias": own["synthesis.b32.torgb.bias"] + 0.1}
    only_mse = Locality(mse=1, lpips=0)
    shown = []
    with pytest.MonkeyPatch.context() as spy:
        spy.setattr(
            type(small),
            "synthesize",
            lambda self, code, **o: shown.append((code, o)) or torch.zeros(1, 3, 32, 32),
        )
        value(only_mse, Point(w, weights=own), problem)
    for (
        code,
        options,
    ) in shown:  # 30 away over all layers together, without noise, towards a truncated code
        assert code.shape == (1, small.num_ws, 7) and options == {"noise_mode": "none"}
        assert (code - w[:, None]).norm().item() == pytest.approx(30, rel=1e-4)
    assert value(only_mse, Point(w, weights=brighter), problem).item() == pytest.approx(
        0.01, rel=1e-3
    )


def test_lpips_reduces_large_images_to_256(small):
    x, y = torch.rand(1, 3, 300, 300, generator=rng()), torch.rand(1, 3, 300, 300, generator=rng(1))
    problem = invert.problem.Problem(y, parse("clamp"), small, (0,), "alex")
    small_x, small_y = (F.interpolate(image, (256, 256), mode="area") for image in (x, y))
    found = value(Lpips(at_most=256), None, problem, prediction=x)
    assert torch.allclose(found, perceptual.lpips(small_x, small_y, "alex"), rtol=2e-2)
