"""A camera: from an image back to the raw values of its sensor, noise there, and developed again.

Source: Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising", by its published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import surrogate
from .constants import cached_constant
from .filter import Gamma
from .operator import Operator, Shape
from .params import (
    Number,
    Numbers,
    check_numbers,
    checked,
    nested,
    number,
    per_image,
    show,
    tensor_of,
)
from .registry import register
from .rng import Rng
from .surrogate import declare, with_gradient_of
from .tracked import is_tracked, tracked

_GAMMA = 2.2
_DARKEST = 1e-8  # of linear values, before the root of the gamma curve
_STEEPEST = 1e-3  # smallest t·(1 - t) in the slope of the tone curve's inverse
_NEAR_WHITE = 0.9  # mean of the channels from which gains fade out
_SMALLEST_DEVIATION = 1e-6  # in the slope of a root

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
    numbers = torch.tensor(matrix, dtype=torch.float64, device="cpu")
    if abs(float(torch.linalg.det(numbers.view(3, 3)))) < 1e-3:
        raise ValueError(f"matrix={show(given)} cannot be inverted; give another")
    return matrix


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
    red: Number | None = number(default=None, low=0.1, high=10, per_image=False, learnable=True)
    blue: Number | None = number(default=None, low=0.1, high=10, per_image=False, learnable=True)
    brightening: Number | None = number(
        default=None, low=0.1, high=10, per_image=False, learnable=True
    )

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
    def _is_known(self) -> bool:
        return None not in (self.matrix, self.red, self.blue, self.brightening)

    @property
    def varies(self) -> bool:
        inner_varies = any(stage.varies for stage in self.operator.stages)
        return not self._is_known or inner_varies or super().varies

    @property
    def noisy(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.operator.noisy

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        values: dict[str, object] = {}
        if self.matrix is None:
            weights = [_uniform(rng.child("matrix"), i) for i in range(len(_XYZ_TO_CAMERA))]
            values["matrix"] = _mixed_camera(tuple(weights))
        if self.red is None:
            values["red"] = 1.9 + 0.5 * _uniform(rng.child("red"))
        if self.blue is None:
            values["blue"] = 1.5 + 0.4 * _uniform(rng.child("blue"))
        if self.brightening is None:
            darkening = 0.8 + 0.1 * _normal(rng.child("brightening"))
            values["brightening"] = 1 / min(max(darkening, 0.1), 10)
        inner = self.operator._drawn(_raw_shape(shape), rng.child("raw"))
        return self.with_values({**values, "operator": inner})

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        if x.shape[1] not in (1, 3):
            raise ValueError(f"x has {x.shape[1]} channels; give 1 (grey) or 3 (RGB)")
        raw = self.operator._run(self.raw(x), rng.child("raw"))
        height, width = x.shape[2:]
        if tuple(raw.shape) != _raw_shape(x.shape):
            raise ValueError(f"{self.operator} changes the size of the raw values; it must keep it")
        developed = self.developed(raw)[..., :height, :width]
        return developed.mean(1, keepdim=True) if x.shape[1] == 1 else developed

    def raw(self, x: Tensor) -> Tensor:
        """The values of a sensor with a Bayer pattern, [B, 1, H, W] of even sides."""
        colors = x.expand(-1, 3, -1, -1)
        height, width = x.shape[2:]
        even = F.pad(colors, (0, width % 2, 0, height % 2), mode="replicate")
        linear = _power(_inverse_of_tone(even), _GAMMA)
        to_camera = self._matrix.to(x)
        of_camera = _recolored(linear, to_camera)
        gains = self._gains(x)
        mean = of_camera.mean(1, keepdim=True)
        above = (mean - _NEAR_WHITE) / (1 - _NEAR_WHITE)
        fading = above.clamp(min=0).square()
        faded_gains = fading + (1 - fading) * gains
        safe_gains = torch.maximum(faded_gains, gains)
        clamped = surrogate.clamp(of_camera * safe_gains)
        pattern = _bayer(*even.shape[2:])
        kept = clamped * pattern.to(x)
        return kept.sum(1, keepdim=True)

    def developed(self, raw: Tensor) -> Tensor:
        """The image of raw values: white balance, demosaicking, colours, gamma."""
        height, width = raw.shape[2:]
        pattern = _bayer(height, width).to(raw)
        balance = self._balance().to(raw)
        gains = pattern * balance.view(1, 3, 1, 1)
        gain = gains.sum(1, keepdim=True)
        balanced = surrogate.clamp(raw * gain)
        colors = demosaicked(balanced)
        build = _inverse if is_tracked(self.matrix) else _kept_inverse
        matrix = cast(tuple[float, ...], self.matrix)
        to_screen = build(matrix)
        of_screen = _recolored(colors, to_screen.to(raw))
        linear = surrogate.clamp(of_screen)
        not_black = linear.detach().clamp(min=_DARKEST)
        lifted = declare(linear, not_black)
        return _power(lifted, 1 / _GAMMA)

    def _balance(self) -> Tensor:
        """The gains of red, green and blue by white balance."""
        one = torch.ones((), dtype=torch.float64, device="cpu")
        return torch.stack([_tensor(self.red), one, _tensor(self.blue)])

    @property
    def _matrix(self) -> Tensor:
        return _tensor(self.matrix).view(3, 3)

    def _gains(self, like: Tensor) -> Tensor:
        """By how much each channel is darkened, [3, 1, 1]."""
        darkening = 1 / self._balance()
        gains = darkening / _tensor(self.brightening)
        return gains.to(like).view(3, 1, 1)


def _raw_shape(shape: Shape) -> Shape:
    batch, _, height, width = shape
    return (batch, 1, height + height % 2, width + width % 2)


def _uniform(rng: Rng, index: int = 0) -> float:
    (integer,) = rng.child(str(index)).integers(2**53)
    return integer / 2**53


def _normal(rng: Rng) -> float:
    like = torch.empty(1, 1, dtype=torch.float32, device="cpu")
    return float(rng.normal(like))


def _tensor(value: object) -> Tensor:
    """A parameter as a tensor in float64, with its gradient if it has one."""
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    numbers = tensor_of(value, like)
    if isinstance(numbers, Tensor):
        return numbers
    return like.new_tensor(cast(float, numbers))


def _inverse(matrix: tuple[float, ...]) -> Tensor:
    inverse: Tensor = torch.linalg.inv(_tensor(matrix).view(3, 3))
    return inverse


_kept_inverse = cached_constant(maxsize=8)(_inverse)


def _mixed_camera(weights: tuple[float, ...]) -> tuple[float, ...]:
    """A convex mixture of the four cameras' matrices, from linear sRGB, with rows of sum 1."""
    cameras = torch.tensor(_XYZ_TO_CAMERA, dtype=torch.float64, device="cpu")
    to_xyz = torch.tensor(_SRGB_TO_XYZ, dtype=torch.float64, device="cpu")
    drawn = torch.tensor(weights, dtype=torch.float64, device="cpu")
    positive = drawn + 1e-16
    shares = positive / positive.sum()
    weighted = shares.view(-1, 1, 1) * cameras
    of_srgb = weighted.sum(0) @ to_xyz
    sums = of_srgb.sum(1, keepdim=True)
    rows = of_srgb / sums
    return tuple(rows.flatten().tolist())


