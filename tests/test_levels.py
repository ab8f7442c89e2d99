"""Surrogate gradients against their closed forms, in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import Clamp, Quantize

values = st.lists(st.floats(-2, 3), min_size=1, max_size=12).map(
    lambda v: torch.tensor(v, dtype=torch.float64).view(1, 1, 1, -1)
)


def gradient(f, x, weight):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((f(x) * weight).sum(), x)[0]


@given(values)
def test_clamp_gradient_is_sigmoid_slope(x):
    weight = torch.arange(1, x.numel() + 1, dtype=x.dtype).view_as(x)
    assert torch.equal(Clamp()(x), x.clamp(0, 1))
    e = torch.exp(-2 * (x - 0.5))
    assert torch.allclose(gradient(Clamp(), x, weight), weight * 2 * e / (1 + e) ** 2, rtol=1e-12)


def test_clamp_gradient_at_published_points():
    x = torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 3)
    slopes = gradient(Clamp(), x, torch.ones_like(x)).flatten()
    assert torch.allclose(
        slopes, torch.tensor([0.5, 0.3932, 0.3932], dtype=torch.float64), atol=1e-4
    )


@given(values, st.integers(2, 300))
def test_quantize_rounds_half_to_even(x, levels):
    steps = x * (levels - 1)
    nearest = torch.tensor([round(v) for v in steps.flatten().tolist()], dtype=x.dtype).view_as(x)
    assert torch.equal(Quantize(levels)(x), nearest / (levels - 1))
    expected = 0.2 + 2.4 * (steps - nearest) ** 2
    assert torch.allclose(gradient(Quantize(levels), x, torch.ones_like(x)), expected, rtol=1e-9)
    straight = gradient(Quantize(levels, "ste"), x, torch.ones_like(x))
    # (1 / 49) * 49 is 1 - 2^-53: the two scalings round once each
    assert torch.allclose(straight, torch.ones_like(x), rtol=0, atol=2.0**-52)


def test_quantize_keeps_eight_bit_images():
    x = (torch.arange(256) / 255).view(1, 1, 16, 16)
    assert torch.equal(Quantize()(x), x) and torch.equal((Clamp() >> Quantize())(x), x)


def test_surrogates_reject_second_derivatives():
    x = torch.rand(1, 1, 2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad((Clamp()(x) * x).sum(), x, create_graph=True)
