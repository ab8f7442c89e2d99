"""Masks: parts of an image that were lost and are known to be lost."""

from __future__ import annotations

from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from .noise import seeded_uniform
from .operator import Operator, Shape, register
from .params import Numbers, numbers
from .rng import Rng


class Masking(Operator):
    """Multiplies by `pattern(shape)`, [1 or B, 1, H, W] in [0, 1] (1 = seen). Gradient: the mask."""

    linear = True

    def pattern(self, shape: Shape) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return x * self.pattern(x.shape).to(x)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor:
        pattern = self.pattern(shape)
        return pattern if seen is None else seen * pattern.to(seen)


@register("mask")
class Mask(Masking):
    """Multiply by a soft mask (1 = seen).

    mask: a tensor [1, 1, H, W] or [B, 1, H, W] with values in [0, 1], or the path of an image file
    (read as grey, 255 = seen). The images must have the mask's size. A mask given as a tensor
    prints as its digest; write it to a file and use the path to get a text that can be parsed.
    """

    mask: Tensor | str
    files = ("mask",)

    def __post_init__(self):
        if isinstance(self.mask, (str, Path)):
            object.__setattr__(self, "mask", str(self.mask))  # read at the first use
            return
        m = self.mask
        if not isinstance(m, Tensor):
            raise ValueError(f"mask={m!r} must be a tensor [1 or B, 1, H, W] in [0, 1] or the path of an image")
        if m.ndim != 4 or m.shape[1] != 1 or 0 in m.shape:
            raise ValueError(f"mask has shape {list(m.shape)}; give [1, 1, H, W] or [B, 1, H, W]")
        if not ((m >= 0) & (m <= 1)).all():
            raise ValueError("mask has values outside [0, 1]; 1 marks what is seen")
        object.__setattr__(self, "mask", m.detach().clone())  # a value: later edits do not reach it

    @cached_property
    def _tensor(self) -> Tensor:
        if isinstance(self.mask, Tensor):
            return self.mask.float()
        import numpy
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self.mask) as image:
                return torch.from_numpy(numpy.asarray(image.convert("L"), dtype="float32") / 255)[None, None]
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"mask={self.mask!r} cannot be read as an image: {error}") from error

    @property
    def _key(self) -> str:
        if isinstance(self.mask, str):
            return self.mask
        size = "x".join(map(str, self.mask.shape))
        return f"{size}-{sha256(self._tensor.cpu().numpy().tobytes()).hexdigest()[:16]}"

    def arguments(self) -> list[tuple[str, object, bool]]:
        return [("mask", self._key, True)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def pattern(self, shape: Shape) -> Tensor:
        pattern = self._tensor
        if pattern.shape[2:] != tuple(shape[2:]) or len(pattern) not in (1, shape[0]):
            raise ValueError(f"the mask is {list(pattern.shape)}, the images are {list(shape)}; give one of their size")
        return pattern


@register("strokes")
class Strokes(Masking):
    """Brush strokes that hide the image: straight, anti-aliased lines with round caps.

    Every coordinate of both ends is drawn in an outer third of the image, as the published code of
    Poirier-Ginter & Lalonde 2023 does. count: number of strokes, ≥ 0. width: of a stroke, as a
    share of the image's shorter side. seed: fixes the strokes, the same ones at every resolution;
    `sample` sets it.
    """

    count: int
    width: float = 0.08
    seed: Numbers | None = None

    def __post_init__(self):
        numbers(self, "count", 0, 10_000, integer=True)
        numbers(self, "width", 0, 1)
        if self.seed is not None:
            numbers(self, "seed", 0, 2**32 - 1, integer=True)

    @property
    def linear(self) -> bool:
        return self.seed is not None

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        return self if self.linear else Strokes(self.count, self.width, rng.integers(2**32))

    def pattern(self, shape: Shape) -> Tensor:
        if self.seed is None:
            raise ValueError("which strokes is not decided yet; use .sample(shape, generator)")
        return _draw_strokes(self.seed, self.count, self.width, *shape[2:])


@lru_cache(maxsize=16)  # a solver asks for the same strokes at every step
def _draw_strokes(seed: Numbers, count: int, thickness: float, height: int, width: int) -> Tensor:
    u = seeded_uniform(seed, (count, 2, 2)).double()  # [S, stroke, end, (x, y)]
    outer = torch.where(u < 0.5, u, u + 0.5) * 2 / 3  # [0, 1/3) or [2/3, 1)
    ends = outer * torch.tensor([width, height])
    ys, xs = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width))
    pixels = torch.stack(torch.broadcast_tensors(xs[None, :], ys[:, None]), -1)  # [H, W, (x, y)]
    hidden = torch.zeros(len(u), height, width, dtype=torch.float64)
    for stroke in ends[:, :, :, None, None].unbind(1):  # [S, end, 1, 1, (x, y)]
        distance = _distance_to_segment(pixels, stroke[:, 0], stroke[:, 1])
        hidden = torch.maximum(hidden, _covered(distance, thickness * min(height, width) / 2))
    return (1 - hidden).float()[:, None]


def _distance_to_segment(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    along = b - a
    t = ((p - a) * along).sum(-1) / (along * along).sum(-1).clamp(min=1e-12)
    return torch.linalg.vector_norm(p - a - t.clamp(0, 1)[..., None] * along, dim=-1)


def _covered(distance: Tensor, half: float) -> Tensor:
    """Share of a unit-wide pixel at `distance` from the axis of a line of half-width `half`."""
    return (half + 0.5 - distance).clamp(0, 1) - (0.5 - half - distance).clamp(0, 1)
