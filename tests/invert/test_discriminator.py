"""The discriminator in a generator's file: it loads, and its features equal the formulas."""

import numpy
import pytest
import torch

import invert
from degrade import parse
from invert.generator import load_discriminator
from invert.generator.discriminator import Discriminator
from tests.conftest import rng

from . import reference
from .checkpoints import KERNEL, nvidia, persistent, stylegan2, write


def tensors(architecture, resolution=16, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    weights, side, width = {}, resolution, 4
    while side > 4:
        block = f"b{side}"
        shapes = {"conv0": (width, width, 3), "conv1": (width + 1, width, 3)}
        if architecture == "skip" or side == resolution:
            shapes["fromrgb"] = (width, channels, 1)
        for name, (out, features, k) in shapes.items():
            weights[f"{block}.{name}.weight"] = torch.randn(out, features, k, k, generator=g)
            weights[f"{block}.{name}.bias"] = torch.randn(out, generator=g)
        if architecture == "resnet":
            weights[f"{block}.skip.weight"] = torch.randn(width + 1, width, 1, 1, generator=g)
            weights[f"{block}.skip.resample_filter"] = KERNEL
        weights[f"{block}.conv1.resample_filter"] = weights[f"{block}.resample_filter"] = KERNEL
        side, width = side // 2, width + 1
    # the final layers, which the features do not need
    weights["b4.conv.weight"] = torch.randn(width, width + 1, 3, 3, generator=g)
    weights["b4.out.weight"] = torch.randn(1, width, generator=g)
    return weights


def pickled(state, clamp=None):
    """The object that NVIDIA's code pickles for a discriminator."""

    def node(prefix):
        path = f"{prefix}." if prefix else ""
        part = {k.removeprefix(path): v for k, v in state.items() if k.startswith(path)}
        children = dict.fromkeys(k.split(".")[0] for k in part if "." in k)
        return persistent(
            "Layer" if prefix else "Discriminator",
            {
                "_parameters": {k: torch.nn.Parameter(v) for k, v in part.items() if "." not in k},
                "_buffers": {},
                "_modules": {k: node(path + k) for k in children},
                "activation": "lrelu",
                "conv_clamp": clamp,
            },
        )

    return node("")


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_discriminator_features_equal_the_formulas(architecture, clamp):
    state = tensors(architecture)
    image = torch.rand(2, 3, 16, 16, generator=rng())
    outputs = Discriminator(state, clamp).features(image)
    for i in range(2):
        expected = reference.discriminator(state, image[i] * 2 - 1, clamp)
        assert len(outputs) == len(expected) == 2
        for mine, theirs in zip(outputs, expected, strict=True):
            assert numpy.allclose(mine[i].double().numpy(), theirs, atol=1e-4)


def test_discriminator_loads_from_the_generator_file(tmp_path):
    state = tensors("resnet", resolution=16)
    G = stylegan2(resolution=16, clamp=0.9)
    path = write(tmp_path / "g.pkl", {"G_ema": nvidia(G), "D": pickled(state, 0.7)})
    image = torch.rand(1, 3, 16, 16, generator=rng())
    D = invert.load_generator(path).discriminator()
    for mine, theirs in zip(
        D.features(image), Discriminator(state, 0.7).features(image), strict=True
    ):
        assert torch.equal(mine, theirs)
    resized = D.features(torch.rand(1, 3, 5, 5))  # images of other sizes are resized to 16
    assert [features.shape[2] for features in resized] == [8, 4]
    alone = write(tmp_path / "a.pkl", {"G_ema": nvidia(G), "D": None})
    assert load_discriminator(alone) is None and load_discriminator("avatars-128") is None
    assert stylegan2().discriminator() is None
    odd = write(tmp_path / "o.pkl", {"G_ema": nvidia(G), "D": persistent("D", {"_modules": {}})})
    with pytest.raises(ValueError, match="discriminator in"):
        load_discriminator(odd)


def test_dgp_uses_the_discriminator_and_notes_it(tmp_path):
    G = stylegan2(resolution=16)
    path = write(
        tmp_path / "g.pkl", {"G_ema": nvidia(G), "D": pickled(tensors("resnet", resolution=16))}
    )
    y = torch.rand(1, 3, 8, 8, generator=rng())
    args = dict(
        observation=y,
        operator=parse("downsample:2").approx(),
        method="dgp",
        steps=5,
        perceptual="alex",
    )
    with_discriminator = invert.restore(prior=invert.load_generator(path), **args)
    without = invert.restore(prior=G, **args)
    assert with_discriminator.notes == ("deep features are the discriminator's",)
    assert without.notes == ("deep features are those of alex, for want of a discriminator",)
    assert not torch.equal(with_discriminator.history, without.history)
    assert invert.restore(prior=G, **args | {"method": "pulse"}).notes == ()
