"""Parameters that are estimated together with the image."""

import pytest
import torch

import degrade
import invert
from invert.refine import noise_sigma, refine
from tests.conftest import picture, slow_except


@pytest.fixture(scope="module")
def photo():
    return invert.load_prior("photo")


@pytest.mark.parametrize("start", slow_except((0.1,), (0.01, 0.1)))
def test_refined_sigma_does_not_depend_on_the_start(photo, start):
    sigma = 0.04
    y = degrade.parse(f"gaussian:{sigma} >> clamp >> quantize")(picture(1), 2)
    assert noise_sigma(y, start, photo) == pytest.approx(sigma, rel=0.08)


def test_refine_leaves_out_noise_that_is_not_there(photo):
    refined = refine(degrade.parse("gaussian:0.02 >> clamp >> quantize"), picture(1), photo)
    assert refined.operator == degrade.Identity()
    assert "no stronger" in refined.words


@pytest.mark.slow
def test_refine_starts_from_a_range(photo):
    y = degrade.parse("gaussian:0.04 >> clamp >> quantize")(picture(1), 2)
    refined = refine(degrade.parse("gaussian:0.01..0.2"), y, photo)
    assert refined.operator[0].sigma == pytest.approx(0.04, rel=0.08)
    assert "from 0.01..0.2" in refined.words


@pytest.mark.parametrize("spec", ["jpeg:20", "downsample:2", "gaussian:0.05 >> jpeg:50"])
def test_refine_keeps_what_it_does_not_estimate(spec):
    f = degrade.parse(spec)
    refined = refine(f, torch.rand(1, 3, 32, 32), None)
    assert refined.operator == f and refined.words == ""


def test_noise_of_grey_photos_is_measured(photo):
    clean = picture(2)[:, 1:2]
    y = degrade.Gaussian(0.08)(clean, 1).clamp(0, 1)
    assert noise_sigma(y, 0.06, photo.suited_to(y)) == pytest.approx(0.08, rel=0.1)
