"""Vignetting and chromatic aberration against closed forms and SciPy."""

import numpy
import torch
from scipy import ndimage

from degrade import Aberration, Affine, Vignette

from .conftest import rng


def test_vignette_equals_the_cosine_law():
    x = torch.rand(1, 3, 9, 14, generator=rng(), dtype=torch.float64)
    y = Vignette(0.7)(x)
    for i in range(9):
        for j in range(14):
            radius = numpy.hypot(i + 0.5 - 4.5, j + 0.5 - 7) / numpy.hypot(4.5, 7)
            cosine = numpy.cos(numpy.arctan(0.7 * radius))
            assert torch.allclose(y[..., i, j], x[..., i, j] * cosine**4, atol=1e-12)


def test_aberration_enlarges_red_and_blue_about_the_centre():
    x = torch.rand(2, 3, 20, 24, generator=rng(), dtype=torch.float64)
    y = Aberration(1.06, 0.95)(x)
    assert torch.equal(y[:, 1], x[:, 1])
    for channel, scale in ((0, 1.06), (2, 0.95)):
        centre = numpy.array([9.5, 11.5])
        offset = centre - centre / scale
        theirs = ndimage.affine_transform(
            x[0, channel].numpy(), [1 / scale, 1 / scale], offset, order=1, mode="nearest"
        )
        assert abs(y[0, channel].numpy() - theirs).max() < 1e-12
        as_affine = Affine(0, scale=scale, edge="nearest")(x)
        assert torch.allclose(y[:, channel], as_affine[:, channel], atol=1e-12)


def test_aberration_keeps_grey_images():
    x = torch.rand(1, 1, 8, 8, generator=rng())
    assert torch.equal(Aberration(1.1, 0.9)(x), x)


def test_aberration_may_differ_for_each_image():
    x = torch.rand(2, 3, 8, 8, generator=rng())
    both = Aberration((1.1, 1), (1, 0.9))(x)
    assert torch.equal(both[:1], Aberration(1.1, 1)(x[:1]))
    assert torch.equal(both[1:], Aberration(1, 0.9)(x[1:]))
