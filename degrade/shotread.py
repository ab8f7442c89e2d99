"""The noise of a camera's sensor: photons that arrive by chance, and the electronics.

Source: Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising", by its published code.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from .operator import Operator, Shape
from .params import Numbers, number, per_image
from .registry import register
from .rng import Rng
from .surrogate import declare, with_gradient_of

_SMALLEST_DEVIATION = 1e-6  # in the slope of a root


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
        deviation = 0.26 * normal_number(rng)
        exponent = 2.18 * math.log(shot) + 1.20 + deviation
        read = math.exp(exponent)
        return self.with_values({"read": min(read, 1.0)})

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        assert self.read is not None  # drawn
        shot = per_image(self.shot, x, "shot")
        read = per_image(self.read, x, "read")
        fixed_shot = _fixed(shot)
        fixed_read = _fixed(read)
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


def _fixed(value: float | Tensor) -> float | Tensor:
    """A parameter without its gradient."""
    return value.detach() if isinstance(value, Tensor) else value


def normal_number(rng: Rng) -> float:
    """One number of N(0, 1), for one image."""
    like = torch.empty(1, 1, dtype=torch.float32, device="cpu")
    return float(rng.normal(like))
