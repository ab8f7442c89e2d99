"""Unsharp masking, as blind super-resolution sharpens its targets."""

from __future__ import annotations

import math

from torch import Tensor

from .convolution import convolve
from .kernels import KERNELS
from .operator import Operator, Shape
from .params import Integer, Number, Numbers, decided, integer, number, tensor_of
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare, with_gradient_of


@register("usm", exact="cv2, by its formula", gradient="identity")
class USM(Operator):
    """Sharpen by unsharp masking, where the image differs enough from its blur.

    y = m·clamp(x + weight·r) + (1 - m)·x with r = x - G ∗ x and m = G ∗ [|r| > threshold]; G is a
    Gaussian, and the image is mirrored at its edges. Gradient: identity; those of weight and
    size are exact, but for the mask [|r| > threshold], which counts as constant.

    weight: how much of the difference r is added, 0 to 10; a number, or one per image.
    threshold: the difference from which a pixel is sharpened, 0 to 1; 10/255 if left out.
    size: the standard deviation of G in pixels, above 0 to 100.
    side: the side of the square of pixels that G is cut to, odd, 1 to 501.

    Source: `USMSharp` of BasicSR, with its constants.
    """

    weight: Numbers = number(default=0.5, low=0, high=10, learnable=True)
    threshold: Number = number(default=10 / 255, low=0, high=1, levels=True, per_image=False)
    size: Number = number(default=8, above=0, high=100, per_image=False, learnable=True)
    side: Integer = integer(default=51, low=1, high=501, odd=True, per_image=False)

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        exact = row_by_row(self._sharpened, x.detach(), weight=self.weight)
        return with_gradient_of(declare(x, exact), exact)

    def _sharpened(self, x: Tensor, weight: float) -> Tensor:
        size = decided(self.size)
        side = decided(self.side)
        kernel = KERNELS["gaussian"].draw(size, size, 0, 1, side)
        residual = x - convolve(x, kernel)
        threshold = decided(self.threshold)
        differs = residual.abs() > threshold
        mask = differs.to(x)
        soft_mask = convolve(mask, kernel)
        sharper = x + tensor_of(weight, x) * residual
        sharp = sharper.clamp(0, 1)
        unchanged = 1 - soft_mask
        return soft_mask * sharp + unchanged * x

    def reach(self, shape: Shape) -> float:
        if isinstance(self.side, int):
            return self.side - 1  # two blurs, one after the other
        return math.inf
