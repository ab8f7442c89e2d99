"""Masks: parts of an image that were lost and are known to be lost."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import cached_constant
from .held import Held
from .noise import Seeded, seeded_uniform, survivors
from .operator import Operator, Shape, Window
from .params import Integer, Integers, Number, Numbers, integer, number, option, random_seed, tensor
from .registry import register
from .rng import Rng

_BARELY = 1 / 64  # what is seen less than this, by four levels of 255, counts as hidden
_SEAM = 0.04  # how far into what is hidden a difference at its edge is carried, as a share of the shorter side


class Masking(Operator):
    """Multiplies by `pattern(shape)`, [1 or B, 1, H, W] in [0, 1] (1 = seen). Gradient: the mask.

    `project`: y where all is seen, bit for bit; y / mask where the mask is from 1/64 to 1; below
    that x, on which what y - x is at the edge is carried on and fades out, so that the seam is soft.
    """

    linear = local = True

    def pattern(self, shape: Shape) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * self.pattern(x.shape).to(x)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window]:
        return Mask(self.pattern(shape)[(..., *window)]), window

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        mask = self.pattern(x.shape).to(x)
        seen = mask >= _BARELY
        told = torch.where(mask == 1, y, (y / mask.clamp(min=_BARELY)).clamp(0, 1))
        hidden = (x + _fading((told - x) * seen, seen.to(x))).clamp(0, 1)
        return torch.where(seen, told, hidden)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor:
        pattern = self.pattern(shape)
        return pattern if seen is None else seen * pattern.to(seen)


@register("mask", exact="x · mask", gradient="the mask")
class Mask(Held, Masking):
    """Multiply by a soft mask (1 = seen).

    mask: a tensor [1, 1, H, W] or [B, 1, H, W] with values in [0, 1], or the path of an image file
    (read as grey, 255 = seen) or of a .safetensors file with the tensor `mask`. The images must have
    the mask's size. Masks are equal where their values are. A mask given as a tensor prints as its
    digest; write it to a file and use the path to get a text that can be parsed.
    """

    mask: Tensor | str | Path = tensor(channels=1)
    __eq__, __hash__ = Held.same, Held.kind

    def pattern(self, shape: Shape) -> Tensor:
        pattern = self._tensor
        if pattern.shape[2:] != tuple(shape[2:]) or len(pattern) not in (1, shape[0]):
            raise ValueError(
                f"the mask is {list(pattern.shape)}, the images are {list(shape)}; give one of their size"
            )
        return pattern


@register("strokes", exact="x · strokes", gradient="the mask")
class Strokes(Seeded, Masking):
    """Brush strokes that hide the image: straight, anti-aliased lines with round caps.

    Every coordinate of both ends is drawn in an outer third of the image, as the published code of
    Poirier-Ginter & Lalonde 2023 does. count: number of strokes, ≥ 0. width: of a stroke, as a
    share of the image's shorter side. seed: fixes the strokes, the same ones at every resolution;
    `sample` sets it.
    """

    count: Integer = integer(low=0, high=1000, per_image=False)
    width: Number = number(default=0.08, low=0, high=1, per_image=False)
    seed: Integers | None = random_seed(default=None)

    def pattern(self, shape: Shape) -> Tensor:
        check_decided(self)
        return _draw_strokes(self.seed, self.count, self.width, shape[0], *shape[2:])


@register("pixels", exact="its probability", gradient="the mask")
class Pixels(Seeded, Masking):
    """Each pixel is hidden, in all its channels, with probability prob; a solver knows which.

    prob: in [0, 1]; a number, or one per image. seed: fixes the pixels; `sample` sets it. The same
    law as `deadpixels`, of which a solver knows only the probability.
    """

    prob: Numbers = number(low=0, high=1)
    seed: Integers | None = random_seed(default=None)

    def pattern(self, shape: Shape) -> Tensor:
        check_decided(self)
        return survivors(self.prob, self.seed, shape)


@register("box", exact="x · mask", gradient="the mask")
class Box(Masking):
    """A hidden rectangle; without parameters the central third, as CRI and DGP inpaint.

    height, width: shares of the image's sides, in [0, 1]. top, left: where it begins, as shares of
    the sides; None centres it. Edges are rounded to whole pixels; what leaves the image is cut.
    Source: Wang et al. 2023 (CRI).
    """

    height: Number = number(default=1 / 3, low=0, high=1, per_image=False)
    width: Number = number(default=1 / 3, low=0, high=1, per_image=False)
    top: Number | None = number(default=None, low=0, high=1, per_image=False)
    left: Number | None = number(default=None, low=0, high=1, per_image=False)

    def pattern(self, shape: Shape) -> Tensor:
        pattern = torch.ones(1, 1, *shape[2:], dtype=torch.float32, device="cpu")
        pattern[
            ..., _span(self.top, self.height, shape[2]), _span(self.left, self.width, shape[3])
        ] = 0
        return pattern


@register("uncrop", exact="x · mask", gradient="the mask")
class Uncrop(Masking):
    """Hides all but a corner, so that a solver paints what a crop cut away.

    keep: share of the image's area that stays, in (0, 1]; each side keeps its square root, rounded
    to whole pixels, at least one. where: "corner" (top left, the text of Poirier-Ginter & Lalonde
    2023) or "center" (the window of its published code, of a share that the text does not give).
    """

    keep: Number = number(default=0.25, above=0, high=1, per_image=False)
    where: str = option("corner", "center", default="corner")

    def pattern(self, shape: Shape) -> Tensor:
        start = 0 if self.where == "corner" else None
        pattern = torch.zeros(1, 1, *shape[2:], dtype=torch.float32, device="cpu")
        rows, cols = (_span(start, max(self.keep**0.5, 1 / n), n) for n in shape[2:])
        pattern[..., rows, cols] = 1
        return pattern


def _span(start: float | None, share: float, n: int) -> slice:
    """`share` of n pixels from the share `start` on, or in the middle."""
    size = round(share * n)
    first = (n - size) // 2 if start is None else round(start * n)
    return slice(first, first + size)


def _fading(residual: Tensor, seen: Tensor) -> Tensor:
    """A residual [1, C, H, W], zero where nothing is seen [1, 1, H, W], carried on into that and faded to zero.

    Pixel by pixel from the edge inwards: each is the mean of its neighbours that have one already.
    """
    reach = max(1, round(_SEAM * min(seen.shape[2:])))
    carried, reached = residual, seen
    fade = seen.clone()
    for ring in range(1, reach + 1):
        weight = F.avg_pool2d(reached, 3, 1, 1)
        new = (weight > 0) & (reached == 0)
        carried = torch.where(new, F.avg_pool2d(carried, 3, 1, 1) / weight, carried)
        fade = torch.where(new, 0.5 + 0.5 * math.cos(math.pi * ring / (reach + 1)), fade)
        reached = reached.masked_fill(new, 1)
    return carried * fade


def check_decided(op: Seeded) -> None:
    if op.seed is None:
        raise ValueError(
            f"which {op.name} is not decided yet; give its seed, or use .sample(shape, generator)"
        )


@cached_constant(maxsize=16)  # a solver asks for the same strokes at every step
def _draw_strokes(
    seed: Numbers, count: int, thickness: float, batch: int, height: int, width: int
) -> Tensor:
    u = seeded_uniform(seed, (count, 2, 2), batch).double()  # [S, stroke, end, (x, y)]
    outer = torch.where(u < 0.5, u, u + 0.5) * 2 / 3  # [0, 1/3) or [2/3, 1)
    ends = outer * torch.tensor([width, height], dtype=torch.float64)
    ys, xs = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width))
    pixels = torch.stack(torch.broadcast_tensors(xs[None, :], ys[:, None]), -1)  # [H, W, (x, y)]
    hidden = torch.zeros(len(u), height, width, dtype=torch.float64)
    for stroke in ends[:, :, :, None, None].unbind(1):  # [S, end, 1, 1, (x, y)]
        distance = distance_to_segment(pixels, stroke[:, 0], stroke[:, 1])
        hidden = torch.maximum(hidden, _covered(distance, thickness * min(height, width) / 2))
    return (1 - hidden).float()[:, None]


def distance_to_segment(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """From each point p [..., (x, y)] to the segment from a to b."""
    along = b - a
    t = ((p - a) * along).sum(-1) / (along * along).sum(-1).clamp(min=1e-12)
    return torch.linalg.vector_norm(p - a - t.clamp(0, 1)[..., None] * along, dim=-1)


def _covered(distance: Tensor, half: float) -> Tensor:
    """Share of a unit-wide pixel at `distance` from the axis of a line of half-width `half`."""
    return (half + 0.5 - distance).clamp(0, 1) - (0.5 - half - distance).clamp(0, 1)
