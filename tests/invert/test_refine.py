"""Parameters that are estimated together with the image."""

from pathlib import Path

import pytest
import torch

import degrade
import invert
from invert.refine import noise_sigma, refine
from pipelines.files import read_image
from tests.conftest import picture, rng, slow_except

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "astronaut.jpg"


def photo_part():
    return read_image(PHOTO)[..., 100:356, 120:376]


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


@pytest.mark.parametrize(
    ("kernel", "size", "later"),
    [
        ("gaussian", 2.0, ""),
        ("motion", 9.0, " >> gaussian:0.01"),
        pytest.param("defocus", 4.0, " >> gaussian:0.01", marks=pytest.mark.slow),
        pytest.param("gaussian", 1.5, " >> gaussian:0.02", marks=pytest.mark.slow),
    ],
)
def test_refine_estimates_the_size_of_a_blur(kernel, size, later):
    """The size is within 12 %, in a photo whose own sharpness is unknown."""
    y = degrade.parse(f"blur:{kernel},{size}{later} >> quantize")(photo_part(), 0)
    refined = refine(degrade.parse(f"blur:{kernel},1..12{later}"), y, None)
    assert refined.operator[0].size == pytest.approx(size, rel=0.12)
    assert refined.operator[0].kernel == kernel
    assert f"blur:{kernel},size=1..12 estimated as blur:{kernel},size=" in refined.words


@pytest.mark.slow
def test_refine_estimates_the_direction_of_a_motion():
    y = degrade.parse("blur:motion,9,angle=35 >> quantize")(photo_part(), 0)
    refined = refine(degrade.parse("blur:motion,3..20,angle=0..180"), y, None)
    assert refined.operator.angle == pytest.approx(35, abs=4)
    assert refined.operator.size == pytest.approx(9, rel=0.05)


def test_refine_keeps_a_blur_of_which_less_is_seen():
    f = degrade.parse("blur:gaussian,1..3 >> downsample:2")
    assert refine(f, torch.rand(1, 3, 32, 32), None).operator == f


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.rand(1, 3, 40, 20, generator=rng()), "20x40 pixels, .* from 32 on each side"),
        (torch.full((1, 3, 40, 40), 0.5), "no detail from which a blur"),
    ],
)
def test_blur_of_an_image_that_shows_nothing_is_not_estimated(y, message):
    with pytest.raises(ValueError, match=message):
        refine(degrade.parse("blur:motion,3..30,angle=0..180"), y, None)


def test_size_at_the_end_of_its_range_is_said_to_be():
    y = degrade.Blur("gaussian", size=4.0)(photo_part())
    refined = refine(degrade.parse("blur:gaussian,1..2"), y, None)
    assert refined.operator.size == 2
    assert refined.words.endswith("the end of a range; a wider range may fit better")


def test_noise_of_grey_photos_is_measured(photo):
    clean = picture(2)[:, 1:2]
    y = degrade.Gaussian(0.08)(clean, 1).clamp(0, 1)
    assert noise_sigma(y, 0.06, photo.suited_to(y)) == pytest.approx(0.08, rel=0.1)
