"""Blur by a shaking camera against a restatement of DeblurGAN's code, at the same draws."""

import math

import numpy
import pytest
import torch
from scipy import ndimage

from degrade import Shake
from degrade.seeded import Draws

from .conftest import rng

ITERATIONS = 2000


def draws_of(seed):
    """The numbers that generate_trajectory.py draws, and those that a step may use."""
    draws = Draws(seed)
    numbers = draws.uniform(4).tolist()
    chances = draws.uniform(ITERATIONS - 1).numpy()
    turns = draws.uniform(ITERATIONS - 1).numpy()
    return numbers, chances, turns, draws.normal(ITERATIONS - 1, 2).numpy()


def their_path(seed, length, anxiety, canvas):
    """Trajectory.fit: positions as complex numbers, and how many jolts there were."""
    (centripetal, shake, gaussian, angle), chances, turns, normal = draws_of(seed)
    centripetal, shake, gaussian = 0.7 * centripetal, 0.2 * shake, 10 * gaussian
    v0 = numpy.exp(1j * numpy.deg2rad(360 * angle))
    v = v0 * anxiety if anxiety > 0 else v0 * length / (ITERATIONS - 1)
    x = numpy.zeros(ITERATIONS, complex)
    jolts = 0
    for t in range(ITERATIONS - 1):
        jolt = 0
        if chances[t] < shake * anxiety:
            jolt = 2 * v * numpy.exp(1j * (numpy.pi + turns[t] - 0.5))
            jolts += 1
        push = gaussian * complex(*normal[t]) - centripetal * x[t]
        v = v + jolt + anxiety * push * length / (ITERATIONS - 1)
        v = v / abs(v) * length / (ITERATIONS - 1)
        x[t + 1] = x[t] + v
    x += complex(-x.real.min(), -x.imag.min())
    x += complex(1 - x[0].real % 1, 1 - x[0].imag % 1)
    x += complex(math.ceil((canvas - x.real.max()) / 2), math.ceil((canvas - x.imag.max()) / 2))
    return x, jolts


def their_kernel(path, fractions, canvas):
    """PSF.fit: the kernel when the last of these shares of the path is over, scaled to sum 1."""
    kernel = numpy.zeros((canvas, canvas))
    before = 0
    for fraction in fractions:
        now, last = fraction * ITERATIONS, before * ITERATIONS
        for t, p in enumerate(path):
            if now >= t and last < t - 1:
                share = 1
            elif now >= t - 1 and last < t - 1:
                share = now - (t - 1)
            elif now >= t and last < t:
                share = t - last
            elif now >= t - 1 and last < t:
                share = now - last
            else:
                continue
            column, row = math.floor(p.real), math.floor(p.imag)
            for i in (row, row + 1):
                for j in (column, column + 1):
                    kernel[i, j] += share * (1 - abs(p.imag - i)) * (1 - abs(p.real - j))
        before = fraction
    return kernel / kernel.sum()


def kernel_of(f):
    """What a bright point becomes."""
    reach = f.reach((1, 1, 1, 1))
    x = torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    x[..., reach, reach] = 1
    return f(x)[0, 0].numpy()


@pytest.mark.parametrize("anxiety", [0, 0.001, 0.01, 1])
@pytest.mark.parametrize("seed", range(3))
def test_shake_equals_deblurgan_at_the_same_draws(seed, anxiety):
    kernel = kernel_of(Shake(60, anxiety, edge="black", seed=seed))
    canvas = len(kernel)
    path, jolts = their_path(seed, 60, anxiety, canvas)
    assert numpy.allclose(kernel, their_kernel(path, [1], canvas), atol=1e-12)
    assert anxiety < 1 or jolts > 0


@pytest.mark.parametrize(("part", "exposure"), [(0, 1 / 1000), (1, 1 / 10), (2, 1 / 2), (3, 1)])
def test_shake_equals_deblurgan_at_each_exposure(part, exposure):
    kernel = kernel_of(Shake(30, exposure=exposure, edge="black", seed=4))
    path, _ = their_path(4, 30, 0.005, len(kernel))
    fractions = [1 / 1000, 1 / 10, 1 / 2, 1][: part + 1]
    assert numpy.allclose(kernel, their_kernel(path, fractions, len(kernel)), atol=1e-12)


def test_kernel_does_not_depend_on_the_size_of_their_canvas():
    """But for a shift by whole pixels; theirs has 64 pixels, ours an odd number."""
    path, _ = their_path(7, 60, 0.005, 64)
    theirs = their_kernel(path, [1], 64)
    ours = kernel_of(Shake(60, edge="black", seed=7))
    assert numpy.allclose(trimmed(ours), trimmed(theirs), atol=1e-12)


def trimmed(kernel):
    """Without the rows and columns at its border that are zero but for rounding."""
    rows, columns = numpy.nonzero(kernel > 1e-12)
    return kernel[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


@pytest.mark.parametrize(("edge", "mode"), [("mirror", "mirror"), ("nearest", "nearest")])
def test_shake_is_a_convolution(edge, mode):
    x = torch.rand(1, 3, 40, 50, generator=rng(), dtype=torch.float64)
    f = Shake(9, 0.1, edge=edge, seed=2)
    theirs = ndimage.convolve(x[0].numpy(), kernel_of(f)[None], mode=mode)
    assert numpy.allclose(f(x)[0].numpy(), theirs, atol=1e-9)


def test_exposure_has_a_gradient_where_a_step_begins():
    x = torch.rand(1, 1, 24, 24, generator=rng(), dtype=torch.float64)
    exposure = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = Shake(12, exposure=exposure, seed=3)(x)
    (gradient,) = torch.autograd.grad((y * x).sum(), exposure)
    later = Shake(12, exposure=0.5 + 1e-5, seed=3)(x)
    assert torch.allclose(gradient, ((later - y) * x).sum() / 1e-5, rtol=1e-3)


def test_shake_draws_a_path_for_each_image():
    x = torch.rand(1, 1, 24, 24, generator=rng()).expand(2, -1, -1, -1)
    drawn = Shake(12, 0.01).sample(x.shape, 3)
    y = Shake(12, 0.01)(x, 3)
    assert torch.equal(y, drawn(x)) and not torch.equal(y[0], y[1])
    assert drawn.approx() == Shake(12, 0.01)
