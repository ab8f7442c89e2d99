"""Changes of colour as torchvision's ColorJitter and ImageNet-C make them.

They do not clamp; write `>> clamp` after them, as torchvision does after each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .images import check_channels
from .operator import Operator
from .params import Numbers, check_numbers, checked, number, option, per_image, show, tensor_of
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare, with_gradient_of

_STRONGEST = 20  # largest factor
_TORCHVISION_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue

# Rows of the matrices between RGB and luma, Cb and Cr of JFIF, without their offsets
TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
TO_RGB = [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]


def luma(x: Tensor, weights: Sequence[float] = _TORCHVISION_LUMA) -> Tensor:
    """A weighted sum of red, green and blue [B, 1, H, W]; a grey image as it is."""
    check_channels(x)
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    of_red, of_green, of_blue = weights
    mixed: Tensor = of_red * red + of_green * green + of_blue * blue
    return mixed


def recolored(x: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel's channels [B, 3, H, W] multiplied by a matrix [3, 3].

    The bits of a pixel do not depend on how many there are, as those of a matrix product would.
    """
    red, green, blue = x.split(1, 1)
    columns = matrix.view(3, 3, 1, 1)
    first, second, third = columns.unbind(1)
    mixed: Tensor = first * red + second * green + third * blue
    return mixed


def _check_weights(given: object) -> tuple[float, ...]:
    weights = check_numbers("weights", given, 0, 1)
    if not isinstance(weights, tuple) or len(weights) != 3:
        raise ValueError(f"weights={show(given)} must be three numbers, of red, green and blue")
    return weights


@register("brightness", exact="torchvision's", gradient="adjoint")
class Brightness(Operator):
    """Multiply all values: y = factor·x. The adjoint is the same.

    factor: 0 to 20; a number, or one per image.
    """

    factor: Numbers = number(low=0, high=_STRONGEST, learnable=True)
    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * per_image(self.factor, x, "factor")


@register("contrast", exact="torchvision, ImageNet-C", gradient="adjoint")
class Contrast(Operator):
    """Move all values away from the mean of the image, or towards it.

    y = factor·x + (1 - factor)·mean. The adjoint spreads the second part over all pixels.

    factor: 0 to 20; below 1 flattens; a number, or one per image.
    mean: "luma" is that of 0.2989 R + 0.587 G + 0.114 B, as in torchvision; "channel" is each
        channel's own, as in ImageNet-C.
    """

    factor: Numbers = number(low=0, high=_STRONGEST, learnable=True)
    mean: str = option("luma", "channel", default="luma")
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        if self.mean == "luma":
            return row_by_row(_away_from_luma, x, factor=self.factor)
        return row_by_row(_away_from_channels, x, factor=self.factor)


def _away_from_luma(x: Tensor, factor: float) -> Tensor:
    """The values of each image moved away from its mean luma."""
    brightness = luma(x).double()
    means = brightness.mean((1, 2, 3), keepdim=True)
    return _away(x, means.to(x), factor)


def _away_from_channels(x: Tensor, factor: float) -> Tensor:
    """The values of each channel moved away from their mean."""
    means = x.double().mean((2, 3), keepdim=True)
    return _away(x, means.to(x), factor)


def _away(x: Tensor, mean: Tensor, factor: float) -> Tensor:
    amount = tensor_of(factor, x)
    rest = 1 - amount
    return amount * x + rest * mean


@register("saturation", exact="torchvision's", gradient="adjoint")
class Saturation(Operator):
    """Move the channels of each pixel away from its luma, or towards it.

    y = factor·x + (1 - factor)·(0.2989 R + 0.587 G + 0.114 B); grey images stay as they are.

    factor: 0 to 20; 0 is grey; a number, or one per image.
    weights: of red, green and blue in the luma, three numbers from 0 to 1; torchvision's if left
        out.
    """

    factor: Numbers = number(low=0, high=_STRONGEST, learnable=True)
    weights: Sequence[float] = checked(
        _check_weights, "three numbers from 0 to 1", default=_TORCHVISION_LUMA
    )
    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        factor = per_image(self.factor, x, "factor")
        if x.shape[1] == 1:
            return x.clone()
        rest = 1 - factor
        return factor * x + rest * luma(x, self.weights)


@register("hue", exact="torchvision's", gradient="identity")
class Hue(Operator):
    """Turn the hue of each pixel in the HSV cone; grey images stay as they are.

    Gradient: identity; that of the turn is the exact one. Values are clamped to [0, 1] on the way
    back from HSV.

    turn: -0.5 to 0.5 of a full turn, such as 1/3 from red to green; a number, or one per image.
    """

    turn: Numbers = number(low=-0.5, high=0.5, learnable=True)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if x.shape[1] == 1:
            return x.clone()
        turn = per_image(self.turn, x, "turn")
        hue, saturation, value = _to_hsv(x.detach())
        turned = _from_hsv((hue + turn).remainder(1.0), saturation, value).to(x)
        return with_gradient_of(declare(x, turned), turned)


