"""Oriented, generalised and plateau kernels against the formulas of their authors."""

import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import Blur, parse

from .authors import bivariate_kernel
from .conftest import rng

sigmas = st.floats(0.1, 8)
odd_sides = st.sampled_from(range(7, 22, 2))


def response(f, side):
    """What a bright point becomes, far from the edges of the image."""
    whole = 2 * side + 1
    x = torch.zeros(1, 1, whole, whole, dtype=torch.float64)
    x[..., side, side] = 1
    start = side - side // 2
    around = slice(start, start + side)
    return f(x)[0, 0, around, around].numpy()


@pytest.mark.parametrize("kind", ["gaussian", "plateau"])
@given(odd_sides, sigmas, sigmas, st.floats(-math.pi, math.pi), st.floats(0.5, 4))
def test_oriented_kernel_equals_published_formula(kind, side, sigma_x, sigma_y, theta, beta):
    """Our angles are counterclockwise on the screen, where the rows of a matrix grow downwards."""
    expected = bivariate_kernel(kind, side, sigma_x, sigma_y, theta, beta)
    f = Blur(kind, sigma_x, across=sigma_y, angle=-math.degrees(theta), beta=beta, side=side)
    assert numpy.allclose(response(f, side), expected, atol=1e-12)


@given(odd_sides, sigmas)
def test_round_kernel_with_side_equals_formula(side, sigma):
    expected = bivariate_kernel("gaussian", side, sigma, sigma, 0, 1)
    assert numpy.allclose(response(Blur("gaussian", sigma, side=side), side), expected, atol=1e-12)


@given(sigmas)
def test_kernel_without_side_ends_at_four_sigma(sigma):
    side = 2 * int(4 * sigma + 0.5) + 1
    same = Blur("gaussian", sigma, across=sigma, side=side)
    assert numpy.allclose(response(Blur("gaussian", sigma), side), response(same, side), atol=1e-12)


def test_kernel_across_zero_blurs_along_the_angle_only():
    kernel = response(Blur("gaussian", 2, across=0, angle=90, side=9), 9)
    assert kernel[:, 4].sum() == pytest.approx(1) and kernel[0, 4] > 0


@pytest.mark.parametrize(
    "text, words",
    [
        ("blur:gaussian,2,angle=30", "angle=30 belongs to motion, or to a kernel with across"),
        ("blur:motion,5,across=2", "across=2 belongs to gaussian, plateau, disc"),
        ("blur:defocus,5,side=9", "side=9 belongs to gaussian, plateau, trail"),
        ("blur:defocus,5,angle=9", "angle=9 belongs to gaussian, plateau, motion, trail"),
        ("blur:trail,2,across=3", "across=3 belongs to gaussian, plateau, disc"),
        ("blur:gaussian,2,side=8", "side=8 must be an odd integer"),
        ("blur:gaussian,2,beta=0", "beta=0 must be a number from 0.05"),
        ("blur:1|2|3|4|5|6|7|8|9,side=5", "side=5 belongs to a kernel with a name"),
    ],
)
def test_kernel_refuses_parameters_of_others(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_kernel_forms_apply_per_image():
    x = torch.rand(2, 3, 9, 8, generator=rng())
    together = Blur("plateau", (1, 2), across=(2, 0.5), angle=(0, 40), beta=(1, 2), side=9)(x)
    for i, each in enumerate(
        [
            Blur("plateau", 1, across=2, angle=0, beta=1, side=9),
            Blur("plateau", 2, across=0.5, angle=40, beta=2, side=9),
        ]
    ):
        assert torch.equal(together[i : i + 1], each(x[i : i + 1]))
