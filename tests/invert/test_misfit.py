"""How much of an observation a result leaves unexplained, against cases with a known answer."""

import pytest
import torch

import degrade
from degrade import Place
from invert import unexplained
from tests.conftest import picture

NOISY = degrade.parse("poisson:48 >> deadpixels:0.08 >> jpeg:18")


def test_unexplained_of_the_truth_is_zero():
    x = picture(0)
    for f in (degrade.parse("jpeg:30"), degrade.parse("downsample:2 >> strokes:5,seed=1"), NOISY):
        assert unexplained(f(x, 7), f.approx(), x) == pytest.approx(0, abs=0.02)


def test_unexplained_of_a_plain_colour_is_one():
    x = picture(0)
    colour = x.mean((2, 3), keepdim=True).expand_as(x)
    assert unexplained(x, degrade.Identity(), colour) == pytest.approx(1, abs=1e-3)
    assert unexplained(NOISY(x, 7), NOISY.approx(), colour) == pytest.approx(1, abs=0.1)


def test_unexplained_of_another_picture_exceeds_one():
    x, other = picture(0), 1 - picture(0)
    assert unexplained(NOISY(x, 7), NOISY.approx(), other) > 1


def test_unexplained_leaves_out_hidden_pixels():
    f = degrade.parse("box:0.5")
    x = picture(0)
    wrong = torch.where(f.visible(x.shape) == 0, 1 - x, x)
    assert (wrong != x).any() and unexplained(f(x), f, wrong) == 0


def test_unexplained_leaves_out_what_surrounds_a_part():
    """A wrong part is found out however much of the photo around it is right."""
    background = picture(1).repeat(1, 1, 2, 2)
    size = background.shape[2:]
    place = Place((64.0, 0.0, 20.0, 0.0, 64.0, 30.0), (size[0], size[1]), background)
    f = place >> degrade.parse("jpeg:60")
    x = picture(0)
    assert unexplained(f(x), f, x) < 0.01
    assert unexplained(f(x), f, 1 - x) > 1


def test_unexplained_is_zero_where_nothing_can_be_told():
    noise = degrade.parse("gaussian:0.5")
    x = torch.full((1, 3, 64, 64), 0.5)
    nearly = x + 0.02 * (picture(0)[..., :64, :64] - 0.5)
    assert unexplained(noise(x, 3), noise, nearly) == 0
    f = degrade.parse("compressedsensing:0.1,seed=2")
    assert unexplained(f(x), f, picture(0)[..., :64, :64]) == 0