def _inverse_of_tone(x: Tensor) -> Tensor:
    """t with 3t² - 2t³ = x, for x clamped to [0, 1]; the slope 1 / (6t(1 - t)) is kept finite."""
    inside = x.detach().clamp(0, 1)
    angle = torch.asin(1 - 2 * inside)
    t = 0.5 - torch.sin(angle / 3)
    product = t * (1 - t)
    slope = 1 / (6 * product.clamp(min=_STEEPEST))
    return declare(x, t, slope)


def _power(x: Tensor, exponent: float) -> Tensor:
    return Gamma(exponent).forward(x, Rng.of(0, 1))


def _recolored(x: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel's channels [B, 3, H, W] multiplied by a matrix [3, 3]."""
    red, green, blue = x.split(1, 1)
    first, second, third = matrix.view(3, 3, 1, 1).unbind(1)
    mixed: Tensor = first * red + second * green + third * blue
    return mixed


@cached_constant(maxsize=8)
def _bayer(height: int, width: int) -> Tensor:
    """1 where a pixel keeps a colour, [1, 3, height, width]: RG in even rows, GB in odd ones."""
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    odd_row = rows[:, None] % 2
    odd_column = columns[None, :] % 2
    red = (1 - odd_row) * (1 - odd_column)
    blue = odd_row * odd_column
    green = 1 - red - blue
    return torch.stack([red, green, blue])[None]


@cached_constant(maxsize=16)
def _between(n: int, first: int) -> Tensor:
    """Linear interpolation from each second of n pixels, from `first` on, to all, [n, n]."""
    matrix = torch.zeros(n, n, dtype=torch.float64)
    last = n - 2 + first
    for i in range(n):
        distance = (i + first) % 2  # to the samples on both sides
        for neighbour in (i - distance, i + distance):
            nearest = min(max(neighbour, first), last)
            matrix[i, nearest] += 0.5
    return matrix


def demosaicked(raw: Tensor) -> Tensor:
    """Bilinear demosaicking of raw values [B, 1, H, W] of even sides: [B, 3, H, W].

    A missing red or blue is the mean of its two or four neighbours, a missing green the mean of its
    two horizontal and its two vertical neighbours. Beyond the border the nearest sample counts.
    """
    height, width = raw.shape[2:]
    even_rows = _between(height, 0).to(raw)
    odd_rows = _between(height, 1).to(raw)
    even_columns = _between(width, 0).to(raw)
    odd_columns = _between(width, 1).to(raw)
    red = even_rows @ raw @ even_columns.mT
    blue = odd_rows @ raw @ odd_columns.mT
    green_beside_red = even_rows @ raw @ odd_columns.mT
    green_beside_blue = odd_rows @ raw @ even_columns.mT
    _, is_green, _ = _bayer(height, width).to(raw).split(1, 1)
    missing = (green_beside_red + green_beside_blue) / 2
    green = torch.where(is_green > 0, raw, missing)
    return torch.cat([red, green, blue], 1)


@register("shotread", exact="N(x, shot·x + read)", gradient="at the draw")
class ShotRead(Operator):
    """Gaussian noise whose variance grows with the value, as on a camera's sensor.

    y = x + √(shot·x + read)·ε, ε ~ N(0, 1); x < 0 counts as 0 in the root. Gradient at the drawn ε:
    1 + shot·ε / (2√(shot·x + read)), finite at 0, and the derivatives of the root by shot and read.

    shot: the variance of a value of 1, 0 to 1; a number, or one per image.
    read: the variance at 0, 0 to 1; a number, or one per image. If left out, `sample` draws it from
        ln read = 2.18·ln shot + 1.20 + N(0, 0.26²), as real cameras have it.

    Source: Brooks et al. 2019, `random_noise_levels` and `add_noise`.
    """

    shot: Numbers = number(low=0, high=1, learnable=True)
    read: Numbers | None = number(default=None, low=0, high=1, learnable=True)
    local = True
    noisy = True

    @property
    def varies(self) -> bool:
        return self.read is None or super().varies

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.read is not None:
            return self
        shot = cast(float, self.shot)  # `row` has selected the value of this image
        if shot == 0:
            return self.with_values({"read": 0.0})
        exponent = 2.18 * math.log(shot) + 1.20 + 0.26 * _normal(rng)
        return self.with_values({"read": min(math.exp(exponent), 1.0)})

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        assert self.read is not None  # drawn
        shot = per_image(self.shot, x, "shot")
        read = per_image(self.read, x, "read")
        fixed_shot = shot.detach() if isinstance(shot, Tensor) else shot
        fixed_read = read.detach() if isinstance(read, Tensor) else read
        brightness = x.detach().clamp(min=0)
        variance = fixed_shot * brightness + fixed_read
        deviation = variance.sqrt()
        normal = rng.normal(x)
        divisor = 2 * deviation.clamp(min=_SMALLEST_DEVIATION)
        slope = normal / divisor  # of the noise by the variance
        noisy = x.detach() + deviation * normal
        declared = declare(x, noisy, 1 + fixed_shot * slope)
        slope_of_shot = slope * brightness
        return with_gradient_of(declared, shot * slope_of_shot + read * slope)
