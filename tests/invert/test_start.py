"""The starting points of a search."""

import pytest
import torch
import torch.nn.functional as F

import invert
from degrade import parse
from invert import perceptual
from invert.loss import Lpips
from invert.start import BestOf, Centroids, distances, kmeans
from tests.conftest import rng


def test_kmeans_finds_separated_clusters():
    centers = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    clusters = []
    for seed, center in enumerate(centers):
        clusters.append(center + torch.randn(50, 2, generator=rng(seed)))
    points = torch.cat(clusters)
    estimated = kmeans(points, 3)
    nearest = torch.cdist(centers, estimated).amin(1)
    assert (nearest < 0.5).all() and torch.equal(estimated, kmeans(points, 3))
    assert torch.allclose(kmeans(points, 1), points.mean(0))
    assert kmeans(torch.zeros(5, 2), 3).shape == (3, 2)
    with pytest.raises(ValueError, match="count=4"):
        kmeans(points[:3], 4)


def doubled(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(
    "start", [BestOf(20, Lpips(enlarge=True)), Centroids(4), Centroids(4, through_operator=False)]
)
def test_start_is_the_nearest_candidate(small, start):
    f = parse("downsample:2").approx()
    y = f(small.synthesize(small.some_w(3)[0]).clamp(0, 1))
    problem = invert.problem.Problem(y, f, small, (1, 2, 3), "alex")
    chosen = start(problem)
    if isinstance(start, Centroids):
        candidates = kmeans(small.some_w(10_000)[0], 4)
        images = small.synthesize(candidates)
        if start.through_operator:
            predictions = f(images)
        else:
            predictions = F.interpolate(images, (16, 16), mode="bilinear", antialias=True)
        large_predictions = doubled(predictions)
        for i in range(3):
            observation = doubled(y[i : i + 1]).expand(4, -1, -1, -1)
            scores = perceptual.lpips(large_predictions, observation, "alex")
            assert torch.equal(chosen.latent[i], candidates[scores.argmin()])
    else:
        others = small.mapping(torch.randn(20, 5, generator=rng(9)))
        for i in range(3):
            row = problem.row(i)
            distance = distances(row, chosen.latent[i : i + 1], start.by)
            assert distance < distances(row, others, start.by).median()
            assert torch.allclose(problem.map(chosen.z)[i], chosen.latent[i])


def test_start_truncation_moves_to_the_mean(small):
    problem = invert.problem.Problem(torch.rand(1, 3, 32, 32), parse("clamp"), small, (1,), "alex")
    near, far = (BestOf(1, Lpips(enlarge=True), psi)(problem) for psi in (0.5, 1.0))
    assert torch.allclose(near.latent - small.w_avg, (far.latent - small.w_avg) / 2, atol=1e-6)
    assert torch.equal(near.z, far.z)
