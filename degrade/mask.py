"""Masks: hidden parts of an image, where a solver knows which parts are hidden."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .held import Held
from .operator import Operator, Shape, Window
from .params import (
    Integer,
    Integers,
    Number,
    Numbers,
    decided,
    integer,
    number,
    option,
    random_seed,
    tensor,
)
from .registry import register
from .rng import Rng
from .seeded import Seed, Seeded, seeded_uniform, survivors
from .segment import distance_to_segment

_BARELY = 1 / 64  # a mask below this, four levels of 255, counts as hidden
_SEAM = 0.04  # how far a correction fades into the hidden region, as a share of the short side


class Masking(Operator):
    """Base of operators that multiply by a mask, 1 = visible.

    y = m ⊙ x with m = `pattern(shape)`, [1 or B, 1, H, W] in [0, 1]; the adjoint is m ⊙ y.
    Gradient: the mask.

    `project` (data consistency): y where m = 1, bit for bit; y / m where 1/64 ≤ m < 1. In the
    hidden region x stays, plus the difference at its border, which fades out so that no seam shows.
    """

    local = True

    def pattern(self, shape: Shape) -> Tensor:
        """The mask for images of `shape`. It may be a tensor that is kept; do not change it."""
        raise NotImplementedError

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        pattern = self.pattern(x.shape)
        return x * pattern.to(x)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window]:
        rows, columns = window
        pattern = self.pattern(shape)
        pattern_of_window = pattern[..., rows, columns]
        return Mask(pattern_of_window), window

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        pattern = self.pattern(x.shape)
        mask = pattern.to(x)
        is_visible = mask >= _BARELY
        unmasked = y / mask.clamp(min=_BARELY)
        in_range = unmasked.clamp(0, 1)
        known = torch.where(mask == 1, y, in_range)
        difference = (known - x) * is_visible
        visible = is_visible.to(x)
        corrected = x + _continued(difference, visible)
        hidden = corrected.clamp(0, 1)
        return torch.where(is_visible, known, hidden)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor:
        pattern = self.pattern(shape)
        if seen is None:
            return pattern.to(torch.float32, copy=True)  # the caller may change it
        return seen * pattern.to(seen)


@register("mask", exact="x · mask", gradient="the mask")
class Mask(Held, Masking):
    """Multiply by a soft mask, 1 = visible.

    y = m ⊙ x, and the adjoint is m ⊙ y.

    mask: a tensor [1, 1, H, W] or [B, 1, H, W] in [0, 1], the path of an image file (read as grey,
        255 = visible), or the path of a .safetensors file with the tensor `mask`. H and W are the
        images' sides.

    Masks are equal if their values are. A mask given as a tensor prints as its digest; give the
    path of a file for a text that can be parsed.
    """

    mask: Tensor | str | Path = tensor(channels=1, learnable=True)
    linear = True
    __eq__, __hash__ = Held.same, Held.kind

    def pattern(self, shape: Shape) -> Tensor:
        return self.fitting(shape)


@register("strokes", exact="x · strokes", gradient="the mask")
class Strokes(Seeded, Masking):
    """Hide the image under brush strokes: straight, anti-aliased lines with round caps.

    y = m ⊙ x, and the adjoint is m ⊙ y. Every coordinate of both ends of a stroke is drawn in an
    outer third of the image, as in the published code of Poirier-Ginter & Lalonde 2023.

    count: number of strokes, 0 to 1000.
    width: of a stroke, as a share of the image's shorter side.
    seed: fixes the strokes, which are the same at every resolution; `sample` draws it.
    """

    count: Integer = integer(low=0, high=1000, per_image=False)
    width: Number = number(default=0.08, low=0, high=1, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def pattern(self, shape: Shape) -> Tensor:
        count = decided(self.count)
        width = decided(self.width)
        batch, _, *sides = shape
        seed = self.drawn_seed
        masks = batch if isinstance(seed, tuple) else 1
        return _draw_strokes(seed, count, width, (masks, *sides))


@register("pixels", exact="its probability", gradient="the mask")
class Pixels(Seeded, Masking):
    """Hide each pixel, in all its channels, with probability `prob`; a solver knows which.

    y = m ⊙ x with m ~ Bernoulli(1 - prob), and the adjoint is m ⊙ y. `deadpixels` follows the same
    law, but there a solver knows only the probability.

    prob: in [0, 1]; a number, or one per image.
    seed: fixes the pixels; `sample` draws it.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)

    def pattern(self, shape: Shape) -> Tensor:
        return survivors(self.prob, self.drawn_seed, shape)


@register("box", exact="x · mask", gradient="the mask")
class Box(Masking):
    """Hide a rectangle; by default the central third, as CRI and DGP do for inpainting.

    y = m ⊙ x, and the adjoint is m ⊙ y.

    height, width: of the rectangle, as shares of the image's sides, in [0, 1].
    top, left: its corner, as shares of the sides; None centres it.

    Edges are rounded to whole pixels and cut at the image. Source: Wang et al. 2023 (CRI).
    """

    height: Number = number(default=1 / 3, low=0, high=1, per_image=False)
    width: Number = number(default=1 / 3, low=0, high=1, per_image=False)
    top: Number | None = number(default=None, low=0, high=1, per_image=False)
    left: Number | None = number(default=None, low=0, high=1, per_image=False)
    linear = True

    def pattern(self, shape: Shape) -> Tensor:
        *_, height, width = shape
        top, share_of_height = decided(self.top), decided(self.height)
        rows = _span(top, share_of_height, height)
        left, share_of_width = decided(self.left), decided(self.width)
        columns = _span(left, share_of_width, width)
        pattern = torch.ones(1, 1, height, width, dtype=torch.float32, device="cpu")
        pattern[..., rows, columns] = 0
        return pattern


