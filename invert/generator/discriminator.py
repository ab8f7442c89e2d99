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
    """The blocks with sides from R down to 8, without the final layers, which compute the score.

    tensors: by their names in NVIDIA's checkpoints. The names determine the architecture: "resnet"
    has a second path around each block, "skip" feeds the image to every block, "orig" has neither.
    clamp: limit of the values; None for no limit.
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
        from_rgb = self._tensor(f"b{self.resolution}.fromrgb.weight")
        self.channels = from_rgb.shape[1]

    def _has(self, name: str) -> bool:
        """Whether there is a tensor of this name in the checkpoint."""
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
            resample_filter = self._tensor(f"{block}.resample_filter")
            image = halved(image, resample_filter)
        return outputs

    def _block(self, x: Tensor, block: str) -> Tensor:
        """Apply two convolutions, of which the second halves the size, and add the second path."""
        y = self._conv(x, f"{block}.conv0")
        if not self._has(f"{block}.skip.weight"):
            return self._halving_conv(y, f"{block}.conv1")
        gain = math.sqrt(0.5)
        y = self._halving_conv(y, f"{block}.conv1", gain)
        skipped = self._skip(x, f"{block}.skip") * gain
        return y + skipped

    def _skip(self, x: Tensor, name: str) -> Tensor:
        """Halve the size, then apply a 1×1 convolution without bias."""
        resample_filter = self._tensor(f"{name}.resample_filter")
        x = halved(x, resample_filter)
        return F.conv2d(x, self._weight(name))

    def _conv(self, x: Tensor, name: str) -> Tensor:
        """Apply a convolution, a bias and a leaky ReLU."""
        weight = self._weight(name)
        margin = weight.shape[2] // 2
        x = F.conv2d(x, weight, padding=margin)
        return self._activated(x, name)

    def _halving_conv(self, x: Tensor, name: str, gain: float = 1.0) -> Tensor:
        """Apply a low-pass filter, a convolution of stride 2, a bias and a leaky ReLU."""
        with_margin = F.pad(x, (1, 1, 1, 1))
        resample_filter = self._tensor(f"{name}.resample_filter")
        x = fir(with_margin, resample_filter)
        weight = self._weight(name)
        x = F.conv2d(x, weight, stride=2)
        return self._activated(x, name, gain)

    def _activated(self, x: Tensor, name: str, gain: float = 1.0) -> Tensor:
        """Apply a bias, a leaky ReLU, a gain and the limit of the values."""
        bias = self._tensor(f"{name}.bias")
        x = x + bias[:, None, None]
        x = leaky_relu(x) * gain
        limit = self.clamp
        if limit is not None:
            limit = limit * gain
        return clamped(x, limit)

    def _weight(self, name: str) -> Tensor:
        """Return a weight with the equalised learning rate of StyleGAN."""
        weight = self._tensor(f"{name}.weight")
        _, features, side, _ = weight.shape
        fan_in = features * side**2
        return weight / math.sqrt(fan_in)


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
    """The name of the buffer, without dots, since a dot would name a submodule."""
    return name.replace(".", "/")
