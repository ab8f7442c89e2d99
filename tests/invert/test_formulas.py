"""Generators of every kind equal a second implementation of their papers' formulas."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import invert
from degrade import Clamp
from tests.conftest import rng

from . import reference
from .checkpoints import GROWN_LAYERS, SHARED_LAYERS, conditional_xl, stylegan2, stylegan3


@settings(max_examples=25)
@given(
    st.integers(0, 99),
    st.sampled_from([4, 8, 16]),
    st.sampled_from(["skip", "resnet", "orig"]),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 3]),
    st.sampled_from([None, 0.7]),
    st.booleans(),
)
def test_stylegan2_equals_the_formulas(
    seed, resolution, architecture, channels, c_dim, clamp, noise
):
    G = stylegan2(seed, resolution, architecture, channels, c_dim, clamp, noise)
    z = torch.randn(2, 5, generator=rng(seed))
    label = [2, 0] if c_dim else None
    w = G.mapping(z, label)
    expected = [
        reference.mapping(G.state_dict(), z[i], torch.eye(3)[label[i]] if c_dim else None)
        for i in range(2)
    ]
    assert numpy.allclose(w, expected, rtol=1e-4, atol=1e-5)
    ws = torch.randn(2, G.num_ws, 7, generator=rng(seed + 1))
    expected = numpy.stack([reference.stylegan2(G.state_dict(), codes, clamp) for codes in ws])
    assert numpy.allclose(G.synthesize(ws) * 2 - 1, expected, atol=1e-4)


@pytest.mark.parametrize("names", [SHARED_LAYERS, GROWN_LAYERS])
@pytest.mark.parametrize("kernel, radial", [(3, False), (1, True)])
def test_stylegan3_equals_the_formulas(names, kernel, radial):
    G = stylegan3(names, kernel, radial)
    config = {
        "input": {"size": 36, "sampling_rate": 16, "bandwidth": 2.0},
        "output_scale": 0.25,
        "layers": [vars(getattr(G.synthesis, name).layer) for name in names],
    }
    ws = torch.randn(2, G.num_ws, 7, generator=rng())
    expected = numpy.stack([reference.stylegan3(G.state_dict(), codes, config) for codes in ws])
    assert numpy.allclose(G.synthesize(ws) * 2 - 1, expected, atol=1e-4)
    assert G.synthesize(ws).shape[2] == int(names[-1].split("_")[1])


@pytest.mark.parametrize(
    "resolution, options, names",
    [
        (
            1024,
            {},
            "L0_36_512 L1_36_512 L2_52_512 L3_52_512 L4_84_512 L5_148_512 L6_148_512 "
            "L7_276_323 L8_276_203 "
            "L9_532_128 L10_1044_81 L11_1044_51 L12_1044_32 L13_1024_32 L14_1024_3",
        ),
        (
            256,
            {"channel_base": 16384},
            "L0_36_512 L1_36_512 L2_36_512 L3_52_512 L4_52_512 L5_84_512 L6_84_512 L7_148_362 "
            "L8_148_256 L9_148_181 L10_276_128 L11_276_91 L12_276_64 L13_256_64 L14_256_3",
        ),
    ],
)
def test_stylegan3_layers_follow_from_names(resolution, options, names):
    expected = published_layers(resolution, **options)
    assert [layer["name"] for layer in expected] == names.split()
    with torch.device("meta"):
        state = {}
        for layer in expected:
            shape = layer["out"], layer["features"], layer["kernel"], layer["kernel"]
            state[f"synthesis.{layer['name']}.weight"] = torch.zeros(shape)
            for way in ("up", "down"):
                if layer[f"{way}_taps"]:
                    state[f"synthesis.{layer['name']}.{way}_filter"] = torch.zeros(
                        layer[f"{way}_taps"]
                    )
    start, layers = invert.generator.stylegan3.layers_of(state)
    assert layers == expected
    assert (start["size"], start["sampling_rate"], start["bandwidth"]) == (36, 16, 2.0)


def published_layers(resolution, channel_base=32768, channel_max=512, count=14, critical=2):
    """StyleGAN3-T's constructor, as its paper's table and code describe it."""
    last = resolution / 2
    share = numpy.minimum(numpy.arange(count + 1) / (count - critical), 1)
    cutoffs = 2 * (last / 2) ** share
    stopbands = 2**2.1 * (last * 2**0.3 / 2**2.1) ** share
    rates = numpy.exp2(numpy.ceil(numpy.log2(numpy.minimum(stopbands * 2, resolution)))).astype(int)
    sizes = rates + 20
    sizes[-2:] = resolution
    widths = numpy.rint(numpy.minimum(channel_base / 2 / cutoffs, channel_max)).astype(int)
    widths[-1] = 3
    layers = []
    for i in range(count + 1):
        before, torgb = max(i - 1, 0), i == count
        rate_between = max(rates[before], rates[i]) * (1 if torgb else 2)
        up, down = rate_between // rates[before], rate_between // rates[i]
        up_taps = 6 * up if up > 1 and not torgb else 1
        down_taps = 6 * down if down > 1 and not torgb else 1
        size_after_convolution = sizes[before] + (0 if torgb else 2)
        needed = (sizes[i] - 1) * down + 1 + up_taps + down_taps - 2
        padding = needed - size_after_convolution * up
        low = (padding + up) // 2
        layers.append(
            {
                "name": f"L{i}_{sizes[i]}_{widths[i]}",
                "features": widths[before],
                "out": widths[i],
                "kernel": 1 if torgb else 3,
                "up": up,
                "down": down,
                "padding": [low, padding - low] * 2,
                "up_taps": [up_taps] if up_taps > 1 else [],
                "down_taps": [down_taps] if down_taps > 1 else [],
                "clamp": 256.0,
                "torgb": torgb,
            }
        )
    return layers


@settings(max_examples=10)
@given(st.integers(0, 99), st.booleans())
def test_generator_images_ignore_their_batch(seed, is_stylegan3):
    G = stylegan3(SHARED_LAYERS) if is_stylegan3 else stylegan2(seed)
    ws = torch.randn(3, G.num_ws, 7, generator=rng(seed))
    together = G.synthesize(ws)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], G.synthesize(ws[i : i + 1]), atol=1e-5)


def test_truncation_goes_to_the_class_mean():
    xl = conditional_xl()
    for G, label in ((stylegan2(), None), (xl, [3, 1])):
        z = torch.randn(2, G.z_dim, generator=rng())
        w, half, mean = (G.mapping(z, label, truncation_psi=psi) for psi in (1, 0.5, 0))
        center = G.w_avg.expand(2, -1) if label is None else G.w_avg[label]
        assert torch.allclose(mean, center) and torch.allclose(half, (w + center) / 2, atol=1e-5)


def test_labels_take_classes_and_features():
    G, z = stylegan2(c_dim=3), torch.randn(2, 5, generator=rng())
    assert torch.equal(G.mapping(z, 2), G.mapping(z, torch.tensor([2, 2])))
    assert torch.equal(G.mapping(z, [2, 0]), G.mapping(z, torch.eye(3)[[2, 0]]))
    for bad in (None, 3, -1, [0, 1, 2], 0.5, torch.eye(4)[:2]):
        with pytest.raises(ValueError, match="class_label"):
            G.mapping(z, bad)
    with pytest.raises(ValueError, match="has no classes"):
        stylegan2().mapping(z, 1)
    with pytest.raises(ValueError, match="class_label holds NaN or infinity"):
        G.mapping(z, torch.full((2, 3), torch.nan))


def test_wrap_makes_any_module_a_generator():
    module = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(10, 3, 8), torch.nn.BatchNorm2d(3), torch.nn.Tanh()
    )
    G = invert.wrap(module, z_shape=(10, 1, 1))
    z = torch.randn(4, 10, generator=rng())
    assert G.spaces == ("Z",) and (G.resolution, G.channels, G.z_dim) == (8, 3, 10)
    assert torch.equal(G.synthesize(z), (module(z[..., None, None]) + 1) / 2)
    with pytest.raises(
        ValueError, match=r"method='calibrated' needs W, W\+: this generator has no W, only Z"
    ):
        invert.restore(torch.rand(1, 3, 8, 8), Clamp(), G)
    for options, words in [
        ({}, "one of the two"),
        ({"z_dim": 0}, "above 0"),
        ({"z_dim": 10}, "square images"),
        ({"z_dim": 10, "image_range": (1, 0)}, "black below white"),
    ]:
        with pytest.raises(ValueError, match=words):
            invert.wrap(torch.nn.Linear(10, 4), **options)
