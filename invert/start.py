"""Where a search begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss import Lpips, Term, View
from .point import Point
from .problem import Problem

CHUNK = 8  # candidates that are synthesized in one pass


class Start:
    """Called with a problem, it returns the point [B] where the search begins.

    A start that looks at one image at a time defines `one`. draws: whether the seed decides where
    it begins.
    """

    draws: bool = False

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Point:
        points = []
        for i in range(problem.batch):
            points.append(self.one(problem.row(i)))
        return Point.cat(points)

    def one(self, problem: Problem) -> Point:
        """Return where the search for a single image begins."""
        raise NotImplementedError

    def check(self, problem: Problem) -> None:
        """Raise ValueError where the problem lacks what this needs."""


@dataclass(frozen=True)
class Mean(Start):
    """The mean of W, or of Z where there is no W."""

    def __call__(self, problem: Problem) -> Point:
        if problem.has_w:
            return Point(problem.center.clone())
        shape = (problem.batch, problem.generator.z_dim)
        z = torch.zeros(shape, device=problem.device, dtype=torch.float32)
        return Point(z, z)


@dataclass(frozen=True)
class Drawn(Start):
    """A random code of W, moved towards the mean by truncation_psi: for several answers."""

    truncation_psi: float = 0.5
    draws = True

    def __call__(self, problem: Problem) -> Point:
        z = problem.draw_z("start")
        latent = toward_mean(problem, problem.map(z), self.truncation_psi)
        return Point(latent, z)


@dataclass(frozen=True)
class BestOf(Start):
    """The best of `count` draws of z ~ N(0, deviation²), by a term of a loss, through the operator.

    A mapping normalises z: with one, `deviation` does not change the images, but how far a step of
    the same length turns them.
    """

    count: int
    by: Term
    truncation_psi: float = 1.0
    deviation: float = 1.0
    draws = True

    def check(self, problem: Problem) -> None:
        check_applies(self.by, problem)

    def one(self, problem: Problem) -> Point:
        z_dim = problem.generator.z_dim
        (draws,) = problem.normal("candidates", self.count, z_dim)
        z = draws * self.deviation
        latent = toward_mean(problem, problem.map(z), self.truncation_psi)
        best = distances(problem, latent, self.by).argmin()
        candidates = Point(latent, z)
        return candidates.row(int(best))


@dataclass(frozen=True)
class Centroids(Start):
    """The nearest of the centres that k-means finds in W (of the image's class).

    through_operator: whether the centre's image is degraded before it is compared with the
    observation, or compared as it is, as published.
    Source: Wang et al. 2023 (CRI), Algorithm 1.
    """

    count: int = 10
    through_operator: bool = True

    def check(self, problem: Problem) -> None:
        check_applies(_CENTROID_DISTANCE, problem)

    @torch.no_grad()
    def __call__(self, problem: Problem) -> Point:
        centers_of: dict[int, Tensor] = {}
        points = []
        for i, w in enumerate(problem.some_w):
            if id(w) not in centers_of:  # once for each class
                centers_of[id(w)] = kmeans(w, self.count)
            centers = centers_of[id(w)]
            row = problem.row(i)
            scores = distances(row, centers, _CENTROID_DISTANCE, self.through_operator)
            best = int(scores.argmin())
            points.append(Point(centers).row(best))
        return Point.cat(points)


_CENTROID_DISTANCE = Lpips(enlarge=True, at_most=256)


def check_applies(term: Term, problem: Problem) -> None:
    """Raise ValueError where candidates cannot be compared by this term."""
    if not term.applies(problem):
        raise ValueError(
            f"method={problem.method_name} compares candidates by {term.name}, which needs a "
            f"picture; {problem.operator} makes {list(problem.observation.shape)}; use ilo or pulse"
        )


def distances(problem: Problem, latents: Tensor, by: Term, through_operator: bool = True) -> Tensor:
    """Measure a term for each of many latents [N, …] of one image; all get the same noise."""
    measure = by.prepare(problem)
    rng = problem.rng("distances")
    (seed,) = rng.integers(2**31)
    values = []
    for chunk in latents.split(CHUNK):
        image = problem.generator.synthesize(chunk)
        if through_operator:
            streams = [torch.Generator().manual_seed(seed) for _ in chunk]
            prediction = problem.operator.predict(image, streams)
        else:
            size = problem.observation.shape[2:]
            prediction = F.interpolate(image, size, mode="bilinear", antialias=True)
        view = View(prediction, image, Point(chunk), {}, rng)
        values.append(measure(view))
    return torch.cat(values)


def toward_mean(problem: Problem, latent: Tensor, truncation_psi: float) -> Tensor:
    """Truncate codes of W towards the mean; a latent of Z stays."""
    if truncation_psi == 1 or not problem.has_w:
        return latent
    mean = problem.center.expand(len(latent), -1)
    return torch.lerp(mean, latent, truncation_psi)


def kmeans(points: Tensor, count: int, rounds: int = 100) -> Tensor:
    """Find centres [count, D] of points [N, D]: Lloyd's algorithm from a k-means++ start.

    It always draws the same random numbers.
    """
    if not 0 < count <= len(points):
        raise ValueError(f"count={count} centres of {len(points)} points; give 1 to {len(points)}")
    centers = _spread_centers(points, count)
    for _ in range(rounds):
        nearest = torch.cdist(points, centers).argmin(1)
        sums = torch.zeros_like(centers)
        sums.index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)
        sizes = sizes[:, None]
        means = sums / sizes.clamp_min(1)
        moved = torch.where(sizes > 0, means, centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers


def _spread_centers(points: Tensor, count: int) -> Tensor:
    """The start of k-means++: draw each centre with a probability ∝ (distance to the nearest)²."""
    draws = torch.Generator().manual_seed(0)
    first = torch.randint(len(points), (1,), generator=draws)
    centers = points[first]
    while len(centers) < count:
        distance = torch.cdist(points, centers).amin(1)
        squares = distance.square()
        probability = squares.double().cpu()
        if not probability.sum() > 0:  # fewer different points than centres
            missing = count - len(centers)
            repeated = centers[:1].expand(missing, -1)
            return torch.cat([centers, repeated])
        drawn = torch.multinomial(probability, 1, generator=draws)
        centers = torch.cat([centers, points[drawn]])
    return centers
