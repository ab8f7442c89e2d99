"""Rename the tensors of Kim Seonghyeon's ("rosinality") StyleGAN2 port to the published names."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile

import torch
from torch import Tensor


def renamed(state: Mapping[str, Tensor], latent_avg: Tensor | None) -> dict[str, Tensor]:
    """Return the tensors of a `g_ema`. Missing noise maps become zero.

    Raises KeyError for tensors of another network.
    """
    tensors: dict[str, Tensor] = {}
    if latent_avg is not None:
        tensors["mapping.w_avg"] = latent_avg.flatten()
    kernel = state["to_rgbs.0.upsample.kernel"] / 4  # that port's filter contains the gain of 4

    def copy(theirs: str, ours: str, names: dict[str, str]) -> None:
        for old, new in names.items():
            tensors[f"{ours}.{new}"] = state[f"{theirs}.{old}"]

    def convolution(theirs: str, ours: str, resolution: int, noise: int) -> None:
        copy(theirs, ours, _MODULATION | {"activate.bias": "bias"})
        weight = state[f"{theirs}.conv.weight"][0]
        # scaled, so that the 1e-8 of the demodulation has the same effect
        tensors[f"{ours}.weight"] = weight / weight[0].numel() ** 0.5
        tensors[f"{ours}.noise_strength"] = state[f"{theirs}.noise.weight"].reshape(())
        zeros = torch.zeros(resolution, resolution, dtype=torch.float32, device="cpu")
        maps = state.get(f"noises.noise_{noise}", zeros)
        tensors[f"{ours}.noise_const"] = maps.reshape(resolution, resolution)
        tensors[f"{ours}.resample_filter"] = kernel

    def to_rgb(theirs: str, ours: str) -> None:
        copy(theirs, ours, _MODULATION)
        tensors[f"{ours}.weight"] = state[f"{theirs}.conv.weight"][0]
        tensors[f"{ours}.bias"] = state[f"{theirs}.bias"].flatten()

    for i in takewhile(lambda i: f"style.{i + 1}.weight" in state, count()):
        copy(f"style.{i + 1}", f"mapping.fc{i}", {"weight": "weight", "bias": "bias"})
    tensors["synthesis.b4.const"] = state["input.input"][0]
    convolution("conv1", "synthesis.b4.conv1", 4, 0)
    to_rgb("to_rgb1", "synthesis.b4.torgb")
    tensors["synthesis.b4.resample_filter"] = kernel
    for j in takewhile(lambda j: f"to_rgbs.{j}.bias" in state, count()):
        resolution = 8 * 2**j
        block = f"synthesis.b{resolution}"
        for k in range(2):
            convolution(f"convs.{2 * j + k}", f"{block}.conv{k}", resolution, 2 * j + k + 1)
        to_rgb(f"to_rgbs.{j}", f"{block}.torgb")
        tensors[f"{block}.resample_filter"] = kernel
    return tensors


_MODULATION = {"conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
