"""The camera against a restatement of the published code in numpy, pixel by pixel."""

import math

import numpy
import pytest
import torch

import degrade
from degrade import Camera, Gaussian, Identity, ShotRead, parse

from .conftest import rng

MATRIX = (0.66, 0.26, 0.08, 0.1, 0.74, 0.16, 0.02, 0.23, 0.75)
RED, BLUE, BRIGHTENING = 2.1, 1.7, 1.2
COLORS = ((0, 1), (1, 2))  # of the Bayer pattern: red, green; green, blue


def camera(f):
    return Camera(f, MATRIX, RED, BLUE, BRIGHTENING)


def image(*shape):
    return torch.rand(*shape, generator=rng(), dtype=torch.float64)


def their_raw(image):
    """unprocess.py for an image [H, W, 3], with the Bayer planes kept in place."""
    tone = 0.5 - numpy.sin(numpy.arcsin(1 - 2 * image) / 3)
    linear = numpy.maximum(tone, 1e-8) ** 2.2
    of_camera = linear @ numpy.array(MATRIX).reshape(3, 3).T
    gains = numpy.array([1 / RED, 1, 1 / BLUE]) / BRIGHTENING
    grey = of_camera.mean(-1, keepdims=True)
    mask = (numpy.maximum(grey - 0.9, 0) / 0.1) ** 2
    safe = numpy.maximum(mask + (1 - mask) * gains, gains)
    clipped = numpy.clip(of_camera * safe, 0, 1)
    height, width, _ = image.shape
    raw = numpy.empty((height, width))
    for i in range(height):
        for j in range(width):
            raw[i, j] = clipped[i, j, COLORS[i % 2][j % 2]]
    return raw


def nearest_sample(i, n, first):
    """The sample of a lattice 0, 2, … or 1, 3, … that lies at i, or nearest to i inside."""
    return min(max(i, first), n - 2 + first)


def their_demosaicked(raw):
    height, width = raw.shape

    def plane(i, j, row, column):
        """Bilinear at (i, j) from the samples in rows row, row + 2, … and columns alike."""
        rows = [nearest_sample(k, height, row) for k in (i - (i + row) % 2, i + (i + row) % 2)]
        columns = [
            nearest_sample(k, width, column) for k in (j - (j + column) % 2, j + (j + column) % 2)
        ]
        return numpy.mean([raw[a, b] for a in rows for b in columns])

    result = numpy.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            beside_red, beside_blue = plane(i, j, 0, 1), plane(i, j, 1, 0)
            green = (beside_red + beside_blue) / 2
            if (i % 2, j % 2) == (0, 1):
                green = beside_red
            elif (i % 2, j % 2) == (1, 0):
                green = beside_blue
            result[i, j] = plane(i, j, 0, 0), green, plane(i, j, 1, 1)
    return result


def their_developed(raw):
    """process.py for raw values [H, W]."""
    height, width = raw.shape
    gains = (RED, 1, BLUE)
    balanced = raw.copy()
    for i in range(height):
        for j in range(width):
            balanced[i, j] *= gains[COLORS[i % 2][j % 2]]
    colors = their_demosaicked(numpy.clip(balanced, 0, 1))
    of_screen = colors @ numpy.linalg.inv(numpy.array(MATRIX).reshape(3, 3)).T
    return numpy.maximum(numpy.clip(of_screen, 0, 1), 1e-8) ** (1 / 2.2)


def test_camera_raw_values_equal_the_published_code():
    x = image(1, 3, 12, 16)
    x[..., :4, :4] = 1 - x[..., :4, :4] / 20  # where gains fade out
    raw = camera(Identity()).raw(x)
    theirs = their_raw(x[0].permute(1, 2, 0).numpy())
    assert abs(raw[0, 0].numpy() - theirs).max() < 1e-12


def test_camera_develops_like_the_published_code():
    raw = image(1, 1, 12, 16) * 0.7 - 0.05
    developed = camera(Identity()).developed(raw)
    theirs = their_developed(raw[0, 0].numpy())
    assert abs(developed[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-9


def test_camera_is_raw_then_operator_then_developed():
    x = image(2, 3, 8, 10)
    f = camera(degrade.Brightness(0.5))
    expected = f.developed(0.5 * f.raw(x))
    assert torch.equal(f(x), expected)


def test_camera_takes_grey_and_odd_sides():
    f = camera(Gaussian(0.01))
    assert f(image(1, 1, 7, 1), 0).shape == (1, 1, 7, 1)
    with pytest.raises(ValueError, match="changes the size of the raw values"):
        camera(degrade.Downsample(2))(image(1, 3, 8, 8))


def test_unprocess_draws_a_camera_for_each_image():
    f = degrade.pipelines["unprocess"]
    drawn = f.sample((40, 3, 8, 8), 5).operators
    assert len({g.matrix for g in drawn}) == 40
    for g in drawn:
        rows = torch.tensor(g.matrix).view(3, 3).sum(1)
        assert torch.allclose(rows, torch.ones(3))
        assert 1.9 <= g.red < 2.4 and 1.5 <= g.blue < 1.9 and 0.8 < g.brightening < 2.2
        assert 1e-4 <= g.operator.shot <= 0.012
        line = 2.18 * math.log(g.operator.shot) + 1.2
        assert abs(math.log(g.operator.read) - line) < 5 * 0.26
    text = str(drawn[0])
    assert parse(text) == drawn[0] and parse(str(f)) == f


def test_shotread_has_the_variance_of_its_law():
    x = torch.full((1, 1, 400, 400), 0.3)
    y = ShotRead(0.01, 0.002)(x, 3)
    assert abs(y.mean() - 0.3) < 1e-3
    assert abs(y.var() / (0.01 * 0.3 + 0.002) - 1) < 0.02


@pytest.mark.parametrize("name", ["shot", "read"])
def test_shotread_gradients_are_the_derivatives(name):
    x = image(2, 3, 8, 6)
    values = {"shot": 0.01, "read": 0.002}

    def total(value):
        return ShotRead(**(values | {name: value}))(x, 3).square().sum()

    value = torch.tensor(values[name], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(total(value), value)
    step = 1e-7
    expected = (total(values[name] + step) - total(values[name] - step)) / (2 * step)
    assert torch.allclose(gradient, expected, rtol=1e-5)


def test_camera_gradient_of_gains_is_the_derivative():
    """Where nothing is clamped and no gain fades out."""
    x = 0.2 + 0.3 * image(1, 3, 8, 6)

    def total(red):
        f = Camera(Identity(), (0.9, 0.1, 0, 0, 1, 0, 0, 0.1, 0.9), red, BLUE, 1.3)
        return f.raw(x).square().sum()

    red = torch.tensor(2.1, dtype=torch.float64, requires_grad=True)
    slope = 2 * torch.sigmoid(torch.tensor(0.0)) ** 2  # of the surrogate of a clamp, at most 1/2
    (gradient,) = torch.autograd.grad(total(red), red)
    expected = (total(2.1 + 1e-6) - total(2.1 - 1e-6)) / 2e-6
    assert gradient * expected > 0 and abs(gradient) <= slope * abs(expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Camera(Identity(), (1, 0, 0)), "matrix=.* must be nine numbers"),
        (lambda: Camera(Identity(), (1,) * 9), "cannot be inverted"),
        (lambda: Camera(Identity(), red=20), "red=20 must be a number from 0.1 to 10"),
        (lambda: ShotRead(2), "shot=2 must be a number from 0 to 1"),
    ],
)
def test_camera_errors_name_the_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()
