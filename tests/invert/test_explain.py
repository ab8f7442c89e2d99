"""Operators compete to explain a picture: what happened predicts hidden pixels best."""

import pytest
import torch

import degrade
import invert
from invert.explain import Explanation, best, explanations, shared_span
from tests.conftest import picture

ENLARGED = "resize:size=64 >> resize:size=128 >> jpeg:80"


@pytest.fixture(scope="module")
def photo():
    return invert.load_prior("photo")


@pytest.mark.parametrize(
    ("happened", "other"),
    [
        ("jpeg:50 >> jpeg:90", "jpeg:90"),
        pytest.param("jpeg:90", "jpeg:50 >> jpeg:90", marks=pytest.mark.slow),
        pytest.param(ENLARGED, "jpeg:80", marks=pytest.mark.slow),
        ("jpeg:80", ENLARGED),
    ],
)
def test_best_explanation_is_what_happened(photo, happened, other):
    truth = degrade.parse(happened)
    y = truth(picture(2), 1)
    false, true = explanations(y, [degrade.parse(other), truth], photo)
    assert best([false, true]) == 1
    assert best([true, false]) == 0


@pytest.mark.slow
def test_explanations_do_not_depend_on_their_order(photo):
    operators = [degrade.parse("jpeg:50 >> jpeg:90"), degrade.parse("jpeg:90")]
    y = operators[0](picture(2), 1)
    found = explanations(y, operators, photo)
    reversed_order = explanations(y, operators[::-1], photo)
    for one, same in zip(found, reversed(reversed_order), strict=True):
        assert torch.equal(one.squares, same.squares)
        assert (one.own_error, one.values) == (same.own_error, same.values)


def test_explanation_needs_more_than_chance():
    squares = torch.linspace(0, 1, 400)
    first = Explanation(squares, 0.1, 100)
    same = Explanation(squares.flip(0), 0.1, 100)
    lower = Explanation(squares / 2, 0.1, 100)
    assert not same.beats(first)
    assert lower.beats(first)
    assert best([first, same, lower]) == 2


def test_explanation_with_fewer_values_must_fit():
    wide = Explanation(torch.full((50,), 0.01), 0.1, 400)
    fits = Explanation(torch.full((50,), 0.04**2), 0.1, 100)
    misfits = Explanation(torch.full((50,), 0.06**2), 0.1, 100)
    assert fits.beats(wide) and not wide.beats(fits)
    assert wide.beats(misfits) and not misfits.beats(wide)
    exact = Explanation(torch.full((50,), 0.01**2), 0.1, 400)
    assert exact.beats(fits) and not fits.beats(exact)


def test_shared_part_cuts_no_block():
    operators = [degrade.parse("jpeg:30"), degrade.parse("gaussian:0.1")]
    span = shared_span(operators, (1, 3, 500, 300), 0)
    assert span.start % 16 == 0 and span.stop % 16 == 0
    whole = [degrade.parse("deadpixels:0.1,seed=1"), operators[0]]
    assert shared_span(whole, (1, 3, 500, 300), 0) is None
    assert shared_span(whole, (1, 3, 200, 300), 0) == slice(0, 200)
