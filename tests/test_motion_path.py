"""Blur along a bent path, against the numbers of motionblur's code and DPS's use of its kernels."""

import math

import numpy
import pytest
import torch
import torch.nn.functional as F

from degrade import MotionPath
from degrade.motion_path import _kernel, _path

from .conftest import rng

# After numpy.random.seed(seed), Kernel((61, 61), intensity).path of motionblur has so many points,
# and begins and ends there.
PATHS = [
    (0, 0.5, 23, (34.003728, 31.995025), (100.37474, 88.10063)),
    (1, 0.5, 27, (74.586435, 33.025304), (42.543483, 99.883971)),
    (7, 1.0, 205, (96.713975, 34.808892), (24.17309, 86.481764)),
    (3, 0.0, 12, (36.403427, 56.185396), (107.244881, 70.052106)),
    (2**32 - 1, 0.3, 3, (49.073182, 54.021049), (75.795615, 71.640504)),
]


def path_of(seed, intensity, size=61):
    side = 2 * size
    return _path(numpy.random.RandomState(seed), side, math.hypot(side, side), intensity)


@pytest.mark.parametrize(("seed", "intensity", "count", "first", "last"), PATHS)
def test_path_is_that_of_motionblur_at_the_same_seed(seed, intensity, count, first, last):
    path = path_of(seed, intensity)
    assert len(path) == count
    assert path[0] == pytest.approx(first, abs=1e-5)
    assert path[-1] == pytest.approx(last, abs=1e-5)


def test_kernel_lies_along_its_path():
    """Its mass is where the path is, at half the scale, and nowhere else."""
    for seed in range(5):
        kernel = _kernel(seed, 61, 0.5).numpy()
        path = numpy.array(path_of(seed, 0.5)) / 2
        rows, columns = kernel.nonzero()
        steps = numpy.linspace(path[:-1], path[1:], 50).reshape(-1, 2)
        away = abs(columns[:, None] + 0.5 - steps[:, 0]) + abs(rows[:, None] + 0.5 - steps[:, 1])
        assert away.min(1).max() < 5
        assert away.min(0).max() < 3  # the last point of a line is faint
        assert kernel.sum() == pytest.approx(1)


def test_motion_path_weighs_pixels_as_dps_does():
    """A correlation with the kernel, after reflection without the edge pixel."""
    x = torch.rand(2, 3, 70, 64, generator=rng())
    kernel = _kernel(5, 61, 0.5).float().expand(3, 1, 61, 61)
    padded = F.pad(x, (30, 30, 30, 30), mode="reflect")
    expected = F.conv2d(padded, kernel, groups=3)
    assert torch.allclose(MotionPath(seed=5)(x), expected, atol=2e-6)


def test_solver_knows_the_path():
    f = MotionPath()
    drawn = f.sample((2, 3, 64, 64), rng())
    assert drawn.approx() == drawn and drawn.linear
    assert len(set(drawn.seed)) == 2
