"""Normalised gradient descent: every code moves by exactly the learning rate."""

from __future__ import annotations

import torch
from torch import Tensor


def ngd(latent: Tensor, grad: Tensor, lr: float) -> Tensor:
    """v ← v - lr·g/‖g‖ for every code v (last axis) on its own; a code with no gradient stays.

    The loss's scale cancels, and a code travels at most lr·steps: that bound is the method's only
    regulariser. Source: Poirier-Ginter & Lalonde 2023, Algorithm 1.
    """
    grad = torch.nan_to_num(grad, posinf=0.0, neginf=0.0)
    largest = grad.abs().amax(-1, keepdim=True)
    grad = torch.where(largest > 0, grad / largest, 0.0)  # squares of tiny gradients would vanish
    norm = torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
    return latent - lr * torch.where(norm > 0, grad / norm, 0.0)
