"""What a generator declares: blocks, noise maps, tunable weights, and statistics of W."""

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import invert
from invert import perceptual
from invert.latent import GaussianCodes, Weights
from invert.point import Point
from tests.conftest import empty_caches
from tests.processes import Forked

from .checkpoints import SHARED_LAYERS, conditional_xl, stylegan2, stylegan3


class TwoStages(invert.Generator):
    """A generator of another family, with other names of tensors than StyleGAN2."""

    resolution, z_dim, blocks = 4, 3, 2

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 48)

    def tunable(self, blocks=None):
        names = [name for name, _ in self.named_parameters()]
        return names if blocks is None else [name for name in names if name.startswith("first.")]


def tuned(generator, blocks):
    """The names of the weights that weight tuning frees."""
    problem = SimpleNamespace(generator=generator)
    _, variables = Weights(blocks).begin(Point(torch.zeros(1, 3)), problem)
    return {name.removeprefix("weight:") for name in variables}


def test_tunable_weights_are_declared():
    assert tuned(TwoStages(), 1) == {"first.weight", "first.bias"}
    assert tuned(TwoStages(), None) == {
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    }


@pytest.mark.parametrize("blocks, sides", [(1, [4]), (2, [4, 8]), (None, [4, 8, 16])])
def test_stylegan2_tunes_its_first_blocks(blocks, sides):
    generator = stylegan2(resolution=16)
    expected = set()
    for name in dict(generator.named_parameters()):
        group, block, *rest = name.split(".")
        paints = rest[0] == "torgb"
        if group == "synthesis" and int(block[1:]) in sides and (blocks is None or not paints):
            expected.add(name)
    assert tuned(generator, blocks) == expected


def test_tunable_without_blocks_is_the_synthesis():
    names = stylegan3(SHARED_LAYERS).tunable(2)
    assert names and all(name.startswith("synthesis.") for name in names)


def test_generator_without_blocks_refuses_features():
    for generator in (stylegan3(SHARED_LAYERS), invert.wrap(nn.Unflatten(1, (3, 2, 2)), 12)):
        assert generator.blocks == 0 and generator.noise_sides == ()
        with pytest.raises(ValueError, match="cannot go on from features"):
            generator.features(torch.zeros(1, 12), 1)
    with pytest.raises(ValueError, match="cannot go on from features"):
        GaussianCodes(block=1).check(stylegan3(SHARED_LAYERS))
    with pytest.raises(ValueError, match="blocks 1 to 2, not 3"):
        GaussianCodes(block=3).check(stylegan2(resolution=16))


def test_statistics_follow_the_generator():
    """The cached mean and deviation of W follow `.double()` and `.to(device)`."""
    generator = stylegan2()
    mean, deviation = generator.w_gaussian
    assert mean.dtype == deviation.dtype == torch.float32
    double, _ = generator.double().w_gaussian
    assert double.dtype == torch.float64 and torch.allclose(double.float(), mean)
    moved = generator.to("meta").w_gaussian
    z = torch.zeros(1, generator.num_ws, generator.w_dim, device="meta")
    assert (z * moved[1] + moved[0]).device.type == "meta"  # one device only, as PULSE needs


@pytest.mark.parametrize("make", [stylegan2, conditional_xl])
def test_statistics_ignore_the_defaults(make):
    """The default dtype, the default device and inference mode change no bit and spoil no cache."""
    expected = make()
    generator = make()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            values = generator.w_spread, generator.w_std, *generator.w_gaussian
    finally:
        torch.set_default_dtype(torch.float32)
    assert values[0] == expected.w_spread and values[1] == expected.w_std
    for value, reference in zip(generator.w_gaussian, expected.w_gaussian, strict=True):
        assert torch.equal(value, reference)
        (torch.ones(value.shape, requires_grad=True) * value).sum().backward()


def first_call_in_inference_mode():
    empty_caches("degrade", "invert")
    torch.set_default_dtype(torch.float64)
    with torch.inference_mode(), torch.device("meta"):
        generator = invert.load_generator("avatars-128")
        networks = (perceptual.load("alex"), perceptual.for_losses("alex", "cpu", torch.float32))
    w = torch.zeros(1, 256, dtype=torch.float32, requires_grad=True)
    image = generator.synthesize(w)
    for network in networks:
        black = image.detach() * 0
        distance = network.distance(network.features(image), network.features(black))
        (gradient,) = torch.autograd.grad(distance.sum(), w, retain_graph=True)
        assert gradient.dtype == distance.dtype == torch.float32 and gradient.abs().sum() > 0


def test_networks_survive_inference_mode(tmp_path):
    """A first call in inference mode, under a default device, leaves the caches usable."""
    exit_code, errors = Forked(tmp_path, first_call_in_inference_mode).wait()
    assert exit_code == 0, errors


@pytest.mark.parametrize("make", [stylegan2, conditional_xl, functools.partial(stylegan2, c_dim=3)])
def test_images_ignore_the_default_dtype(make):
    """Noise, Fourier features and labels keep their bits; a double generator works, too."""
    generator = make()
    label = 1 if generator.c_dim else None

    def image(dtype):
        w = generator.mapping(torch.ones(1, generator.z_dim, dtype=dtype), label)
        rng = torch.Generator().manual_seed(0)
        return generator.synthesize(w, noise_mode="random", generator=rng)

    expected = image(torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(image(torch.float32), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    generator.double()
    assert torch.allclose(image(torch.float64), expected.double(), atol=1e-3)
