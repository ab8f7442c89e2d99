"""The StyleGAN2 port by Kim Seonghyeon ("rosinality"), under the names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile

import torch
from torch import Tensor


def renamed(state: Mapping[str, Tensor], latent_avg: Tensor | None) -> dict[str, Tensor]:
    """The tensors of a `g_ema`. Noise maps that were not kept are zero. Raises KeyError for other tensors."""
    found = {} if latent_avg is None else {"mapping.w_avg": latent_avg.flatten()}
    kernel = (
        state["to_rgbs.0.upsample.kernel"] / 4
    )  # there the gain of the enlargement is in the filter

    def copy(theirs: str, ours: str, names: dict[str, str]) -> None:
        found.update({f"{ours}.{new}": state[f"{theirs}.{old}"] for old, new in names.items()})

    def convolution(theirs: str, ours: str, resolution: int, noise: int) -> None:
        copy(theirs, ours, _MODULATION | {"activate.bias": "bias"})
        weight = state[f"{theirs}.conv.weight"][0]
        found[f"{ours}.weight"] = (
            weight / weight[0].numel() ** 0.5
        )  # so that demodulation adds the same 1e-8
        found[f"{ours}.noise_strength"] = state[f"{theirs}.noise.weight"].reshape(())
        maps = state.get(f"noises.noise_{noise}", torch.zeros(resolution, resolution))
        found[f"{ours}.noise_const"] = maps.reshape(resolution, resolution)
        found[f"{ours}.resample_filter"] = kernel

    def to_rgb(theirs: str, ours: str) -> None:
        copy(theirs, ours, _MODULATION)
        found[f"{ours}.weight"], found[f"{ours}.bias"] = (
            state[f"{theirs}.conv.weight"][0],
            state[f"{theirs}.bias"].flatten(),
        )

    for i in takewhile(lambda i: f"style.{i + 1}.weight" in state, count()):
        copy(f"style.{i + 1}", f"mapping.fc{i}", {"weight": "weight", "bias": "bias"})
    found["synthesis.b4.const"] = state["input.input"][0]
    convolution("conv1", "synthesis.b4.conv1", 4, 0)
    to_rgb("to_rgb1", "synthesis.b4.torgb")
    found["synthesis.b4.resample_filter"] = kernel
    for j in takewhile(lambda j: f"to_rgbs.{j}.bias" in state, count()):
        resolution = 8 * 2**j
        block = f"synthesis.b{resolution}"
        for k in range(2):
            convolution(f"convs.{2 * j + k}", f"{block}.conv{k}", resolution, 2 * j + k + 1)
        to_rgb(f"to_rgbs.{j}", f"{block}.torgb")
        found[f"{block}.resample_filter"] = kernel
    return found


_MODULATION = {"conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
