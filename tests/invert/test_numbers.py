"""Observations without information, generators that cannot move, and weights that are NaN."""

import copy
import math

import pytest
import torch

import invert
from degrade import Mask, parse

from .solving import quick

METHODS = sorted(
    name
    for name, method in invert.METHODS.items()
    if method.prior_kind == "generator" and not name.endswith("-original")
)
QUICK = {"perceptual": "alex", "steps": 3}
HALVED = parse("downsample:2 >> jpeg:18").approx()


def check(r):
    assert r.finite.all() and torch.isfinite(r.latent).all() and torch.isfinite(r.history).all()
    assert torch.isfinite(r.image).all() and 0 <= r.image.min() <= r.image.max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_restore_without_visible_pixels_is_finite(small, method):
    check(invert.restore(torch.zeros(1, 3, 16, 16), HALVED, small, quick(method), **QUICK))
    hidden = Mask(torch.zeros(1, 1, 32, 32))
    check(invert.restore(torch.zeros(1, 3, 32, 32), hidden, small, quick(method), **QUICK))


@pytest.mark.parametrize("method", METHODS)
def test_generator_of_one_image_restores(small, method):
    constant = copy.deepcopy(small)
    for weight in constant.synthesis.parameters():
        weight.zero_()
    y = torch.full((1, 3, 16, 16), 0.3)
    r = invert.restore(y, HALVED, constant, quick(method), **QUICK)
    check(r)
    if method.startswith("robust"):  # normalised descent divides by the gradient's length, here 0
        assert (r.latent == small.w_avg).all()


def test_generator_with_nan_weights_is_named(small):
    broken = copy.deepcopy(small)
    broken.synthesis.b16.conv0.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="synthesis.b16.conv0.weight holds NaN or infinity"):
        invert.restore(torch.zeros(1, 3, 16, 16), HALVED, broken, **QUICK)
