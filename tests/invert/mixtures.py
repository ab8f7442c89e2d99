"""A mixture of Gaussians as prior, whose denoiser and posterior are closed forms."""

import torch
from torch import nn

import invert
from tests.conftest import rng

SHAPE = (1, 1, 4, 4)
SIZE = 16
DEVIATION = 0.15  # of a mode
SIGMA = 0.05  # of the noise in the observation


class Mixture(nn.Module):
    """The denoiser of a mixture of N(mean, 0.15²), equally likely, in [0, 1] units."""

    def __init__(self, means):
        super().__init__()
        self.means = means

    def forward(self, x, sigma):
        squared_sigma = sigma.square()[:, None]
        variance = DEVIATION**2 + squared_sigma
        away = x.flatten(1)[:, None] - self.means
        share = torch.softmax(-away.square().sum(2) / (2 * variance), 1)
        noise = (share[..., None] * away).sum(1) * squared_sigma / variance
        return x - noise.view_as(x)


def one_mode():
    return 0.5 + 0.25 * torch.randn(1, SIZE, generator=rng(0))


def two_modes():
    """Two modes whose means of 2×2 blocks are nearly equal, so `pool:2` hardly tells them apart."""
    first = one_mode()
    second = first.clone()
    second[0, 0] += 0.5
    second[0, 1] -= 0.42
    return torch.cat([first, second])


def mixture(means):
    return invert.Denoiser(Mixture(means), channels=1, sigma_range=(0.005, 50))


def matrix(operator):
    columns = operator(torch.eye(SIZE).view(SIZE, *SHAPE[1:]))
    return columns.flatten(1).T


def observation(f):
    clean = torch.rand(SHAPE, generator=rng(3))
    return f(clean, rng(4))
