"""Dead leaves: the sizes of discs, occlusion, and that no pixel stays bare."""

import math

import numpy
import pytest
import torch

from invert import dead_leaves as module
from invert.dead_leaves import dead_leaves, falling_discs, power_law
from tests.conftest import rng

RADII = (3.0, 60.0)


def greatest_deviation(radii, density):
    """The Kolmogorov-Smirnov distance between the distribution of radii and that of a density."""
    grid = numpy.geomspace(*RADII, 20001)
    values = density(grid)
    steps = (values[1:] + values[:-1]) / 2 * numpy.diff(grid)
    below = numpy.concatenate([[0], steps.cumsum()]) / steps.sum()
    expected = numpy.interp(numpy.sort(radii), grid, below)
    empirical = (numpy.arange(len(radii)) + 0.5) / len(radii)
    return abs(expected - empirical).max()


def test_radii_have_density_of_third_power():
    u = torch.rand(20000, generator=rng(), dtype=torch.float64)
    radii = power_law(u, RADII).numpy()
    assert RADII[0] <= radii.min() and radii.max() <= RADII[1]
    assert greatest_deviation(radii, lambda r: r**-3) < 1.6 / math.sqrt(len(radii))


def test_large_discs_touch_from_farther_away():
    """The centre of a disc that touches a picture lies in an area of h·w + 2r(h + w) + πr²."""
    generator, height, width = rng(), 30, 50
    batches = [falling_discs(height, width, RADII, generator) for _ in range(200)]
    radii = torch.cat(batches)[:, 2].double().numpy()

    def density(r):
        area = height * width + 2 * r * (height + width) + math.pi * r**2
        return r**-3 * area

    assert greatest_deviation(radii, density) < 1.6 / math.sqrt(len(radii))


def test_upper_discs_hide_lower_ones(monkeypatch):
    """The same discs, painted one over the other from the lowest to the topmost."""
    monkeypatch.setattr(module, "_SHADED", 0.0)
    palette = torch.rand(3, 200, 200, generator=rng(1))
    picture = dead_leaves(40, 24, palette, rng(2), RADII).numpy()
    generator = rng(2)
    discs = torch.cat([falling_discs(40, 24, RADII, generator) for _ in range(100)]).numpy()
    rows, columns = numpy.mgrid[:40, :24] + 0.5
    painted = numpy.full((40, 24), -1)
    for number in reversed(range(len(discs))):
        x, y, radius = discs[number]
        painted[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = number
    assert painted.min() >= 0
    colours = set()
    for number in numpy.unique(painted):
        (colour,) = numpy.unique(picture[:, painted == number], axis=1).T
        colours.add(tuple(colour))
    assert len(colours) == len(numpy.unique(painted)) > 5


@pytest.mark.parametrize("height, width", [(1, 1), (64, 64), (17, 90)])
def test_every_pixel_is_covered(height, width):
    palette = torch.full((3, 5, 7), 201, dtype=torch.uint8)
    picture = dead_leaves(height, width, palette, rng())
    assert picture.dtype == torch.uint8
    assert torch.equal(picture, palette[:, :1, :1].expand(3, height, width))


def test_seed_decides_the_picture():
    palette = torch.randint(256, (3, 32, 32), generator=rng(), dtype=torch.uint8)
    first, again, other = (dead_leaves(32, 32, palette, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= palette.min() and first.max() <= palette.max()


def test_radii_in_wrong_order_are_refused():
    with pytest.raises(ValueError, match="radii="):
        dead_leaves(8, 8, torch.rand(3, 8, 8), rng(), (5, 2))