@register("uncrop", exact="x · mask", gradient="the mask")
class Uncrop(Masking):
    """Hide everything but a corner or the centre, so that a solver paints what a crop cut away.

    y = m ⊙ x, and the adjoint is m ⊙ y.

    keep: share of the image's area that stays visible, in (0, 1]. Each side keeps the square root
        of it, rounded to whole pixels, at least one.
    where: "corner" (top left, as in the text of Poirier-Ginter & Lalonde 2023) or "center" (as in
        its published code).
    """

    keep: Number = number(default=0.25, above=0, high=1, per_image=False)
    where: str = option("corner", "center", default="corner")
    linear = True

    def pattern(self, shape: Shape) -> Tensor:
        *_, height, width = shape
        rows = self._visible_span(height)
        columns = self._visible_span(width)
        pattern = torch.zeros(1, 1, height, width, dtype=torch.float32, device="cpu")
        pattern[..., rows, columns] = 1
        return pattern

    def _visible_span(self, n: int) -> slice:
        """The visible ones of n rows or columns."""
        start = 0 if self.where == "corner" else None
        share = decided(self.keep) ** 0.5
        one_pixel = 1 / n
        return _span(start, max(share, one_pixel), n)


def _span(start: float | None, share: float, n: int) -> slice:
    """The span of share·n pixels that begins at start·n, or lies in the middle if start is None."""
    size = round(share * n)
    first = (n - size) // 2
    if start is not None:
        first = round(start * n)
    return slice(first, first + size)


def _continued(difference: Tensor, visible: Tensor) -> Tensor:
    """Continue a difference [1, C, H, W] from the visible region [1, 1, H, W] into the hidden one.

    It fades to zero. From the border inwards, ring by ring, each pixel gets the mean of its
    neighbours that have a value.
    """
    shorter_side = min(visible.shape[2:])
    width_of_seam = round(_SEAM * shorter_side)
    rings = max(1, width_of_seam)
    has_value = visible
    fade = visible.clone()
    for ring in range(1, rings + 1):
        share_with_value = _mean_of_neighbours(has_value)
        has_neighbour = share_with_value > 0
        is_new = has_neighbour & (has_value == 0)
        sum_of_neighbours = _mean_of_neighbours(difference)
        mean = sum_of_neighbours / share_with_value
        difference = torch.where(is_new, mean, difference)
        phase = math.pi * ring / (rings + 1)
        strength = 0.5 + 0.5 * math.cos(phase)
        fade = torch.where(is_new, strength, fade)
        has_value = has_value.masked_fill(is_new, 1)
    return difference * fade


def _mean_of_neighbours(x: Tensor) -> Tensor:
    """The mean of 3 × 3 pixels around each, with zeros around the image."""
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)


@cached_constant(maxsize=16)  # a solver asks for the same strokes at every step
def _draw_strokes(seed: Seed, count: int, thickness: float, size: Shape) -> Tensor:
    """The mask [1 or B, 1, H, W] of seeded strokes; size: (B, H, W)."""
    batch, height, width = size
    sides = torch.tensor([width, height], dtype=torch.float64)
    ends = _ends_of_strokes(seed, count, batch) * sides
    pixels = _pixel_centres(height, width)
    half_width = thickness * min(height, width) / 2
    shape = (len(ends), height, width)
    hidden = torch.zeros(shape, dtype=torch.float64)
    for stroke in ends.unbind(1):
        both_ends = stroke[:, :, None, None]
        start, end = both_ends.unbind(1)  # [S, 1, 1, (x, y)]
        distance = distance_to_segment(pixels, start, end)
        covered = _covered(distance, half_width)
        hidden = torch.maximum(hidden, covered)
    visible = 1 - hidden
    return visible.float()[:, None]


def _ends_of_strokes(seed: Seed, count: int, batch: int) -> Tensor:
    """Where strokes end, as shares of the sides: [S, stroke, end, (x, y)]."""
    draws = seeded_uniform(seed, (count, 2, 2), batch)
    uniform = draws.double()
    spread = torch.where(uniform < 0.5, uniform, uniform + 0.5)
    return spread * 2 / 3  # in [0, 1/3) or [2/3, 1)


def _pixel_centres(height: int, width: int) -> Tensor:
    """The centre of each pixel, [height, width, (x, y)]."""
    column = torch.arange(width, dtype=torch.float64)
    row = torch.arange(height, dtype=torch.float64)
    coordinates = torch.meshgrid(column + 0.5, row + 0.5, indexing="xy")
    return torch.stack(coordinates, -1)


def _covered(distance: Tensor, half: float) -> Tensor:
    """Share of a unit-wide pixel at `distance` from the axis of a line of half-width `half`."""
    to_upper_edge = half + 0.5 - distance
    to_lower_edge = 0.5 - half - distance
    below_upper_edge = to_upper_edge.clamp(0, 1)
    below_lower_edge = to_lower_edge.clamp(0, 1)
    return below_upper_edge - below_lower_edge
