"""ImageNet-C's corruptions against their authors' arithmetic at the same draws.

The constants below are those of the authors' code, typed again; what is drawn is handed over.
"""

import math

import numpy
import pytest
import torch

from degrade import Elastic, Frost, Glass, parse, pipelines
from degrade.rng import Rng
from degrade.seeded import Draws
from degrade.spatter import edges, equalized

from . import corruptions
from .conftest import picture, rng
from .draws import hwc

SIDE = 48


def image(seed=3):
    """A part of a picture with noise, float64 with values k/255."""
    part = picture(seed)[..., 30 : 30 + SIDE, 40 : 40 + SIDE].double()
    noise = 8 * torch.randn(part.shape, generator=rng(seed), dtype=torch.float64)
    return (part * 255 + noise).round().clamp(0, 255) / 255


def run(corruption, severity, x):
    """The levels of the result, and the concrete chain."""
    f = pipelines[f"imagenet-c/{corruption}/{severity}"].sample(x.shape, 7)
    return hwc(f(x, 7)) * 255, f


def assert_levels(levels, unrounded):
    """Levels are the whole part of the clipped values; either of two where these are nearly one."""
    expected = numpy.clip(unrounded, 0, 1) * 255
    assert abs(levels - levels.round()).max() < 1e-9
    assert (levels.round() <= expected + 1e-4).all()
    assert (levels.round() > expected - 1 - 1e-4).all()


@pytest.fixture
def drawn(monkeypatch):
    """What the operators with noise draw, as [H, W, 3] each."""
    arrays = []
    for name in ("normal", "uniform", "poisson"):
        original = getattr(Rng, name)

        def record(self, like, original=original):
            result = original(self, like)
            arrays.append(hwc(result.clone()))  # the operator may write into its draws
            return result

        monkeypatch.setattr(Rng, name, record)
    return arrays


NOISE = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
}
LAWS = {
    "gaussian_noise": lambda x, c, normal: x + c * normal,
    "shot_noise": lambda x, c, counts: counts / c,
    # c/2 of the values are white, and c/2 black
    "impulse_noise": lambda x, c, u: numpy.where(u < c / 2, 1, numpy.where(u < c, 0, x)),
    "speckle_noise": lambda x, c, normal: x + x * c * normal,
}


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", NOISE)
def test_imagenet_c_noise_equals_its_code(name, severity, drawn):
    x = image()
    levels, _ = run(name, severity, x)
    (draws,) = drawn
    assert_levels(levels, LAWS[name](hwc(x), NOISE[name][severity - 1], draws))


CERTAIN = {
    "gaussian_blur": (corruptions.smooth, ((1,), (2,), (3,), (4,), (6,))),
    "defocus_blur": (corruptions.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "zoom_blur": (
        corruptions.zoom_blur,
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "brightness": (corruptions.brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))),
    "saturate": (corruptions.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    "contrast": (corruptions.contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))),
    "pixelate": (corruptions.pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))),
    "jpeg_compression": (corruptions.jpeg_compression, ((25,), (18,), (15,), (10,), (7,))),
}


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", CERTAIN)
def test_imagenet_c_certain_one_equals_its_code(name, severity):
    x = image()
    function, constants = CERTAIN[name]
    levels, _ = run(name, severity, x)
    assert_levels(levels, function(hwc(x), *constants[severity - 1]))


GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
SPATTER = (
    (0.65, 0.3, 4, 0.69, 0.6, False),
    (0.65, 0.3, 3, 0.68, 0.6, False),
    (0.65, 0.3, 2, 0.68, 0.5, False),
    (0.65, 0.3, 1, 0.65, 1.5, True),
    (0.67, 0.4, 1, 0.65, 1.5, True),
)
ELASTIC = (
    (244 * 2, 244 * 0.7, 244 * 0.1),
    (244 * 2, 244 * 0.08, 244 * 0.2),
    (244 * 0.05, 244 * 0.01, 244 * 0.02),
    (244 * 0.07, 244 * 0.01, 244 * 0.02),
    (244 * 0.12, 244 * 0.01, 244 * 0.02),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
SEVERITIES = pytest.mark.parametrize("severity", range(1, 6))


@SEVERITIES
def test_imagenet_c_glass_equals_its_code(severity):
    x = image()
    sigma, delta, passes = GLASS[severity - 1]
    levels, f = run("glass_blur", severity, x)
    draws = Draws(f[2].seed)
    offsets = []
    for _ in range(passes):
        whole = draws.integers(2 * delta, 2, SIDE * SIDE) - delta
        offsets.append(whole.view(2, SIDE, SIDE).numpy())
    assert_levels(levels, corruptions.glass_blur(hwc(x), sigma, delta, offsets))


@SEVERITIES
def test_imagenet_c_motion_equals_its_code(severity):
    x = image()
    radius, sigma = MOTION[severity - 1]
    levels, f = run("motion_blur", severity, x)
    angle = 180 - f[0].angle
    assert -45 <= angle <= 45
    expected = corruptions.trail(hwc(x) * 255, 2 * radius + 1, sigma, angle)
    assert numpy.allclose(levels, expected)


@SEVERITIES
def test_imagenet_c_fog_equals_its_code(severity):
    x = image()
    levels, f = run("fog", severity, x)
    draws = Draws(f[0].seed)
    expected = corruptions.fog(hwc(x), *FOG[severity - 1], lambda n: draws.uniform(n, n).numpy())
    assert_levels(levels, expected)


@SEVERITIES
def test_imagenet_c_snow_equals_its_code(severity):
    x = image()
    levels, f = run("snow", severity, x)
    draws = Draws(f[0].seed)
    normal = draws.normal(SIDE, SIDE).numpy()
    angle = float(draws.uniform(low=-135, high=-45))
    assert_levels(levels, corruptions.snow(hwc(x), SNOW[severity - 1], normal, angle))


@SEVERITIES
@pytest.mark.parametrize("seed", range(3))
def test_imagenet_c_spatter_equals_its_code(severity, seed):
    x = image(seed)
    levels, f = run("spatter", severity, x)
    normal = Draws(f[0].seed).normal(SIDE, SIDE).numpy()
    assert_levels(levels, corruptions.spatter(hwc(x), SPATTER[severity - 1], normal))


@SEVERITIES
def test_imagenet_c_elastic_equals_its_code(severity):
    x = image()
    constants = ELASTIC[severity - 1]
    levels, f = run("elastic_transform", severity, x)
    draws = Draws(f[0].seed)
    jitter = constants[2]
    moves = draws.uniform(3, 2, low=-jitter, high=jitter).numpy()
    fields = [draws.uniform(SIDE, SIDE, low=-1, high=1).numpy() for _ in range(2)]
    expected = corruptions.elastic_transform(hwc(x), constants, moves, fields)
    assert_levels(levels, expected)


@SEVERITIES
def test_imagenet_c_frost_needs_a_photograph(severity):
    """With one, the law is that of the authors' code; without, the error says what to write."""
    with pytest.raises(KeyError, match="needs the authors' photographs.*frost:FILE") as error:
        pipelines[f"imagenet-c/frost/{severity}"]
    with pytest.raises(ValueError, match="frost/. needs the authors' photographs"):
        parse(f"gray >> imagenet-c/frost/{severity}")
    keep, weight = FROST[severity - 1]
    assert f"frost:FILE,{keep},{weight} >> clamp >> quantize:rounding=down" in str(error.value)
    x = image()
    photograph = torch.rand(1, 3, 70, 60, generator=rng(1))
    f = Frost(photograph, keep, weight).sample(x.shape, 5)
    draws = Draws(f.seed)
    top, left = int(draws.integers(70 - SIDE)), int(draws.integers(60 - SIDE))
    part = photograph[..., top : top + SIDE, left : left + SIDE].double()
    assert torch.allclose(f(x), keep * x + weight * part)


def test_frost_names_a_photograph_that_is_too_small():
    with pytest.raises(ValueError, match="the photograph has 40x60 pixels, and the image 48x48"):
        Frost(torch.rand(1, 3, 40, 60))(image(), 1)
    with pytest.raises(ValueError, match="photograph holds 2 pictures; give one"):
        Frost(torch.rand(2, 3, 90, 90))(image(), 1)


def test_imagenet_c_names_are_the_authors():
    names = [name.split("/")[1] for name in pipelines if name.startswith("imagenet-c/")]
    assert sorted(set(names)) == sorted(
        [*NOISE, *CERTAIN, "glass_blur", "motion_blur", "fog", "snow", "spatter"]
        + ["elastic_transform"]
    )
    assert len(names) == 18 * 5
    saved = parse("imagenet-c/fog/3 >> jpeg:85")
    assert list(saved)[:-1] == list(pipelines["imagenet-c/fog/3"])


def test_glass_keeps_margins_and_moves_pixels_by_delta():
    position = torch.arange(30.0 * 20).view(1, 1, 30, 20) / 600
    y = Glass(3, seed=5)(position)
    came_from = (y * 600).round().long()
    rows, columns = came_from // 20, came_from % 20
    row, column = torch.arange(30)[:, None], torch.arange(20)
    inside = (row > 3) & (row <= 27) & (column > 3) & (column <= 17)
    moved = (rows != row) | (columns != column)
    assert not moved[0, 0][~inside].any() and moved[0, 0][inside].float().mean() > 0.8
    assert torch.equal(Glass(3, passes=0, seed=5)(position), position)


def test_elastic_without_strength_and_jitter_changes_nothing():
    x = image()
    assert torch.allclose(Elastic(0, 2, seed=1)(x), x, atol=1e-12)


def test_canny_finds_a_step_and_equalizing_spreads_levels():
    step = torch.zeros(9, 9, dtype=torch.float64)
    step[:, 5:] = 200
    assert edges(step).sum(0).tolist() == [0, 0, 0, 0, 9, 0, 0, 0, 0]
    assert not edges(step / 6).any()  # a weak edge without a strong one
    ramp = torch.arange(16, dtype=torch.float64).view(4, 4)
    assert torch.equal(equalized(ramp), (ramp * 17).round())
    assert torch.equal(equalized(torch.full((3, 3), 7.0)), torch.full((3, 3), 7.0))


def test_trail_is_half_a_gaussian_of_whole_pixels():
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[..., 10, 10] = 1
    y = parse("blur:trail,2,side=5,angle=20")(x)
    weights = [math.exp(-(i**2) / 8) for i in range(5)]
    for i, weight in enumerate(weights):
        down = -math.floor(i * math.sin(math.radians(20)) + 0.5)
        right = math.floor(i * math.cos(math.radians(20)) + 0.5)
        assert y[0, 0, 10 + down, 10 + right] == pytest.approx(weight / sum(weights))


def test_blur_nearest_edge_equals_scipy():
    from scipy import ndimage

    x = image()
    y = parse("blur:1|2|3|4|5|6|7|8|9,edge=nearest")(x)
    kernel = numpy.arange(1.0, 10).reshape(3, 3, 1)
    assert numpy.allclose(hwc(y), ndimage.convolve(hwc(x), kernel, mode="nearest"))


def test_quantize_down_is_numpy_s_uint8():
    x = torch.rand(1, 3, 40, 40, generator=rng()).double()
    y = parse("quantize:rounding=down")(x)
    assert numpy.array_equal(hwc(y) * 255, numpy.uint8(hwc(x) * 255))
    for dtype in (torch.float32, torch.float64):  # levels keep their value
        levels = torch.arange(256, dtype=dtype).view(1, 1, 16, 16) / 255
        assert torch.equal(parse("quantize:rounding=down")(levels), levels)
