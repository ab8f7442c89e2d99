"""Unsharp masking against a restatement with scipy, and its threshold."""

import numpy
import pytest
import torch

from degrade import USM

from . import authors
from .conftest import picture


@pytest.mark.parametrize("index", range(3))
def test_usm_equals_its_formula(index):
    x = picture(index).double()
    expected = authors.usm(x[0].permute(1, 2, 0).numpy())
    y = USM()(x)[0].permute(1, 2, 0).numpy()
    assert numpy.allclose(y, expected, atol=1e-9)
    assert (USM()(x) - x).abs().max() > 0.02


@pytest.mark.parametrize("height, changes", [(19, False), (23, True)])
def test_usm_leaves_edges_below_its_threshold(height, changes):
    """Beside a step, the difference to the blur is just below half of the step."""
    x = torch.full((1, 3, 64, 64), 0.4)
    x[..., 32:] += height / 255
    assert torch.allclose(USM()(x), x, atol=1e-6) is not changes


def test_usm_weight_zero_changes_nothing():
    x = picture(1)
    assert torch.allclose(USM(0)(x), x, atol=1e-6)


def test_usm_names_a_threshold_in_levels():
    with pytest.raises(ValueError, match="10 levels of 255 are 10/255"):
        USM(threshold=10)
