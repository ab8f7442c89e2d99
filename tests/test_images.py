"""Warnings about the scale of an image, where a picture and noise cannot be told apart for sure."""

import warnings

import pytest
import torch

from degrade import parse
from degrade.images import warn_if_signed
from pipelines.files import read_image
from tests.conftest import AVATARS, rng

PICTURES = [read_image(AVATARS / name) for name in ("000.png", "001.png", "003.png")]


def warns(x: torch.Tensor) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_signed(x, "observation")
    return any("give (observation + 1) / 2" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("x", PICTURES)
def test_signed_float_picture_is_warned_of(x):
    """Resized, so that its values are on no grid of 8 bits; in [-1, 1], or without its mean."""
    x = parse("resize:100,filter=lanczos")(x)
    imagenet = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    for signed in (2 * x - 1, (x - imagenet) / 0.225, x - x.mean()):
        assert warns(signed) and warns(signed + 0.1 * torch.randn(x.shape, generator=rng()))


@pytest.mark.parametrize("x", [*PICTURES, torch.zeros(1, 3, 128, 128), torch.zeros(1, 1, 16, 16)])
def test_noise_on_a_picture_is_not_warned_of(x):
    for spec in (
        "gaussian:0.1",
        "gaussian:0.5",
        "gaussian:1",
        "gaussian:0.3 >> blur:gaussian,1",
        "speckle:1",
    ):
        noisy = parse(spec)(0.2 * x, 3)
        assert not warns(noisy) and not warns(noisy.clamp(-1, 1))


def test_measurements_are_not_warned_of():
    assert not warns(parse("compressedsensing:0.3")(PICTURES[0], 3))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensor_is_refused_in_one_line():
    x = torch.nested.nested_tensor([torch.rand(3, 4, 4), torch.rand(3, 5, 4)])
    with pytest.raises(ValueError, match="^x is a nested tensor; .* torch.stack"):
        parse("clamp")(x)
