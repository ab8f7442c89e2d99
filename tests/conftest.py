import os
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

EFFORT = int(
    os.environ.get("DEGRADE_EFFORT", "1")
)  # so many times the usual number of cases and of kills


def cases(count: int) -> settings:
    return settings(max_examples=count * EFFORT)


# the same cases on every run, so that a failure can be repeated
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

AVATARS = Path(__file__).parent.parent / "examples" / "avatars"


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(index: int) -> torch.Tensor:
    pixels = numpy.array(Image.open(AVATARS / f"{index:03}.png").convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def avatars():
    import invert

    return invert.load_generator("avatars-128")
