"""The generator against the published check values and its own laws."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import invert
from invert import StyleGAN2
from invert.latent import SPACES, extend
from tests.conftest import rng

from .checkpoints import stylegan2

CHECK = load_file(Path(__file__).parent.parent / "data" / "avatars-128.check.safetensors")


def random_generator(seed=0, resolution=16, w_dim=8, channel_max=6, conv_clamp=None):
    torch.manual_seed(seed)
    G = StyleGAN2(
        4,
        w_dim,
        resolution,
        mapping={"num_layers": 2},
        synthesis={"channel_base": 64, "channel_max": channel_max, "conv_clamp": conv_clamp},
    )
    for name, tensor in G.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape) * (3.0 if "weight" in name else 0.5))
    return G


def test_bundled_generator_matches_another_code(avatars):
    assert torch.allclose(avatars.mapping(CHECK["z"]), CHECK["w"], atol=1e-4)
    assert torch.allclose(avatars.synthesize(CHECK["w"]) * 2 - 1, CHECK["image"], atol=1e-4)
    assert torch.allclose(
        avatars.synthesize(CHECK["w_plus"]) * 2 - 1, CHECK["image_plus"], atol=1e-4
    )


def test_bundled_generator_follows_the_protocol(avatars):
    assert (avatars.resolution, avatars.num_ws, avatars.num_filters) == (128, 12, 192)
    assert avatars.w_avg.shape == (256,) and avatars.w_spread == pytest.approx(7.5, abs=0.1)
    assert not any(p.requires_grad for p in avatars.parameters())


def test_extend_keeps_the_image(avatars):
    w = CHECK["w"]
    image = avatars.synthesize(w)
    for space in SPACES:
        w = extend(w, space, avatars)
        assert torch.allclose(avatars.synthesize(w), image, atol=1e-5)
    assert w.shape == (3, 12, 192, 256)


@settings(max_examples=20)
@given(
    st.integers(0, 1000),
    st.sampled_from([4, 8, 32]),
    st.integers(1, 9),
    st.sampled_from([None, 2.0]),
)
def test_repeated_codes_give_equal_images(seed, resolution, channel_max, clamp):
    G = random_generator(seed, resolution, channel_max=channel_max, conv_clamp=clamp)
    w = G.mapping(torch.randn(2, 4, generator=rng(seed)))
    image = G.synthesize(w)
    assert image.shape == (2, 3, resolution, resolution)
    for space in SPACES:
        w = extend(w, space, G)
        assert torch.allclose(G.synthesize(w), image, rtol=1e-4, atol=1e-4)
    one = G.synthesize(w[1:])
    assert torch.allclose(one, image[1:], rtol=1e-4, atol=1e-4)


def test_w_plus_plus_filters_use_their_own_code():
    """Filter o of conv1 at 4×4 with only code o equals that channel of W with code o."""
    G = random_generator(resolution=4)
    conv, x = G.synthesis.b4.conv1, torch.randn(1, 6, 4, 4, generator=rng())
    codes = torch.randn(1, 6, 8, generator=rng(1))
    together = conv(x, codes, None)
    for o in range(6):
        assert torch.allclose(together[:, o], conv(x, codes[:, o : o + 1], None)[:, o], atol=1e-4)


def test_w_plus_plus_ignores_codes_without_filter(avatars):
    w = extend(CHECK["w"][:1], "W++", avatars).requires_grad_()
    (g,) = torch.autograd.grad(avatars.synthesize(w).sum(), w)
    is_used = g.abs().sum(-1)[0] > 0  # [num_ws, num_filters]
    assert is_used.sum(1).tolist() == [192, 192, 192, 192, 192, 96, 96, 48, 48, 24, 24, 3]


@pytest.mark.parametrize(
    "architecture, channels", [("skip", 3), ("resnet", 3), ("orig", 1), ("skip", 5)]
)
def test_pack_keeps_only_the_used_codes(architecture, channels):
    G = stylegan2(resolution=16, architecture=architecture, channels=channels, width=7)
    full = torch.randn(2, *G.latent_shape("W++"), generator=rng()).requires_grad_()
    packed = G.pack(full.detach()).requires_grad_()
    image = G.synthesize(packed)
    assert packed.shape == (2, sum(G.filters), G.w_dim)
    assert torch.allclose(image, G.synthesize(full), atol=1e-5)
    (packed_gradient,) = torch.autograd.grad(image.sum(), packed)
    (full_gradient,) = torch.autograd.grad(G.synthesize(full).sum(), full)
    assert packed_gradient.abs().amax(2).gt(0).all()
    assert torch.allclose(G.pack(full_gradient), packed_gradient, atol=1e-4)
    assert torch.equal(G.pack(G.unpack(packed)), packed) and G.unpack(packed).shape == full.shape
    w = full[:, :, 0]
    assert torch.equal(G.pack(w), w) and torch.equal(G.unpack(w), w)


def test_noise_modes_const_random_none():
    G = random_generator()
    w = torch.randn(1, 8, generator=rng())
    const, none = G.synthesize(w), G.synthesize(w, noise_mode="none")
    a, b = (G.synthesize(w, noise_mode="random", generator=rng(s)) for s in (1, 2))
    assert torch.equal(a, G.synthesize(w, noise_mode="random", generator=rng(1)))
    images = [const, none, a, b]
    assert not any(torch.allclose(p, q, atol=0.1) for i, p in enumerate(images) for q in images[:i])
    for m in G.modules():
        if hasattr(m, "noise_strength"):
            m.noise_strength.zero_()
    assert torch.equal(G.synthesize(w), none) and torch.equal(
        G.synthesize(w, noise_mode="none"), none
    )
    with pytest.raises(ValueError, match="noise_mode='loud'"):
        G.synthesize(w, noise_mode="loud")


def test_latent_of_wrong_shape_is_refused(avatars):
    with pytest.raises(ValueError, match=r"give \[B, 256\], \[B, 12, 256\], \[B, 12, 192, 256\]"):
        avatars.synthesize(torch.zeros(1, 512))


def test_load_generator_refuses_other_files(tmp_path):
    with pytest.raises(ValueError, match="neither a file nor one of avatars-128"):
        invert.load_generator("nosuch")
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 9)
    with pytest.raises(ValueError, match="no checkpoint that is known"):
        invert.load_generator(tmp_path / "junk.safetensors")
    config = '{"z_dim": 4, "w_dim": 4, "img_resolution": 8}'
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", {"config": config})
    with pytest.raises(ValueError, match="do not fit its config"):
        invert.load_generator(tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="img_resolution=24 must be a power of two"):
        StyleGAN2(4, 4, 24)
