"""Observations without information, generators that cannot move, and weights that are NaN."""

import copy
import math

import pytest
import torch

import invert
from degrade import Mask, parse

METHODS = sorted(
    name
    for name, method in invert.METHODS.items()
    if method.prior_kind == "generator" and not name.endswith("-original")
)
QUICK = {"perceptual": "alex", "steps": 3}
FOURFOLD = parse("downsample:4 >> jpeg:18").approx()


def check(r):
    assert r.finite.all() and torch.isfinite(r.latent).all() and torch.isfinite(r.history).all()
    assert torch.isfinite(r.image).all() and 0 <= r.image.min() <= r.image.max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_restore_without_visible_pixels_is_finite(avatars, method):
    check(invert.restore(torch.zeros(1, 3, 32, 32), FOURFOLD, avatars, method, **QUICK))
    hidden = Mask(torch.zeros(1, 1, 128, 128))
    check(invert.restore(torch.zeros(1, 3, 128, 128), hidden, avatars, method, **QUICK))


@pytest.mark.parametrize("method", METHODS)
def test_generator_of_one_image_restores(avatars, method):
    constant = copy.deepcopy(avatars)
    for weight in constant.synthesis.parameters():
        weight.zero_()
    r = invert.restore(torch.full((1, 3, 32, 32), 0.3), FOURFOLD, constant, method, **QUICK)
    check(r)
    if method.startswith("robust"):  # normalised descent divides by the gradient's length, here 0
        assert (r.latent == avatars.w_avg).all()


def test_generator_with_nan_weights_is_named(avatars):
    broken = copy.deepcopy(avatars)
    broken.synthesis.b16.conv0.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="synthesis.b16.conv0.weight holds NaN or infinity"):
        invert.restore(torch.zeros(1, 3, 32, 32), FOURFOLD, broken, **QUICK)
