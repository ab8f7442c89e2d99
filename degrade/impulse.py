"""Pixels that lose their value: salt and pepper, and the dead and hot pixels of a sensor."""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import Operator, Shape
from .params import Integers, Numbers, number, option, per_image, random_seed, single
from .registry import register
from .rng import Rng
from .seeded import Unknown, survivors


@register("saltpepper", exact="its probabilities", gradient="the untouched")
class SaltPepper(Operator):
    """Turn each pixel, or each value of a pixel, white or black with probability prob.

    The pixels are drawn at every call. Gradient: 1 for pixels that keep their value, else 0.

    prob: probability of a change, in [0, 1]; a number, or one per image.
    salt: share of white among the changed pixels, in [0, 1]; a number, or one per image.
    each: "pixel" changes all channels of a pixel together, "channel" draws for each of them.

    Source: Gonzalez & Woods, "Digital Image Processing", bipolar impulse noise.
    """

    prob: Numbers = number(low=0, high=1)
    salt: Numbers = number(default=0.5, low=0, high=1)
    each: str = option("pixel", "channel", default="pixel")
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        prob = per_image(self.prob, x, "prob")
        salt = per_image(self.salt, x, "salt")
        drawn_apart = x[:, :1] if self.each == "pixel" else x
        uniform = rng.uniform(drawn_apart)
        changes = uniform < prob
        turns_white = uniform < prob * salt
        white_or_black = turns_white.to(x)
        return torch.where(changes, white_or_black, x)

    def lost(self) -> dict[float, float]:
        prob, salt = single(self.prob), single(self.salt)
        return {0.0: prob * (1 - salt), 1.0: prob * salt}


class _Defects(Unknown):
    """Base of operators that lose each pixel, in all its channels, with probability prob."""

    prob: Numbers

    @property
    def local(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return self.seed is None  # a seed gives other pixels for another size

    def alive(self, shape: Shape) -> Tensor:
        """1 for pixels that keep their value, else 0, [1 or B, 1, H, W]."""
        return survivors(self.prob, self.drawn_seed, shape)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        if self.seed is None:
            return seen
        alive = self.alive(shape)
        if seen is None:
            return alive
        return seen * alive.to(seen)


@register("deadpixels", exact="its probability", gradient="the mask")
class DeadPixels(_Defects):
    """Turn each pixel black, in all its channels, with probability prob.

    y = m ⊙ x with m ~ Bernoulli(1 - prob), and the adjoint is m ⊙ y. Gradient: the mask m.

    prob: in [0, 1]; a number, or one per image.
    seed: fixes the pixels. `sample` draws it, and `approx` removes it, since a solver does not know
        which pixels are dead.

    Source: the Bernoulli mask of Poirier-Ginter & Lalonde 2023.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        alive = self.alive(x.shape)
        return x * alive.to(x)

    def lost(self) -> dict[float, float]:
        return {0.0: single(self.prob)}


@register("hotpixels", exact="its probability", gradient="the mask")
class HotPixels(_Defects):
    """Turn each pixel white, in all its channels, with probability prob.

    y = m ⊙ x + (1 - m) with m ~ Bernoulli(1 - prob). Gradient: the mask m.

    prob: in [0, 1]; a number, or one per image.
    seed: fixes the pixels. `sample` draws it, and `approx` removes it, since a solver does not know
        which pixels are hot.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)
    linear = False  # white is no multiple of x

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        alive = self.alive(x.shape)
        is_alive = alive.to(x.device) > 0
        return torch.where(is_alive, x, 1.0)

    def lost(self) -> dict[float, float]:
        return {1.0: single(self.prob)}
