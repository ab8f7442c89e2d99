"""Muon: momentum whose steps are orthogonal matrices, for the hidden layers of a network.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale of
the steps is that of Liu et al. 2025, "Muon is Scalable for LLM Training".
`torch.optim.Muon` (PyTorch 2.9) multiplies in bfloat16, which takes 15 times as long on a processor
without bfloat16 (567 ms instead of 36 for a matrix of 192 × 1728), and takes no kernels of
convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # p(s) = a s + b s³ + c s⁵, by Jordan et al.
STEP_SIZE = 0.2  # the root mean square of a step, as Adam's steps have it: by Liu et al.
# What is smaller counts as 0. Units of a network that never act leave such numbers, and processors
# are up to 100 times slower with those below 1e-38, or with products that are.
NEGLIGIBLE = 1e-15


def orthogonalised(matrix: Tensor) -> Tensor:
    """Move all singular values of a matrix [n, m] to between 0.7 and 1.2, approximately.

    The matrix is divided by its Frobenius norm, and each singular value s becomes p(p(p(p(p(s))))).
    With X the divided matrix and A = X Xᵀ, one step of this Newton-Schulz iteration is X ← P X with
    P = a I + b A + c A². Since A ← P A P, the steps need only the small matrix A: X is multiplied
    once, at the end, by the product of all P.
    """
    height, width = matrix.shape
    is_tall = height > width
    wide = matrix.T if is_tall else matrix
    norm = wide.norm() + 1e-7
    wide = F.hardshrink(wide / norm, NEGLIGIBLE)
    a, b, c = COEFFICIENTS
    gram = wide @ wide.T
    identity = torch.eye(len(gram))
    product = identity.to(gram)
    for _ in range(ITERATIONS):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    result: Tensor = product @ wide
    return result.T if is_tall else result


class Muon(torch.optim.Optimizer):
    """w ← w - rate · 0.2 √max(n, m) · orthogonalised(g + β M), where M ← β M + g.

    The kernel of a convolution [out, in, k, k] counts as a matrix [out, in·k·k]; that of a
    transposed convolution [in, out, k, k] as [in, out·k·k].
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        defaults = {"lr": lr, "momentum": momentum}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient. A closure has no effect."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    matrix = self._with_momentum(parameter, group["momentum"]).flatten(1)
                    direction = orthogonalised(matrix)
                    longest_side = max(matrix.shape)
                    length = STEP_SIZE * math.sqrt(longest_side)
                    rate = group["lr"] * length
                    parameter.sub_(direction.view_as(parameter), alpha=rate)

    def _with_momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Update M, and return g + β M."""
        gradient = parameter.grad
        assert gradient is not None, "the caller leaves out parameters without a gradient"
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        velocity: Tensor = state["momentum"]
        velocity.mul_(momentum)
        velocity.add_(gradient)
        velocity.copy_(F.hardshrink(velocity, NEGLIGIBLE))
        return gradient + momentum * velocity
