"""What the tests of the solve share: a generator that is quick, and methods that are."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from degrade.rng import Rng
from invert import METHODS
from invert.loss import View
from invert.start import BestOf, Centroids
from tests.conftest import rng

from .checkpoints import stylegan2

SEARCHES = [name for name, method in METHODS.items() if method.prior_kind == "generator"]
QUICK = {"perceptual": "alex"}


def quick(name, count=6):
    """The method, with few candidates to begin with, so that its phases are what takes time."""
    method = METHODS[name]
    start = (
        replace(method.start, count=count)
        if isinstance(method.start, (BestOf, Centroids))
        else method.start
    )
    return replace(method, start=start)


def lively(**options):
    """A generator of 32² with noise maps that matter, and codes and images of an ordinary size."""
    G = stylegan2(resolution=32, width=9, **options)
    for conv in G.synthesis.convs:
        conv.noise_strength.fill_(0.1)
    for i in range(2):
        getattr(G.mapping, f"fc{i}").weight_gain *= 200
    G.mapping.w_avg.copy_(G.some_w(1000)[0].mean(0))
    return G


def value(term, point=None, problem=None, variables=None, prediction=None):
    problem = problem or SimpleNamespace(batch=1, device=torch.device("cpu"))
    return term.prepare(problem)(
        View(prediction, prediction, point, variables or {}, Rng.of(rng(), 1))
    )
