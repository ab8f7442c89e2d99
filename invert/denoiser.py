"""A diffusion model as a prior: it predicts the noise in an image, at known noise levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """A diffusion model as DDRM asks for it.

    module: (x [B, C, R, R] in [-1, 1] units, t [B] integers) → the noise in x. betas: the variances
    of its steps; by default 1000 from 1e-4 to 0.02 in a straight line.
    """

    prior_kind = "denoiser"
    c_dim = 0  # it has no classes
    alpha_bar: Tensor

    def __init__(
        self, module: nn.Module, resolution: int, channels: int = 3, betas: Tensor | None = None
    ):
        super().__init__()
        if betas is None:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        betas = betas.double()
        if betas.ndim != 1 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas must be variances between 0 and 1, one for each step")
        self.module = module
        self.resolution = resolution
        self.channels = channels
        self.register_buffer("alpha_bar", (1 - betas).cumprod(0))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, t: int) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        noise: Tensor = self.module(x, times)
        return noise

    def noise_level(self, t: int | None) -> float:
        """The deviation of the noise at time t, beside an image of scale 1; 0 at the end (None)."""
        if t is None:
            return 0.0
        alpha = self.alpha_bar[t]
        return float(((1 - alpha) / alpha).sqrt())
