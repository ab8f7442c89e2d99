import pytest
import torch

import invert

from .solving import lively


class Shrink(torch.nn.Module):
    """A denoiser that looks at single pixels: it moves them towards grey."""

    def forward(self, x, sigma):
        weight = 1 / (1 + sigma.view(-1, 1, 1, 1) ** 2)
        return 0.5 + weight * (x - 0.5)


@pytest.fixture(scope="session")
def shrink():
    return invert.Denoiser(Shrink(), sigma_range=(0.005, 1.0))


@pytest.fixture(scope="session")
def photo():
    return invert.load_prior("photo")


@pytest.fixture(scope="session")
def small():
    return lively()
