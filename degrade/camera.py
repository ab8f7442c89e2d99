"""A camera: from an image back to the raw values of its sensor, noise there, and developed again.

Source: Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising", by its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import surrogate
from .bayer import bayer, demosaicked
from .color import recolored
from .constants import cached_constant
from .filter import Gamma
from .images import check_channels
from .operator import Operator, Shape
from .params import Number, check_numbers, checked, nested, number, show, tensor_of
from .registry import register
from .rng import Rng
from .shotread import normal_number
from .surrogate import declare
from .tracked import is_tracked, tracked

_GAMMA = 2.2
_DARKEST = 1e-8  # of linear values, before the root of the gamma curve
_STEEPEST = 1e-3  # smallest t·(1 - t) in the slope of the tone curve's inverse
_NEAR_WHITE = 0.9  # mean of the channels from which gains fade out

# From XYZ to the colours of four cameras, by rows, and from linear sRGB to XYZ
_XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.613, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.838, -0.263, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.097, 0.1581, 0.5181)),
)
_SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


def _check_matrix(given: object) -> tuple[float, ...]:
    matrix = check_numbers("matrix", tracked(given), -9, 9)
    if not isinstance(matrix, tuple) or len(matrix) != 9:
        raise ValueError(f"matrix={show(given)} must be nine numbers, the rows of 3 × 3")
    rows = _constant(matrix).view(3, 3)
    determinant = torch.linalg.det(rows)
    if determinant.abs() < 1e-3:
        raise ValueError(f"matrix={show(given)} cannot be inverted; give another")
    return matrix


# The declaration of a gain, which is drawn if it is left out
_gain = partial(number, default=None, low=0.1, high=10, per_image=False, learnable=True)


@register("camera", exact="Brooks et al. 2019", gradient="of its steps")
class Camera(Operator):
    """Apply an operator to the raw values that a camera's sensor had, and develop them again.

    Camera(f), written `camera(f)`. Back to raw values: the inverse of the tone curve 3t² - 2t³, the
    power 2.2, the colours of the camera by `matrix`, 1/gains (which fade out near white), a clamp,
    and of each pixel the one colour that a Bayer pattern RGGB keeps. f gets these [B, 1, H, W] and
    must keep their size. Developed: the gains of red and blue, a clamp, bilinear demosaicking, the
    colours of the screen, a clamp, the power 1/2.2. The brightening and the tone curve are not done
    again, so a result without noise is darker and flatter than x.

    matrix: from linear sRGB to the colours of the camera, nine numbers by rows. If left out,
        `sample` mixes those of four cameras at random.
    red, blue: the gains of white balance, 0.1 to 10. If left out, drawn from U[1.9, 2.4) and
        U[1.5, 1.9).
    brightening: the gain of all channels, 0.1 to 10. If left out, 1 / N(0.8, 0.1²), within them.

    Three channels; a grey image is taken as a colour image, and the mean of the result's channels
    is returned. Odd sides are continued by a pixel. Gradient: that of each step, finite at black
    and white; those of the numbers are exact but for the clamps. A solver does not know the camera
    before `sample`.
    """

    operator: Operator = nested()
    matrix: Sequence[float] | Tensor | None = checked(
        _check_matrix, "nine numbers, the rows of 3 × 3", default=None, learnable=True
    )
    red: Number | None = _gain()
    blue: Number | None = _gain()
    brightening: Number | None = _gain()

    def __init__(
        self,
        operator: Operator,
        matrix: Sequence[float] | Tensor | None = None,
        red: Number | None = None,
        blue: Number | None = None,
        brightening: Number | None = None,
    ):
        values = {"matrix": matrix, "red": red, "blue": blue, "brightening": brightening}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "operator", operator)
        self.__post_init__()

    @property
    def varies(self) -> bool:
        numbers = (self.matrix, self.red, self.blue, self.brightening)
        if None in numbers or super().varies:
            return True
        return any(stage.varies for stage in self.operator.stages)

    @property
    def noisy(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.operator.noisy

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        values: dict[str, object] = {}
        if self.matrix is None:
            values["matrix"] = _drawn_camera(rng.child("matrix"))
        if self.red is None:
            share = _share(rng.child("red"))
            values["red"] = 1.9 + 0.5 * share
        if self.blue is None:
            share = _share(rng.child("blue"))
            values["blue"] = 1.5 + 0.4 * share
        if self.brightening is None:
            values["brightening"] = _drawn_brightening(rng.child("brightening"))
        stream = rng.child("raw")
        raw_shape = _raw_shape(shape)
        values["operator"] = self.operator._drawn(raw_shape, stream)
        return self.with_values(values)

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        before = self.raw(x)
        stream = rng.child("raw")
        raw = self.operator._run(before, stream)
        if raw.shape != before.shape:
            raise ValueError(f"{self.operator} changes the size of the raw values; it must keep it")
        height, width = x.shape[2:]
        developed = self.developed(raw)
        inside = developed[..., :height, :width]
        if x.shape[1] == 1:
            return inside.mean(1, keepdim=True)
        return inside

    def raw(self, x: Tensor) -> Tensor:
        """The values of a sensor with a Bayer pattern, [B, 1, H, W] of even sides."""
        even = _with_even_sides(x)
        of_light = _inverse_of_tone(even)
        linear = _power(of_light, _GAMMA)
        to_camera = self._matrix.to(x)
        of_camera = recolored(linear, to_camera)
        darkened = of_camera * self._gains_at(of_camera)
        clamped = surrogate.clamp(darkened)
        height, width = even.shape[2:]
        pattern = bayer(height, width).to(x)
        kept = clamped * pattern
        return kept.sum(1, keepdim=True)

    def developed(self, raw: Tensor) -> Tensor:
        """The image of raw values: white balance, demosaicking, colours, gamma."""
        height, width = raw.shape[2:]
        pattern = bayer(height, width).to(raw)
        balance = self._balance().to(raw)
        gains = pattern * balance.view(3, 1, 1)
        gain = gains.sum(1, keepdim=True)
        balanced = surrogate.clamp(raw * gain)
        colors = demosaicked(balanced)
        of_screen = recolored(colors, self._to_screen.to(raw))
        linear = surrogate.clamp(of_screen)
        not_black = linear.detach().clamp(min=_DARKEST)
        lifted = declare(linear, not_black)
        return _power(lifted, 1 / _GAMMA)

    @property
    def _to_screen(self) -> Tensor:
        """From the colours of the camera to those of the screen, [3, 3]."""
        matrix = cast(tuple[float, ...], self.matrix)  # drawn before
        return _inverse(matrix) if is_tracked(matrix) else _kept_inverse(matrix)

    def _gains_at(self, of_camera: Tensor) -> Tensor:
        """By how much each value is darkened; near white, where the sensor is full, less."""
        gains = self._gains(of_camera)
        mean = of_camera.mean(1, keepdim=True)
        above = (mean - _NEAR_WHITE) / (1 - _NEAR_WHITE)
        fading = above.clamp(min=0).square()
        faded_gains = fading + (1 - fading) * gains
        return torch.maximum(faded_gains, gains)

    def _balance(self) -> Tensor:
        """The gains of red, green and blue by white balance."""
        red = _tensor(self.red)
        blue = _tensor(self.blue)
        green = torch.ones_like(red)
        return torch.stack([red, green, blue])

    @property
    def _matrix(self) -> Tensor:
        return _tensor(self.matrix).view(3, 3)

    def _gains(self, like: Tensor) -> Tensor:
        """By how much each channel is darkened, [3, 1, 1]."""
        darkening = 1 / self._balance()
        gains = darkening / _tensor(self.brightening)
        return gains.to(like).view(3, 1, 1)


def _raw_shape(shape: Shape) -> Shape:
    """The shape of the raw values of images: even sides, one channel."""
    batch, _, height, width = shape
    even_height = height + height % 2
    even_width = width + width % 2
    return (batch, 1, even_height, even_width)


def _with_even_sides(x: Tensor) -> Tensor:
    """x with three channels, and with its last row and column repeated where a side is odd."""
    colors = x.expand(-1, 3, -1, -1)
    height, width = x.shape[2:]
    margins = (0, width % 2, 0, height % 2)
    return F.pad(colors, margins, mode="replicate")


def _share(rng: Rng, index: int = 0) -> float:
    """Number `index` of a stream, U[0, 1)."""
    return rng.child(str(index)).share()


def _drawn_brightening(rng: Rng) -> float:
    """1 / N(0.8, 0.1²), from 0.1 to 10."""
    darkening = 0.8 + 0.1 * normal_number(rng)
    not_too_dark = max(darkening, 0.1)
    return 1 / min(not_too_dark, 10)


def _constant(values: Sequence) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _tensor(value: object) -> Tensor:
    """A parameter as a tensor in float64, with its gradient if it has one."""
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    numbers = tensor_of(value, like)
    if isinstance(numbers, Tensor):
        return numbers
    return like.new_tensor(cast(float, numbers))


def _inverse(matrix: tuple[float, ...]) -> Tensor:
    rows = _tensor(matrix).view(3, 3)
    inverse: Tensor = torch.linalg.inv(rows)
    return inverse


_kept_inverse = cached_constant(maxsize=8)(_inverse)


def _drawn_camera(rng: Rng) -> tuple[float, ...]:
    """A convex mixture of the four cameras' matrices, from linear sRGB, with rows of sum 1."""
    cameras = _constant(_XYZ_TO_CAMERA)
    to_xyz = _constant(_SRGB_TO_XYZ)
    weights = [_share(rng, i) for i in range(len(cameras))]
    positive = _constant(weights) + 1e-16
    shares = positive / positive.sum()
    weighted = shares.view(-1, 1, 1) * cameras
    of_srgb = weighted.sum(0) @ to_xyz
    sums = of_srgb.sum(1, keepdim=True)
    rows = of_srgb / sums
    entries: list[float] = rows.flatten().tolist()
    return tuple(entries)


def _inverse_of_tone(x: Tensor) -> Tensor:
    """t with 3t² - 2t³ = x, for x clamped to [0, 1]; the slope 1 / (6t(1 - t)) is kept finite."""
    inside = x.detach().clamp(0, 1)
    angle = torch.asin(1 - 2 * inside)
    t = 0.5 - torch.sin(angle / 3)
    product = t * (1 - t)
    slope = 1 / (6 * product.clamp(min=_STEEPEST))
    return declare(x, t, slope)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x to a power, with a slope that is finite at black."""
    curve = Gamma(exponent)
    no_draws = Rng.of(0, 1)
    return curve.forward(x, no_draws)
