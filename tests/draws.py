"""What a published pipeline drew, for a restatement of its authors' code at the same draws."""

import functools
import math

import numpy

from degrade import pipelines
from degrade.rng import Rng

from . import authors
from .conftest import picture

FALSE_ALARM = 1e-4
NOISES = ("gaussian", "scaledpoisson", "correlated")


class Draws:
    """The stages of a concrete chain in order, and the noise that was drawn in them."""

    def __init__(self, chain, normals, counts):
        self.stages = list(chain)
        self.normals = normals
        self.counts = counts

    def next_is(self, *names):
        return bool(self.stages) and self.stages[0].name in names

    def take(self, *names):
        """The next stage, which must have one of these names."""
        assert self.next_is(*names), f"{self.stages[:1]} is none of {names}"
        return self.stages.pop(0)

    def normal(self):
        """The next normal draws, [H, W, 3] or [H, W, 1]."""
        return self.normals.pop(0)

    def counted(self, rate):
        """The next counts; they must have been drawn at this rate."""
        drawn_rate, counts = self.counts.pop(0)
        assert numpy.allclose(drawn_rate, rate, atol=1e-6)
        return counts


def hwc(x):
    return x[0].permute(1, 2, 0).numpy()


def recording(monkeypatch):
    """Returns run(name, x, seed): the result of a pipeline, the concrete chain, and its draws."""
    normals, counts = [], []
    normal, poisson = Rng.normal, Rng.poisson

    def record_normal(self, like):
        drawn = normal(self, like)
        normals.append(hwc(drawn.clone()))  # the operator may write into its draws
        return drawn

    def record_poisson(self, rate):
        drawn = poisson(self, rate)
        counts.append((hwc(rate), hwc(drawn)))
        return drawn

    monkeypatch.setattr(Rng, "normal", record_normal)
    monkeypatch.setattr(Rng, "poisson", record_poisson)

    def run_pipeline(name, x, seed):
        normals.clear()
        counts.clear()
        chain = pipelines[name].sample(x.shape, seed)
        result = chain(x, seed)
        return hwc(result), Draws(chain, normals, counts)

    return run_pipeline


def clean(seed, height=72, width=64):
    """A part of a picture, [1, 3, H, W] in float64."""
    whole = picture(seed % 6).double()
    return whole[..., 20 : 20 + height, 30 : 30 + width].contiguous()


def assert_rounds_to(result, unrounded):
    """Each value is the nearest of 256 levels; where two are equally near, either of them."""
    levels = result * 255
    assert numpy.allclose(levels, levels.round(), atol=1e-9)
    assert abs(levels - numpy.clip(unrounded, 0, 1) * 255).max() < 0.5 + 1e-6


def published_kernel(stage):
    if stage.name == "sinc":
        return authors.sinc_kernel(stage.cutoff, stage.size)
    across = stage.size if stage.across is None else stage.across
    theta = -math.radians(stage.angle)
    return authors.bivariate_kernel(stage.kernel, stage.side, stage.size, across, theta, stage.beta)


@functools.cache
def drawn_chains(name, count=300):
    f = pipelines[name]
    return [f.sample((1, 3, 64, 64), seed) for seed in range(count)]
