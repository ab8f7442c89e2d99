"""StyleGAN2-ADA's discriminator, whose features serve as a perceptual loss (DGP).

Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"; tensor names as
in the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .fir import fir, halved
from .mapping import check_clamp, clamped, leaky_relu


class Discriminator(nn.Module):
    """The blocks of sides R … 8. The final layers, which output the score, are left out.

    tensors: under NVIDIA's names, which determine the architecture: "resnet" has a second path
    around each block, "skip" feeds the image to every block, "orig" has neither. clamp: limit of
    the values, if any.
    """

    def __init__(self, tensors: Mapping[str, Tensor], clamp: float | None = None):
        super().__init__()
        check_clamp(clamp)
        self.clamp = clamp
        self.sides = _sides_of_blocks(tensors)
        self.resolution = self.sides[0]
        prefixes = tuple(f"b{side}." for side in self.sides)
        for name, value in tensors.items():
            if name.startswith(prefixes):
                self.register_buffer(_buffer_name(name), value.float())
        self.channels = self._tensor(f"b{self.resolution}.fromrgb.weight").shape[1]

    def _has(self, name: str) -> bool:
        return _buffer_name(name) in self._buffers

    def _tensor(self, name: str) -> Tensor:
        """Return a tensor by its name in the checkpoint. Raises KeyError."""
        value = self._buffers[_buffer_name(name)]
        if value is None:
            raise KeyError(name)
        return value

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the output of every block for an image [B, C, h, w] in [0, 1], resized to R."""
        size = (self.resolution, self.resolution)
        if tuple(image.shape[2:]) != size:
            image = F.interpolate(image, size, mode="bilinear", antialias=True)
        image = image * 2 - 1
        x = self._conv(image, f"b{self.resolution}.fromrgb")
        outputs = []
        for side in self.sides:
            block = f"b{side}"
            takes_image = self._has(f"{block}.fromrgb.weight")
            if takes_image and side != self.resolution:
                x = x + self._conv(image, f"{block}.fromrgb")
            x = self._block(x, block)
            outputs.append(x)
            image = halved(image, self._tensor(f"{block}.resample_filter"))
        return outputs

    def _block(self, x: Tensor, block: str) -> Tensor:
        y = self._conv(x, f"{block}.conv0")
        if not self._has(f"{block}.skip.weight"):
            return self._halving_conv(y, f"{block}.conv1")
        gain = math.sqrt(0.5)
        y = self._halving_conv(y, f"{block}.conv1", gain)
        skipped = self._skip(x, f"{block}.skip")
        return y + skipped * gain

    def _skip(self, x: Tensor, name: str) -> Tensor:
        """Halve the size, then apply a 1×1 convolution without bias."""
        x = halved(x, self._tensor(f"{name}.resample_filter"))
        return F.conv2d(x, self._weight(name))

    def _conv(self, x: Tensor, name: str) -> Tensor:
        """Apply convolution, bias and leaky ReLU."""
        weight = self._weight(name)
        margin = weight.shape[2] // 2
        x = F.conv2d(x, weight, padding=margin)
        return self._activated(x, name)

    def _halving_conv(self, x: Tensor, name: str, gain: float = 1.0) -> Tensor:
        """Apply low-pass filter, convolution of stride 2, bias and leaky ReLU."""
        with_margin = F.pad(x, (1, 1, 1, 1))
        x = fir(with_margin, self._tensor(f"{name}.resample_filter"))
        x = F.conv2d(x, self._weight(name), stride=2)
        return self._activated(x, name, gain)

    def _activated(self, x: Tensor, name: str, gain: float = 1.0) -> Tensor:
        bias = self._tensor(f"{name}.bias")
        x = leaky_relu(x + bias[:, None, None])
        limit = None if self.clamp is None else self.clamp * gain
        return clamped(x * gain, limit)

    def _weight(self, name: str) -> Tensor:
        """Return a weight with the equalised learning rate of StyleGAN."""
        weight = self._tensor(f"{name}.weight")
        _, features, side, _ = weight.shape
        return weight / math.sqrt(features * side**2)


def _sides_of_blocks(names: Iterable[str]) -> list[int]:
    """The sides of the blocks, the largest first. Raises ValueError if there is none."""
    sides = []
    for name in names:
        if name.endswith(".conv0.weight"):
            block = name.split(".")[0]
            side = block.removeprefix("b")
            sides.append(int(side))
    if not sides:
        raise ValueError("no block of a StyleGAN2 discriminator was found")
    return sorted(sides, reverse=True)


def _buffer_name(name: str) -> str:
    return name.replace(".", "/")  # a dot would name a submodule
