"""The spaces in which a search moves."""

import pytest
import torch

import invert
from degrade import parse
from degrade.rng import Rng
from invert.latent import Codes, GaussianCodes, Space, Weights
from invert.point import Moment, Point
from tests.conftest import rng


def test_features_continue_the_synthesis(small):
    w = small.some_w(2)[0]
    ws = w[:, None] + 0.1 * torch.randn(2, small.num_ws, 7, generator=rng())
    image = small.synthesize(ws)
    for block in (1, 2, 3):
        features = small.features(ws, block)
        assert features.maps.shape[2] == 2 ** (block + 1)
        assert torch.equal(small.synthesize(ws, start=features), image)
        if block > 1:
            earlier = small.features(ws, block - 1)
            continued = small.features(ws, block, start=earlier)
            assert torch.equal(continued.maps, features.maps)
    noises = [conv.noise_const[None, None] for conv in small.synthesis.convs]
    assert torch.equal(small.synthesize(ws, noises=noises), image)
    other_noises = [noise + 1 for noise in noises]
    assert not torch.allclose(small.synthesize(ws, noises=other_noises), image, atol=1e-3)
    for call, words in [
        (lambda: small.features(ws, 0), "block=0"),
        (lambda: small.features(ws, 4), "block=4"),
        (lambda: small.synthesize(ws, noises=noises[:-1]), "noises have the sides"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


END = Moment(1.0, Rng.of((), 0))  # the end of a phase


def values_of(free):
    return {name: variable.value for name, variable in free.items()}


def test_spaces_begin_with_the_given_image(small):
    problem = invert.problem.Problem(torch.zeros(2, 3, 32, 32), parse("clamp"), small, (1, 2))
    w = small.some_w(2)[0]
    spaces: list[Space] = [Codes("W"), Codes("W+"), Codes("W++"), invert.latent.Offset(), Weights()]
    for space in spaces:
        point, problem_of_space = Point(w), problem
        if space.per_image:
            point, problem_of_space = point.row(0), problem.row(0)
        base, free = space.begin(point, problem_of_space)
        placed = space.place(values_of(free), base, problem_of_space, END)
        assert torch.allclose(placed.image(small), point.image(small), atol=1e-5)
    point = Point(w)
    for block in (0, 1, 2):  # each round of ILO begins where the round before ended
        space = GaussianCodes(block=block)
        base, free = space.begin(point, problem)
        values = values_of(free)
        placed = space.place(values, base, problem, END)
        if block:
            assert torch.allclose(placed.image(small), point.image(small), atol=1e-4)
        moved = {}
        for name, value in values.items():
            moved[name] = value + 0.1 * torch.randn(value.shape, generator=rng(block))
        point = space.place(moved, base, problem, END).detached()


def test_jitter_of_codes_fades(small):
    problem = invert.problem.Problem(torch.zeros(1, 3, 32, 32), parse("clamp"), small, (1,))
    space = Codes("W", jitter=0.05)
    w = torch.zeros(1, 7)
    widths = []
    for progress in (0.0, 0.375, 0.75):
        draws = []
        for seed in range(200):
            moment = Moment(progress, Rng.of(rng(seed), 1))
            point = space.place({"latent": w}, Point(w), problem, moment)
            draws.append(point.latent)
        widths.append(torch.stack(draws).std().item() / (0.05 * small.w_std))
    assert widths == pytest.approx([1, 0.25, 0], abs=0.06)
