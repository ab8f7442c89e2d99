"""StyleGAN2-ADA's discriminator, for its features: what a generator was trained to get right.

Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"; tensor names as
in the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .fir import fir, halved
from .mapping import check_clamp, clamped, leaky_relu


class Discriminator(nn.Module):
    """The blocks of sides R … 8, from their tensors under NVIDIA's names; the end, which judges, is left out.

    Architecture "resnet" has a second path around each block, "skip" shows every block the image
    again, "orig" has neither: the names of the tensors tell. clamp: limit of the values, if any.
    """

    def __init__(self, tensors: Mapping[str, Tensor], clamp: float | None = None):
        super().__init__()
        check_clamp(clamp)
        sides = {int(name.split(".")[0][1:]) for name in tensors if name.endswith(".conv0.weight")}
        if not sides:
            raise ValueError("no block of a StyleGAN2 discriminator was found")
        self.sides, self.clamp = sorted(sides, reverse=True), clamp
        self.resolution = self.sides[0]
        wanted = tuple(f"b{side}." for side in sides)
        for name, value in tensors.items():
            if name.startswith(wanted):
                self.register_buffer(
                    name.replace(".", "/"), value.float()
                )  # a dot would name a submodule
        self.channels = self._get(f"b{self.resolution}.fromrgb.weight").shape[1]

    def _get(self, name: str) -> Tensor | None:
        return getattr(self, name.replace(".", "/"), None)

    def features(self, image: Tensor) -> list[Tensor]:
        """image [B, C, h, w] in [0, 1], resized to R → what leaves each block."""
        size = (self.resolution, self.resolution)
        if tuple(image.shape[2:]) != size:
            image = F.interpolate(image, size, mode="bilinear", antialias=True)
        image, x, found = image * 2 - 1, None, []
        for side in self.sides:
            block = f"b{side}"
            if self._get(f"{block}.fromrgb.weight") is not None:
                shown = self._conv(image, f"{block}.fromrgb")
                x = shown if x is None else x + shown
            around = None
            if self._get(f"{block}.skip.weight") is not None:
                around = self._conv(x, f"{block}.skip", down=True, plain=True) * math.sqrt(0.5)
            gain = 1.0 if around is None else math.sqrt(0.5)
            x = self._conv(self._conv(x, f"{block}.conv0"), f"{block}.conv1", down=True, gain=gain)
            x = x if around is None else x + around
            image = halved(image, self._get(f"{block}.resample_filter"))
            found.append(x)
        return found

    def _conv(
        self, x: Tensor, name: str, down: bool = False, plain: bool = False, gain: float = 1.0
    ) -> Tensor:
        """Convolution with the equalised learning rate, at half the size if `down`, bias, leaky ReLU unless `plain`."""
        weight = self._get(f"{name}.weight")
        features, side = weight.shape[1], weight.shape[2]
        weight = weight / math.sqrt(features * side**2)
        kernel = self._get(f"{name}.resample_filter")
        if down and side == 1:
            x = F.conv2d(halved(x, kernel), weight)
        elif down:  # filtered first, with room for the convolution's own border
            x = F.conv2d(fir(F.pad(x, (1, 1, 1, 1)), kernel), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=side // 2)
        if plain:
            return x
        x = leaky_relu(x + self._get(f"{name}.bias")[:, None, None])
        return clamped(x * gain, self.clamp and self.clamp * gain)