@register("hsv", exact="scikit-image's HSV", gradient="identity")
class HSV(Operator):
    """Change saturation and value of each pixel in the HSV cone, each clamped to [0, 1].

    S becomes scale·S + saturation, and V becomes V + value. Of a grey image, only the value is
    changed. A grey pixel of a colour image that gets a saturation becomes red, since grey has the
    hue 0 there. Gradient: identity; those of the parameters are the exact ones.

    scale: of the saturation, 0 to 20; a number, or one per image.
    saturation: what is added to the saturation, -1 to 1; a number, or one per image.
    value: what is added to the value, -1 to 1; a number, or one per image.

    Source: `brightness` and `saturate` of ImageNet-C (Hendrycks & Dietterich 2019).
    """

    scale: Numbers = number(default=1, low=0, high=_STRONGEST, learnable=True)
    saturation: Numbers = number(default=0, low=-1, high=1, learnable=True)
    value: Numbers = number(default=0, low=-1, high=1, learnable=True)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        added_value = per_image(self.value, x, "value")
        if x.shape[1] == 1:
            changed = (x.detach() + added_value).clamp(0, 1)
            return with_gradient_of(declare(x, changed), changed)
        scale = per_image(self.scale, x, "scale")
        added = per_image(self.saturation, x, "saturation")
        hue, saturation, value = _to_hsv(x.detach())
        new_saturation = (saturation * scale + added).clamp(0, 1)
        new_value = (value + added_value).clamp(0, 1)
        changed = _from_hsv(hue, new_saturation, new_value).to(x)
        return with_gradient_of(declare(x, changed), changed)


def _to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns, saturation and value of each pixel; the hue of grey is 0."""
    value = x.amax(1, keepdim=True)
    darkest = x.amin(1, keepdim=True)
    chroma = value - darkest
    is_gray = chroma == 0
    safe_value = torch.where(is_gray, 1.0, value)
    safe_chroma = torch.where(is_gray, 1.0, chroma)
    saturation = chroma / safe_value
    distances = (value - x) / safe_chroma
    sextant = _sextant(x == value, distances)
    hue = sextant / 6 + 1
    return hue.remainder(1.0), saturation, value


def _sextant(is_largest: Tensor, distances: Tensor) -> Tensor:
    """The hue in sixths of a turn, from the channel that is largest and how far the others are."""
    red, green, blue = distances.split(1, 1)
    red_is_largest, green_is_largest, _ = is_largest.split(1, 1)
    near_blue = 4 + green - red
    near_green = 2 + red - blue
    near_red = blue - green
    not_red = torch.where(green_is_largest, near_green, near_blue)
    return torch.where(red_is_largest, near_red, not_red)


def _from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB by the distance of each channel's own hue: red's at 0, green's at 1/3, blue's at 2/3."""
    channels = []
    for sextants in (5, 3, 1):
        turned = sextants + hue * 6
        position = turned.remainder(6)
        distance = torch.minimum(position, 4 - position)
        share = distance.clamp(0, 1)
        channels.append(value - value * saturation * share)
    rgb = torch.cat(channels, 1)
    return rgb.clamp(0, 1)


@register("offset", exact="x + its numbers", gradient="identity")
class Offset(Operator):
    """Add a number to each channel. A grey image gets the mean of the three. Gradient: identity.

    red, green, blue: -1 to 1, in units of [0, 1]; a number, or one per image.
    every: the same for all three channels, added to their own.

    Source: `color_jitter` of GFPGAN.
    """

    red: Numbers = number(default=0, low=-1, high=1, learnable=True)
    green: Numbers = number(default=0, low=-1, high=1, learnable=True)
    blue: Numbers = number(default=0, low=-1, high=1, learnable=True)
    every: Numbers = number(default=0, low=-1, high=1, learnable=True)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        red_offset = per_image(self.red, x, "red")
        green_offset = per_image(self.green, x, "green")
        blue_offset = per_image(self.blue, x, "blue")
        every = per_image(self.every, x, "every")
        if x.shape[1] == 1:
            return x + (red_offset + green_offset + blue_offset) / 3 + every
        red, green, blue = x.split(1, 1)
        channels = torch.cat([red + red_offset, green + green_offset, blue + blue_offset], 1)
        return channels + every
