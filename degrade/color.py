"""Changes of colour as torchvision's ColorJitter makes them, and shifts of the channels.

They do not clamp; write `>> clamp` after them, as torchvision does after each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .images import check_channels
from .operator import Operator
from .params import Numbers, number, per_image
from .registry import register
from .rng import Rng
from .surrogate import declare

_STRONGEST = 20  # largest factor


def _luma(x: Tensor) -> Tensor:
    """torchvision's luma [B, 1, H, W]; a grey image is its own."""
    check_channels(x)
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    luma: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luma


@register("brightness", exact="torchvision's", gradient="adjoint")
class Brightness(Operator):
    """Multiply all values: y = factor·x. The adjoint is the same.

    factor: 0 to 20; a number, or one per image.
    """

    factor: Numbers = number(low=0, high=_STRONGEST)
    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * per_image(self.factor, x, "factor")


@register("contrast", exact="torchvision's", gradient="adjoint")
class Contrast(Operator):
    """Move all values away from the mean luma of the image, or towards it.

    y = factor·x + (1 - factor)·mean(0.2989 R + 0.587 G + 0.114 B). The adjoint spreads the second
    part over all pixels.

    factor: 0 to 20; below 1 flattens; a number, or one per image.
    """

    factor: Numbers = number(low=0, high=_STRONGEST)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        factor = per_image(self.factor, x, "factor")
        rows = []
        for luma in _luma(x).double().unbind():  # sums of an image do not depend on the batch
            rows.append(luma.mean())
        mean = torch.stack(rows).view(-1, 1, 1, 1).to(x)
        return factor * x + (1 - factor) * mean


@register("saturation", exact="torchvision's", gradient="adjoint")
class Saturation(Operator):
    """Move the channels of each pixel away from its luma, or towards it.

    y = factor·x + (1 - factor)·(0.2989 R + 0.587 G + 0.114 B); grey images stay as they are.

    factor: 0 to 20; 0 is grey; a number, or one per image.
    """

    factor: Numbers = number(low=0, high=_STRONGEST)
    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        factor = per_image(self.factor, x, "factor")
        if x.shape[1] == 1:
            return x.clone()
        return factor * x + (1 - factor) * _luma(x)


@register("hue", exact="torchvision's", gradient="identity")
class Hue(Operator):
    """Turn the hue of each pixel in the HSV cone; grey images stay as they are.

    Gradient: identity. Values are clamped to [0, 1] on the way back from HSV.

    turn: -0.5 to 0.5 of a full turn; 1/3 makes red green; a number, or one per image.
    """

    turn: Numbers = number(low=-0.5, high=0.5)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if x.shape[1] == 1:
            return x.clone()
        turn = per_image(self.turn, x, "turn")
        return declare(x, _turned(x.detach(), turn))


def _turned(x: Tensor, turn: float | Tensor) -> Tensor:
    """An image with other hues, through HSV."""
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    is_gray = chroma == 0
    divisor = torch.where(is_gray, 1.0, chroma)
    saturation = chroma / torch.where(is_gray, 1.0, value)
    red, green, blue = ((value - x) / divisor).split(1, 1)
    max_is_red = x[:, :1] == value
    max_is_green = (x[:, 1:2] == value) & ~max_is_red
    sextant = torch.where(
        max_is_red, blue - green, torch.where(max_is_green, 2 + red - blue, 4 + green - red)
    )
    hue = (sextant / 6 + 1 + turn).remainder(1.0)
    return _from_hsv(hue, saturation, value).to(x)


def _from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB by the distance of each channel's own hue: red's at 0, green's at 1/3, blue's at 2/3."""
    channels = []
    for sextants in (5, 3, 1):
        position = (sextants + hue * 6).remainder(6)
        share = torch.minimum(position, 4 - position).clamp(0, 1)
        channels.append(value - value * saturation * share)
    return torch.cat(channels, 1).clamp(0, 1)


@register("offset", exact="x + its numbers", gradient="identity")
class Offset(Operator):
    """Add a number to each channel. A grey image gets the mean of the three. Gradient: identity.

    red, green, blue: -1 to 1, in units of [0, 1]; a number, or one per image.

    Source: `color_jitter` of GFPGAN.
    """

    red: Numbers = number(default=0, low=-1, high=1)
    green: Numbers = number(default=0, low=-1, high=1)
    blue: Numbers = number(default=0, low=-1, high=1)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        red_offset = per_image(self.red, x, "red")
        green_offset = per_image(self.green, x, "green")
        blue_offset = per_image(self.blue, x, "blue")
        if x.shape[1] == 1:
            return x + (red_offset + green_offset + blue_offset) / 3
        red, green, blue = x.split(1, 1)
        return torch.cat([red + red_offset, green + green_offset, blue + blue_offset], 1)
