"""Where a search begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .generator import StyleGenerator
from .loss import Lpips, Term, View
from .point import Point
from .problem import Problem

CHUNK = 8  # candidates looked at in one pass


class Start:
    """Called with a problem, gives the point [B] to begin at; one that looks at an image at a time defines `one`."""

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Point:
        return Point.cat([self.one(problem.row(i)) for i in range(problem.batch)])

    def one(self, problem: Problem) -> Point:
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(Start):
    """The mean of W, or of Z where there is no W."""

    def __call__(self, problem: Problem) -> Point:
        generator, batch = problem.generator, problem.batch
        if isinstance(generator, StyleGenerator):
            return Point(problem.center.clone())
        z = torch.zeros(batch, generator.z_dim, device=problem.device)
        return Point(z, z)


@dataclass(frozen=True)
class Drawn(Start):
    """A random code of W, drawn towards the mean by truncation_psi: for several answers to one question."""

    truncation_psi: float = 0.5

    def __call__(self, problem: Problem) -> Point:
        z = (
            problem.rng("start")
            .normal(torch.empty(problem.batch, problem.generator.z_dim))
            .to(problem.device)
        )
        return Point(toward_mean(problem, problem.map(z), self.truncation_psi), z)


@dataclass(frozen=True)
class BestOf(Start):
    """The best of `count` draws of z ~ N(0, I), by a term of a loss, through the operator."""

    count: int
    by: Term
    truncation_psi: float = 1.0

    def one(self, problem: Problem) -> Point:
        like = torch.empty(1, self.count, problem.generator.z_dim)
        z = problem.rng("candidates").normal(like)[0].to(problem.device)
        latent = toward_mean(problem, problem.map(z), self.truncation_psi)
        best = distances(problem, latent, self.by).argmin()
        return Point(latent[best][None], z[best][None])


@dataclass(frozen=True)
class Centroids(Start):
    """The nearest of the centres into which k-means parts W (of the image's class).

    through_operator: whether the centre's image is degraded before it is compared with the
    observation, or compared as it is, as published.
    Source: Wang et al. 2023 (CRI), Algorithm 1.
    """

    count: int = 10
    through_operator: bool = True

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Point:
        by, centers, points = Lpips(enlarge=True, at_most=256), {}, []
        for i, w in enumerate(problem.some_w):
            if id(w) not in centers:  # once for each class
                centers[id(w)] = kmeans(w, self.count)
            own = centers[id(w)]
            best = distances(problem.row(i), own, by, self.through_operator).argmin()
            points.append(Point(own[best][None]))
        return Point.cat(points)


def distances(problem: Problem, latents: Tensor, by: Term, through_operator: bool = True) -> Tensor:
    """The value of a term for each of many latents [N, …] of one image's problem; all meet the same noise."""
    measure, rng, values = by.prepare(problem), problem.rng("distances"), []
    seed = rng.integers(2**31)[0]
    for some in latents.split(CHUNK):
        image = problem.generator.synthesize(some)
        if through_operator:
            streams = [torch.Generator().manual_seed(seed) for _ in some]
            prediction = problem.operator(image, streams)
        else:
            prediction = F.interpolate(
                image, problem.observation.shape[2:], mode="bilinear", antialias=True
            )
        values.append(measure(View(prediction, image, Point(some), {}, rng)))
    return torch.cat(values)


def toward_mean(problem: Problem, latent: Tensor, truncation_psi: float) -> Tensor:
    if truncation_psi == 1 or not isinstance(problem.generator, StyleGenerator):
        return latent
    return torch.lerp(problem.center.expand(len(latent), -1), latent, truncation_psi)


def kmeans(points: Tensor, count: int, rounds: int = 100) -> Tensor:
    """Centres [count, D] of points [N, D], by Lloyd's rounds from a k-means++ start; always the same draws."""
    if not 0 < count <= len(points):
        raise ValueError(f"count={count} centres of {len(points)} points; give 1 to {len(points)}")
    draws = torch.Generator().manual_seed(0)
    centers = points[torch.randint(len(points), (1,), generator=draws)]
    while len(centers) < count:
        nearest = torch.cdist(points, centers).amin(1).square().double().cpu()
        if not nearest.sum() > 0:  # fewer different points than centres
            return torch.cat([centers, centers[:1].expand(count - len(centers), -1)])
        centers = torch.cat([centers, points[torch.multinomial(nearest, 1, generator=draws)]])
    for _ in range(rounds):
        nearest = torch.cdist(points, centers).argmin(1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        moved = torch.where(sizes > 0, sums / sizes.clamp_min(1), centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers
