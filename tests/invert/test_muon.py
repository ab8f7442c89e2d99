"""Muon against its definition by singular values, and against PyTorch's."""

import pytest
import torch
from torch import nn

from invert.muon import Muon, orthogonalised
from tests.conftest import rng


def by_singular_values(matrix):
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (1, 5)])
def test_orthogonalised_maps_singular_values(shape):
    matrix = torch.randn(shape, generator=rng(), dtype=torch.float64)
    expected = by_singular_values(matrix)
    torch.testing.assert_close(orthogonalised(matrix), expected, rtol=1e-5, atol=1e-5)


def test_orthogonalised_accepts_zero():
    assert torch.equal(orthogonalised(torch.zeros(3, 4)), torch.zeros(3, 4))


def after_steps(make_optimiser, start, gradients):
    parameter = nn.Parameter(start.clone())
    optimiser = make_optimiser([parameter])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


def test_muon_treats_a_kernel_as_a_matrix():
    start = torch.randn(8, 3, 3, 3, generator=rng())
    gradients = torch.randn(4, 8, 3, 3, 3, generator=rng(1))
    kernel = after_steps(lambda p: Muon(p, 0.1), start, gradients)
    matrix = after_steps(lambda p: Muon(p, 0.1), start.flatten(1), gradients.flatten(2))
    assert torch.equal(kernel.flatten(1), matrix)


def test_unit_that_never_acts_keeps_no_subnormal_momentum():
    """Numbers below 1e-38 take a processor up to 100 times as long."""
    parameter = nn.Parameter(torch.randn(16, 40, generator=rng()))
    optimiser = Muon([parameter], 0.1, momentum=0.5)
    gradient = torch.randn(16, 40, generator=rng(1))
    for _ in range(140):  # 2⁻¹⁴⁰ is subnormal
        parameter.grad = gradient.clone()
        optimiser.step()
        gradient[:8] = 0  # the first units never act again
    momentum = optimiser.state[parameter]["momentum"]
    smallest = torch.finfo(torch.float32).tiny
    is_subnormal = (momentum != 0) & (momentum.abs() < smallest)
    assert not is_subnormal.any()
    assert momentum[8:].abs().min() > 0


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon since 2.9")
def test_muon_agrees_with_torch():
    """PyTorch's Muon multiplies in bfloat16, so the steps differ by about one percent."""
    start = torch.randn(16, 40, generator=rng())
    gradients = torch.randn(6, 16, 40, generator=rng(1))

    def of_torch(parameters):
        options = {"momentum": 0.95, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
        return torch.optim.Muon(parameters, lr=0.1, **options)

    ours = after_steps(lambda p: Muon(p, 0.1), start, gradients) - start
    theirs = after_steps(of_torch, start, gradients) - start
    assert (ours - theirs).norm() < 0.02 * theirs.norm()
