"""Pixels that were lost below a JPEG or noise, found by a first restoration."""

import pytest
import torch

import degrade
import invert
from degrade.mask import Mask
from invert import pnp
from invert.defects import buried_losses, contrast_left, with_likely_mask
from invert.pnp import PlugAndPlay
from invert.problem import Problem
from tests.conftest import picture, rng, slow_except


@pytest.fixture(scope="module")
def photo():
    return invert.load_prior("photo")


def psnr(x, y):
    return float(-10 * (x - y).square().mean().log10())


@pytest.mark.parametrize(
    ("spec", "position"),
    [
        ("deadpixels:0.1 >> jpeg:50", 0),
        ("downsample:2 >> saltpepper:0.1 >> gaussian:0.02", 1),
        ("deadpixels:0.1 >> resize:scale=0.5", None),  # y does not show where they were
        ("jpeg:50", None),
    ],
)
def test_position_of_the_stage_that_loses_pixels(spec, position):
    assert buried_losses(degrade.parse(spec), (1, 3, 64, 64)) == position


MEAN_OF_NINE = degrade.Blur(torch.full((3, 3), 1 / 9))


@pytest.mark.parametrize(
    ("following", "left"), [(degrade.Gaussian(0.02), 1.0), (MEAN_OF_NINE, 1 / 9)]
)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_contrast_that_is_left_of_a_lost_pixel(photo, following, left, value):
    """Noise keeps all of it; a mean of nine pixels a ninth."""
    f = degrade.SaltPepper(0.02) >> following
    grey = torch.full((1, 3, 128, 128), 0.5)
    problem = Problem(observation=grey, operator=f, prior=photo, seeds=(0,))
    assert contrast_left(problem, 0, grey, value) == pytest.approx(left, abs=0.03)


@pytest.mark.parametrize("spec", ["saltpepper:0.06 >> gaussian:0.03", "deadpixels:0.05 >> jpeg:80"])
def test_true_image_shows_which_pixels_were_lost(photo, spec):
    clean = 0.3 + 0.4 * picture(0)[..., :96, :96]
    f = degrade.parse(spec)
    lossy, following = f[0], degrade.parse(spec.split(" >> ")[1])
    lost_image = lossy(clean, rng(0))
    is_lost = (lost_image != clean).all(1, keepdim=True)
    y = following(lost_image, rng(1))
    problem = Problem(observation=y, operator=f, prior=photo, seeds=(0,))
    found, note = with_likely_mask(problem, 0, clean)
    mask = found.operator[0]
    assert isinstance(mask, Mask)
    is_masked = mask.mask < 0.5
    assert (is_masked & is_lost).sum() > 0.95 * is_lost.sum()
    assert (is_masked & ~is_lost).sum() < 0.005 * is_lost.numel()
    assert note == f"{int(is_masked.sum())} pixels without a value found and filled in"


FINDABLE = ("deadpixels:0.05 >> jpeg:75", "saltpepper:0.05 >> gaussian:0.05")


@pytest.mark.parametrize("spec", slow_except(FINDABLE[:1], FINDABLE))
def test_finding_lost_pixels_restores_better(photo, monkeypatch, spec):
    """The steps of all rounds count as one progress, which only rises."""
    clean = picture(2)[..., :64, :64]
    f = degrade.parse(spec)
    y = f(clean, rng(0))
    method = PlugAndPlay(steps=2)
    shares = []

    def keep(step):
        shares.append(step.step / step.total)

    found = invert.restore(y, f.approx(), photo, method, callback=keep)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "pixels without a value found" in found.notes[0]
    monkeypatch.setattr(pnp, "MASK_ROUNDS", 0)
    unfound = invert.restore(y, f.approx(), photo, method)
    assert psnr(found.image, clean) > psnr(unfound.image, clean) + 2


def test_pixels_lost_before_and_after_a_jpeg_are_both_masked(photo):
    """Those after it are found at once, and kept out of the search for those before it."""
    clean = 0.3 + 0.4 * picture(2)[..., :48, :48]
    f = degrade.parse("deadpixels:0.05 >> jpeg:90 >> hotpixels:0.05")
    y = f(clean, rng(0))
    restored = invert.restore(y, f.approx(), photo, PlugAndPlay(steps=2))
    assert sum("pixels without a value" in note for note in restored.notes) == 2
    assert psnr(restored.image, clean) > psnr(y, clean) + 10


@pytest.mark.slow
def test_lost_pixels_that_cannot_be_told_are_left_as_noise(photo):
    """Looking for 30 % of the pixels below a coarse JPEG would lose 3 dB here."""
    clean = picture(2)
    f = degrade.parse("saltpepper:0.3 >> jpeg:20")
    restored = invert.restore(f(clean, rng(0)), f.approx(), photo, PlugAndPlay(steps=3))
    assert not any("pixels without a value" in note for note in restored.notes)
