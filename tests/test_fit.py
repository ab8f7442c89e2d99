"""`degrade.fit` recovers known parameters from pairs of images."""

import pytest
import torch

import degrade

from .conftest import picture, rng


@pytest.fixture(scope="module")
def clean():
    """Two pieces of pictures."""
    return torch.cat([picture(i)[..., 40:88, 40:88] for i in range(2)])


def test_fit_recovers_blur_noise_and_quality(clean):
    degraded = degrade.parse("blur:gaussian,1.7 >> gaussian:0.04 >> jpeg:60")(clean, 7)
    f = degrade.parse("blur:gaussian,0.3..4 >> gaussian:0..0.2 >> jpeg:20..95")
    blur, noise, jpeg = degrade.fit(f, clean, degraded, candidates=16)
    assert abs(blur.size - 1.7) < 0.15
    assert abs(noise.sigma - 0.04) < 0.01
    assert abs(jpeg.quality - 60) <= 3


def test_fit_finds_an_exact_quality(clean):
    degraded = degrade.JPEG(37)(clean)
    fitted = degrade.fit(degrade.parse("jpeg:1..100"), clean, degraded, candidates=8)
    assert fitted == degrade.JPEG(37)


def test_fit_uses_the_power_of_a_range_and_odd_integers(clean):
    degraded = degrade.parse("blur:gaussian,3,side=9")(clean)
    fitted = degrade.fit(degrade.parse("blur:gaussian,3,side=3..21"), clean, degraded, candidates=4)
    assert fitted.side == 9
    noisy = degrade.Poisson(60)(clean, 3)
    poisson = degrade.fit(degrade.parse("poisson:5..500^0"), clean, noisy, candidates=8)
    assert 50 < poisson.peak < 72


def test_fit_keeps_known_values_and_repeats(clean):
    f = degrade.parse("gamma:0.5..2 >> gaussian:0.02")
    degraded = (degrade.Gamma(0.8) >> degrade.Gaussian(0.02))(clean, 1)
    first = degrade.fit(f, clean, degraded, candidates=4)
    assert first == degrade.fit(f, clean, degraded, candidates=4)
    assert first[1] == degrade.Gaussian(0.02)
    assert abs(first[0].gamma - 0.8) < 0.01


def test_fit_needs_a_range_and_pairs(clean):
    with pytest.raises(ValueError, match=r"jpeg:40 has no range to fit; write low..high"):
        degrade.fit(degrade.JPEG(40), clean, clean)
    with pytest.raises(ValueError, match=r"makes \[2, 3, 24, 24\] of x, but y has"):
        degrade.fit(degrade.parse("downsample:2 >> jpeg:5..9"), clean, clean)
    with pytest.raises(ValueError, match="candidates=0 must be"):
        degrade.fit(degrade.parse("jpeg:5..9"), clean, clean, candidates=0)


def test_fit_takes_images_smaller_than_a_block():
    x = torch.rand(1, 3, 5, 3, generator=rng())
    fitted = degrade.fit(degrade.parse("gamma:0.5..2"), x, degrade.Gamma(1.25)(x), candidates=4)
    assert abs(fitted.gamma - 1.25) < 0.01


def test_fit_takes_the_text_of_a_chain(clean):
    assert degrade.fit("jpeg:36..38", clean, degrade.JPEG(37)(clean)) == degrade.JPEG(37)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": None}, "^seed=None must be an integer from 0"),
        ({"seed": "a"}, "^seed='a' must be an integer from 0"),
        ({"seed": 2**63 - 1}, "^seed=.* must be an integer from 0"),
        ({"candidates": 2.0}, "^candidates=2.0 must be an integer from 1"),
        ({"candidates": (2, 3)}, r"^candidates=\(2, 3\) must be an integer from 1"),
        ({"candidates": degrade.Range(2, 3)}, "^candidates=2..3 must be an integer from 1"),
        ({"f": 3}, "^f=3 must be an operator or its text"),
        ({"x": torch.zeros(1, 3, 8, 8, device="meta")}, "^x is on the meta device"),
        ({"y": torch.zeros(1, 3, 8, 8, device="meta")}, "^y is on the meta device"),
    ],
)
def test_fit_refuses_what_cannot_be_fitted(arguments, message):
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=message):
        degrade.fit(**{"f": "jpeg:5..9", "x": images, "y": images} | arguments)
