"""Haze: the more air lies between the camera and a thing, the more of the air's light is seen."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from .constants import cached_constant
from .held import Held
from .operator import Shape
from .params import Numbers, number, per_image, tensor
from .registry import register
from .rng import Rng

_NEARER = 0.04  # what IA-YOLO's distance loses with each pixel from the centre
_BARELY = 1 / 64  # a share of the image below this, four levels of 255, counts as hidden


@register("haze", exact="its formula", gradient="the share of the image")
class Haze(Held):
    """Lay haze over an image, thicker where the scene is farther away.

    y = x·t + airlight·(1 - t) with the share t = exp(-beta·depth) of the light that comes through.
    Gradient: t; those of `beta`, `airlight` and `depth` are exact.

    beta: how thick the haze is, 0 to 100, in 1 / (unit of depth); a number, or one per image.
    airlight: the brightness of the haze, 0 to 1; a number, or one per image.
    depth: a tensor [1, 1, H, W] or [B, 1, H, W] in [0, 1], the path of an image file (read as grey,
        255 = 1), or the path of a .safetensors file with the tensor `depth`. 0 is at the camera.
        Divide metres by the largest of them, and multiply beta by it. Left out, the middle of the
        image is farthest away: √(longer side) - 0.04·(distance in pixels from the pixel at half of
        both sides), at least 0.

    Output: the same shape. `project`: (y - airlight·(1 - t)) / t where t is at least 1/64; the
    other pixels stay.
    Source: the model is Koschmieder's (1924). RESIDE (Li et al. 2019) draws beta from 0.6 to 1.8
    and the airlight from 0.7 to 1 for maps that end at 1. Without a map, IA-YOLO (Liu et al. 2022),
    by its code: beta 0.05 to 0.14, airlight 0.5.
    """

    beta: Numbers = number(low=0, high=100, learnable=True)
    airlight: Numbers = number(default=0.5, low=0, high=1, learnable=True)
    depth: Tensor | str | Path | None = tensor(channels=1, default=None, learnable=True)
    linear = False
    __eq__, __hash__ = Held.same, Held.kind

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        share = self._share(x)
        haze = self._light(x) * (1 - share)
        return x * share + haze

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        share = self._share(x.double())
        haze = self._light(share) * (1 - share)
        of_image = y.double() - haze
        without_haze = of_image / share.clamp(min=_BARELY)
        known = without_haze.clamp(0, 1)
        is_seen = share >= _BARELY
        return torch.where(is_seen, known.to(x), x)

    def _light(self, x: Tensor) -> float | Tensor:
        return per_image(self.airlight, x, "airlight")

    def _share(self, x: Tensor) -> Tensor:
        """The share of the light that comes through, [1 or B, 1, H, W]."""
        depth = self._depth(x.shape).to(x)
        beta = per_image(self.beta, x, "beta")
        return torch.exp(-beta * depth)

    def _depth(self, shape: Shape) -> Tensor:
        if self.depth is None:
            *_, height, width = shape
            return _farthest_in_the_middle(height, width)
        return self.fitting(shape)


@cached_constant(maxsize=8)
def _farthest_in_the_middle(height: int, width: int) -> Tensor:
    """IA-YOLO's distance of each pixel from the camera, [1, 1, height, width], at least 0."""
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    down = rows - height // 2
    right = columns - width // 2
    from_centre = torch.hypot(down[:, None], right)
    farthest = math.sqrt(max(height, width))
    distance = farthest - _NEARER * from_centre
    at_least_0 = distance.clamp(min=0)
    return at_least_0[None, None]
