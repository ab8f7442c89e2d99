"""Denoisers whose large kernels are stored as 8-bit integers with scales."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import invert
from invert.networks.drunet import UNetRes
from tests.conftest import picture, rng


def test_large_kernels_are_stored_in_8_bits(tmp_path):
    """Each weight within half a step of its filter, which is the filter's largest over 127."""
    photo = invert.load_prior("photo")  # its own weights are rounded to 8 bits
    for weight in photo.module.parameters():
        weight.add_(1e-3 * torch.randn(weight.shape, generator=rng()))
    path, half = tmp_path / "small.safetensors", tmp_path / "half.safetensors"
    invert.save_denoiser(photo, path, torch.int8)
    invert.save_denoiser(photo, half, torch.float16)
    assert path.stat().st_size < 0.62 * half.stat().st_size
    small = dict(invert.load_prior(path).module.named_parameters())
    for name, weight in photo.module.named_parameters():
        step = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
        bound = 0.501 * step if weight.numel() > 50_000 else weight.abs() * 2**-11 + 2**-25
        assert ((small[name] - weight).abs() <= bound).all(), name


def test_8_bit_weights_denoise_as_well(tmp_path):
    photo = invert.load_prior("photo")
    path = tmp_path / "small.safetensors"
    invert.save_denoiser(photo, path, torch.int8)
    noisy = picture(0) + 0.1 * torch.randn(picture(0).shape, generator=rng())
    errors = []
    for denoiser in (photo, invert.load_prior(path)):
        estimate = denoiser.denoise(noisy, 0.1)
        errors.append((estimate - picture(0)).square().mean().item())
    assert errors[1] == pytest.approx(errors[0], rel=0.002)  # 0.01 dB


def a_denoiser(dtype):
    """One with a single large kernel, of weights of a usual size."""
    network = UNetRes(nc=(8, 8, 8, 96), nb=1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(1e-4 * torch.randn(weight.shape, generator=rng()))
    return invert.Denoiser(network.to(dtype), multiple=8, takes_map=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_rounded_to_the_nearest_integer(dtype, tmp_path):
    """A scale of 16 bits is so inexact that the largest weight became 128 of it: -128 in int8."""
    denoiser = a_denoiser(dtype)
    path = tmp_path / "small.safetensors"
    invert.save_denoiser(denoiser, path, torch.int8)
    weight = denoiser.module.m_body[0].res[0].weight.float()
    small = invert.load_prior(path).module.m_body[0].res[0].weight
    step = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
    assert ((small - weight).abs() <= 0.501 * step).all()


def test_weights_of_nan_are_not_stored_as_integers(tmp_path):
    denoiser = a_denoiser(torch.float32)
    denoiser.module.m_body[0].res[0].weight[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"m_body\.0\.res\.0\.weight holds NaN or infinity"):
        invert.save_denoiser(denoiser, tmp_path / "small.safetensors", torch.int8)


@pytest.mark.parametrize("dtype", [torch.int16, torch.bool, torch.complex64, "int8"])
def test_types_that_hold_no_weights_are_refused(dtype, tmp_path):
    path = tmp_path / "small.safetensors"
    with pytest.raises(ValueError, match="must be of floats, such as torch.float16"):
        invert.save_denoiser(a_denoiser(torch.float32), path, dtype)
    assert not path.exists()


def test_scales_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    invert.save_denoiser(invert.load_prior("photo"), path, torch.int8)
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(".scale"))
    tensors[name] = tensors[name][:3]
    with safe_open(path, "pt") as file:
        config = file.metadata()
    save_file(tensors, path, config)
    with pytest.raises(ValueError, match=r"\.scale is \[3\], and must be"):
        invert.load_prior(path)
