"""Rename the tensors of Kim Seonghyeon's ("rosinality") StyleGAN2 port to the published names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LINEAR = {"weight": "weight", "bias": "bias"}
MODULATION = {"conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
MODULATED_CONVOLUTION = {**MODULATION, "activate.bias": "bias"}


def renamed(state: Mapping[str, Tensor], latent_avg: Tensor | None) -> dict[str, Tensor]:
    """Return the tensors of a `g_ema`. Missing noise maps become zero.

    Raises KeyError for tensors of another network.
    """
    port = _Port(state)
    if latent_avg is not None:
        port.tensors["mapping.w_avg"] = latent_avg.flatten()
    port.mapping()
    port.tensors["synthesis.b4.const"] = state["input.input"][0]
    port.convolution("conv1", "synthesis.b4.conv1", 4, 0)
    port.to_rgb("to_rgb1", "synthesis.b4")
    stage = 0
    while f"to_rgbs.{stage}.bias" in state:
        resolution = 8 * 2**stage
        block = f"synthesis.b{resolution}"
        first = 2 * stage
        second = first + 1
        port.convolution(f"convs.{first}", f"{block}.conv0", resolution, first + 1)
        port.convolution(f"convs.{second}", f"{block}.conv1", resolution, second + 1)
        port.to_rgb(f"to_rgbs.{stage}", block)
        stage += 1
    return port.tensors


class _Port:
    """Collects the renamed tensors of a `state`. `theirs` and `ours` are names of layers."""

    def __init__(self, state: Mapping[str, Tensor]):
        self.state = state
        self.tensors: dict[str, Tensor] = {}
        # the filter in the file contains the gain of 4
        self.kernel = state["to_rgbs.0.upsample.kernel"] / 4

    def mapping(self) -> None:
        """Rename the layers of the mapping network, which the file counts from 1."""
        layer = 0
        while f"style.{layer + 1}.weight" in self.state:
            self._copy(f"style.{layer + 1}", f"mapping.fc{layer}", LINEAR)
            layer += 1

    def convolution(self, theirs: str, ours: str, resolution: int, noise: int) -> None:
        """Rename a convolution of the synthesis. noise: the number of its noise map."""
        self._copy(theirs, ours, MODULATED_CONVOLUTION)
        weight = self.state[f"{theirs}.conv.weight"][0]
        features = weight[0].numel()
        # scaled, so that the 1e-8 of the demodulation has the same effect
        self.tensors[f"{ours}.weight"] = weight / features**0.5
        strength = self.state[f"{theirs}.noise.weight"]
        self.tensors[f"{ours}.noise_strength"] = strength.reshape(())
        noise_map = self.state.get(f"noises.noise_{noise}")
        if noise_map is None:
            noise_map = torch.zeros(resolution**2, dtype=torch.float32, device="cpu")
        self.tensors[f"{ours}.noise_const"] = noise_map.reshape(resolution, resolution)
        self.tensors[f"{ours}.resample_filter"] = self.kernel

    def to_rgb(self, theirs: str, block: str) -> None:
        """Rename the layer that paints the image of a block."""
        ours = f"{block}.torgb"
        self._copy(theirs, ours, MODULATION)
        weight = self.state[f"{theirs}.conv.weight"]
        bias = self.state[f"{theirs}.bias"]
        self.tensors[f"{ours}.weight"] = weight[0]
        self.tensors[f"{ours}.bias"] = bias.flatten()
        self.tensors[f"{block}.resample_filter"] = self.kernel

    def _copy(self, theirs: str, ours: str, names: Mapping[str, str]) -> None:
        for old, new in names.items():
            self.tensors[f"{ours}.{new}"] = self.state[f"{theirs}.{old}"]
