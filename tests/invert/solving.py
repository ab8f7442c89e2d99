"""Shared by the tests of methods: a small generator, and methods with few candidates."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from degrade.rng import Rng
from invert import METHODS
from invert.loss import View
from invert.regression import Regression
from invert.start import BestOf, Centroids
from tests.conftest import rng

from .checkpoints import stylegan2

SEARCHES = [name for name, method in METHODS.items() if method.prior_kind == "generator"]
QUICK = {"perceptual": "alex"}


def quick(name, count=6):
    """The method with few candidates for its start, so that the start takes little time."""
    method = METHODS[name]
    start = method.start
    if isinstance(start, (BestOf, Centroids, Regression)):
        start = replace(start, count=count)
    return replace(method, start=start)


def lively(resolution=32, **options):
    """A random generator whose noise maps and codes have a visible effect on the image."""
    G = stylegan2(resolution=resolution, width=9, **options)
    for conv in G.synthesis.convs:
        conv.noise_strength.fill_(0.1)
    for layer in (G.mapping.fc0, G.mapping.fc1):
        layer.weight_gain *= 200
    w, _ = G.some_w(1000)
    G.mapping.w_avg.copy_(w.mean(0))
    return G


def value(term, point=None, problem=None, variables=None, prediction=None):
    """The value of a term, where the prediction is also the image."""
    if problem is None:
        problem = SimpleNamespace(batch=1, zeros=lambda: torch.zeros(1))
    measure = term.prepare(problem)
    view = View(prediction, prediction, point, variables or {}, Rng.of(rng(), 1))
    return measure(view)
