"""Blur with subsampling against a restatement, and where its pixels lie."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import Subsample

from . import authors
from .conftest import picture, rng


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@given(st.floats(0.1, 3), st.integers(1, 40), st.integers(1, 40))
def test_subsample_equals_its_formula(factor, size, height, width):
    x = torch.rand(1, 3, height, width, generator=rng(height), dtype=torch.float64)
    kernel = authors.shifted_gaussian(size, factor)
    blurred = authors.convolve(x[0].permute(1, 2, 0).numpy(), kernel)
    y = Subsample(factor, size)(x)[0].permute(1, 2, 0).numpy()
    assert numpy.allclose(y, blurred[::factor, ::factor], atol=1e-10)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_subsample_sees_the_centre_of_each_cell(factor):
    """A ramp stays a ramp through the centres of the cells, away from the edges."""
    ramp = torch.arange(96, dtype=torch.float64) / 96
    x = ramp.expand(1, 1, 96, 96)
    y = Subsample(factor, 1.0)(x)[0, 0, 5]
    centres = torch.nn.functional.avg_pool1d(ramp[None], factor)[0]
    inner = slice(13, len(y) - 13)
    assert torch.allclose(y[inner], centres[inner], atol=1e-9)


def test_subsample_sides_are_rounded_up():
    assert Subsample(4, 1).output_shape((1, 3, 9, 8)) == (1, 3, 3, 2)
    assert Subsample(4, 1)(picture(0)[..., :9, :8]).shape == (1, 3, 3, 2)
