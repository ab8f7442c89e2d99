"""Where a search stands: everything that decides the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.rng import Rng

from .generator import Features, Generator

Variables = dict[str, Tensor]  # every one [B, …]


@dataclass(frozen=True)
class Point:
    """Where a search stands: all that decides the image."""

    latent: Tensor  # of W, W+, W++ (packed), or of Z where the generator has no W
    z: Tensor | None = None  # what the latent was made of, by methods that search there
    noises: tuple[Tensor, ...] | None = None  # noise maps instead of the checkpoint's
    start: Features | None = None  # features instead of what the first layers make
    weights: tuple[Variables, ...] | None = None  # of each image, instead of the generator's

    def image(self, generator: Generator) -> Tensor:
        """[B, C, R, R], unclamped."""
        options = {}
        if self.noises is not None:
            options["noises"] = self.noises
        if self.start is not None:
            options["start"] = self.start
        if self.weights is None:
            return generator.synthesize(self.latent, **options)
        rows = [self.row(i) for i in range(len(self.latent))]
        return torch.cat(
            [
                torch.func.functional_call(generator, weights, row.latent, options)
                for row, weights in zip(rows, self.weights, strict=True)
            ]
        )

    def row(self, index: int) -> Point:
        """Image `index` alone."""
        return self._each(lambda x: x[index : index + 1], lambda rows: rows[index : index + 1])

    def detached(self) -> Point:
        rows = lambda rows: tuple({k: v.detach() for k, v in row.items()} for row in rows)  # noqa: E731
        return self._each(lambda x: x.detach(), rows)

    def _each(self, change: Callable[[Tensor], Tensor], rows: Callable) -> Point:
        start = self.start
        if start is not None:
            start = Features(
                start.block,
                change(start.maps),
                None if start.image is None else change(start.image),
            )
        return Point(
            change(self.latent),
            None if self.z is None else change(self.z),
            None if self.noises is None else tuple(map(change, self.noises)),
            start,
            None if self.weights is None else rows(self.weights),
        )

    @staticmethod
    def cat(points: list[Point]) -> Point:
        """The points of single images as one."""
        first = points[0]
        start = first.start
        if start is not None:
            images = None if start.image is None else torch.cat([p.start.image for p in points])
            start = Features(start.block, torch.cat([p.start.maps for p in points]), images)
        return Point(
            torch.cat([p.latent for p in points]),
            None if first.z is None else torch.cat([p.z for p in points]),
            None
            if first.noises is None
            else tuple(map(torch.cat, zip(*(p.noises for p in points), strict=True))),
            start,
            None if first.weights is None else tuple(row for p in points for row in p.weights),
        )


@dataclass(frozen=True)
class Moment:
    """When a space is asked for its point: how far the phase has come (0 to 1), and the step's own draws."""

    progress: float
    rng: Rng
