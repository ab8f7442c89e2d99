"""Random pipelines: what is drawn, how often, and that each image draws for itself."""

import numpy
import pytest
import torch
from scipy import stats

import degrade
from degrade import JPEG, Gaussian, Identity, Maybe, OneOf, Poisson, Range, Shuffle, parse

from .conftest import rng

FALSE_ALARM = 1e-4
PIPELINE = (
    "maybe:0.5(gaussian:0.05..0.3) >> oneof(jpeg:5..30 ; poisson:6..96 >> jpeg:50) >> gaussian:0.01"
)


def samples(f, n=2000):
    return [f.sample((1, 3, 4, 4), rng(i)) for i in range(n)]


def test_range_is_uniform_and_keeps_integers():
    qualities = [f.quality for f in samples(JPEG(Range(5, 9)))]
    assert stats.chisquare([qualities.count(q) for q in range(5, 10)]).pvalue > FALSE_ALARM
    assert set(qualities) == {5, 6, 7, 8, 9}
    peaks = [f.peak for f in samples(Poisson(Range(6, 96)))]
    assert stats.kstest(peaks, "uniform", args=(6, 90)).pvalue > FALSE_ALARM


def test_choice_has_the_given_probabilities():
    drawn = samples(OneOf(Gaussian(0.1), Gaussian(0.2), Gaussian(0.3) >> JPEG(50)))
    assert (
        stats.chisquare([drawn.count(f) for f in set(drawn)]).pvalue > FALSE_ALARM
        and len(set(drawn)) == 3
    )
    happened = sum(f == JPEG(50) for f in samples(Maybe(0.3, JPEG(50))))
    assert stats.binomtest(happened, 2000, 0.3).pvalue > FALSE_ALARM


def test_maybe_with_probability_zero_and_one():
    assert Maybe(1, JPEG(50)).sample((1, 3, 4, 4)) == JPEG(50)
    assert Maybe(0, JPEG(50)).sample((1, 3, 4, 4)) == Identity()


def test_sample_replaces_choices_by_the_drawn_operator():
    g = parse(PIPELINE).sample((1, 3, 8, 8), rng(3))
    assert all(stage.name in ("gaussian", "jpeg", "poisson", "identity") for stage in g)
    assert g.sample((1, 3, 8, 8), rng(4)) == g and parse(str(g)) == g


def test_choice_is_the_same_in_a_batch_as_alone():
    x = torch.rand(5, 3, 9, 7, generator=rng())
    f = parse(PIPELINE)
    together = f(x, [rng(i) for i in range(5)])
    sampled = f.sample(x.shape, [rng(i) for i in range(5)])
    assert parse(str(sampled)) == sampled and len(set(sampled.operators)) > 1
    assert torch.equal(sampled(x, [rng(i) for i in range(5)]), together)
    for i in range(5):
        assert torch.equal(together[i : i + 1], f(x[i : i + 1], rng(i)))
        assert sampled.operators[i] == f.sample((1, 3, 9, 7), rng(i))


def test_visible_may_differ_between_images():
    f = parse("oneof(strokes:9 ; identity)").sample((8, 3, 16, 16), [rng(i) for i in range(8)])
    visible = f.visible((8, 3, 16, 16))
    hidden = [(visible[i] < 1).any().item() for i in range(8)]
    assert hidden == [f.operators[i] != Identity() for i in range(8)] and len(set(hidden)) == 2


def test_perimage_is_sampled_and_composed():
    f = parse("perimage(strokes:3 ; oneof(clamp ; jpeg:3)) >> gaussian:0.1..0.2")
    g = f.sample((2, 3, 8, 8), [rng(0), rng(1)])
    assert [f.name for f in g.operators[0]] == ["strokes", "gaussian"]
    assert g == degrade.PerImage(*(f.row(i, 2).sample((1, 3, 8, 8), rng(i)) for i in range(2)))
    with pytest.raises(ValueError, match="2 operators for 3 images"):
        f.sample((3, 3, 8, 8))


def test_perimage_refuses_different_output_sizes():
    with pytest.raises(ValueError, match=r"\[3, 2, 2\] to \[3, 5, 5\]; .* end the chain"):
        parse("downsample:2..8")(torch.rand(6, 3, 16, 16), [rng(i) for i in range(6)])


def test_choice_has_a_shape_only_if_all_agree():
    with pytest.raises(ValueError, match="sample"):
        parse("oneof(clamp ; downsample:2)").output_shape((1, 3, 8, 8))
    with pytest.raises(ValueError, match="sample"):
        parse("maybe:0.5(strokes:3,seed=1)").visible((1, 3, 8, 8))
    assert parse("maybe:0.5(jpeg:12)").output_shape((1, 3, 8, 8)) == (1, 3, 8, 8)
    assert parse("maybe:0.5(jpeg:12)").visible((1, 3, 8, 8)) is None


def test_register_accepts_functions_and_modules():
    from degrade.registry import REGISTRY

    try:
        halve = degrade.register("halve")(lambda x: x / 2)
        invert = degrade.register("flip")(torch.nn.Sequential(torch.nn.ReLU()))
        f = parse("halve >> flip >> clamp")
        assert list(f)[:2] == [halve, invert] and str(halve >> halve) == "halve >> halve"
        assert torch.equal(halve(torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 0.5))
    finally:
        REGISTRY.pop("halve", None), REGISTRY.pop("flip", None)


def test_oneof_draws_by_weights():
    f = parse("oneof:weights=6|3|0|1(gaussian:0.1 ; gaussian:0.2 ; gaussian:0.3 ; gaussian:0.4)")
    drawn = [g.sigma for g in samples(f)]
    counts = [drawn.count(sigma) for sigma in (0.1, 0.2, 0.4)]
    assert sum(counts) == 2000
    assert stats.chisquare(counts, [1200, 600, 200]).pvalue > FALSE_ALARM


def test_oneof_with_weights_round_trips():
    f = OneOf(JPEG(5), Gaussian(0.1), weights=[1, 0.25])
    assert parse(str(f)) == f == degrade.from_json(degrade.to_json(f))
    assert eval(repr(f), vars(degrade)) == f
    assert f.approx().weights == (1, 0.25)
    single = OneOf(JPEG(5), weights=[3])
    assert parse(str(single)) == single


def test_shuffle_keep_is_whole_numbers_that_print():
    f = Shuffle(JPEG(5), Gaussian(0.1), keep=torch.tensor([2, 1]))
    assert parse(str(f)) == f and f.keep == (2, 1)
    with pytest.raises(ValueError, match="different numbers from 1"):
        Shuffle(JPEG(5), Gaussian(0.1), keep=(True, 2))


@pytest.mark.parametrize(
    "text, words",
    [
        ("oneof:weights=1|2(clamp)", "weights has 2 numbers for 1 operators"),
        ("oneof:weights=0|0(clamp ; clamp)", "at least 10⁻⁹"),
        ("oneof:weights=1e-320|0(clamp ; clamp)", "at least 10⁻⁹"),
        ("oneof:weights=1e308|1e308(clamp ; clamp)", "numbers from 0 to 10⁹"),
        ("oneof:weights=nan|1(clamp ; clamp)", "numbers from 0 to 10⁹"),
        ("oneof:weights=1..2(clamp ; clamp)", "weights=1..2 is a range"),
        ("oneof:weights=1|-2(clamp ; clamp)", "numbers from 0"),
        ("oneof:weights=much(clamp ; clamp)", "as in weights=3|1"),
        ("shuffle:keep=1|3(clamp ; clamp)", "keep=.1, 3. names more than the 2 operators"),
        ("shuffle:keep=2|2(clamp ; clamp)", "different numbers from 1"),
        ("shuffle:keep=1.5|2(clamp ; clamp)", "different numbers from 1"),
        ("shuffle:keep=1(clamp ; clamp)", "two or more"),
        ("shuffle:keep=0|2(clamp ; clamp)", "different numbers from 1"),
    ],
)
def test_choice_refuses_wrong_weights_and_order(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_shuffle_draws_every_order_equally_often():
    f = Shuffle(Gaussian(0.1), Gaussian(0.2), Gaussian(0.3))
    orders = [tuple(stage.sigma for stage in g) for g in samples(f)]
    assert len(set(orders)) == 6
    assert stats.chisquare([orders.count(order) for order in set(orders)]).pvalue > FALSE_ALARM


def test_shuffle_keeps_the_order_of_the_named():
    """All twelve orders of four in which the third precedes the second, equally often."""
    f = Shuffle(Gaussian(0.1), Gaussian(0.2), Gaussian(0.3), Gaussian(0.4), keep=(3, 2))
    orders = [tuple(stage.sigma for stage in g) for g in samples(f)]
    assert all(order.index(0.3) < order.index(0.2) for order in orders)
    assert len(set(orders)) == 12
    assert stats.chisquare([orders.count(order) for order in set(orders)]).pvalue > FALSE_ALARM


def test_shuffle_order_changes_no_draw():
    """Whatever comes first, an operator of the list draws the same numbers."""
    f = parse("shuffle(gaussian:0..0.5 ; jpeg:1..100 ; maybe:0.5(gray))")
    reverse = parse("shuffle:keep=3|2|1(gaussian:0..0.5 ; jpeg:1..100 ; maybe:0.5(gray))")
    for seed in range(10):
        drawn = f.sample((1, 3, 8, 8), rng(seed))
        assert set(drawn) == set(reverse.sample((1, 3, 8, 8), rng(seed)))


def test_shuffle_has_a_shape_only_if_all_keep_it():
    assert parse("shuffle(clamp ; jpeg:5)").output_shape((1, 3, 8, 8)) == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="sample"):
        parse("shuffle(downsample:2 ; downsample:2)").output_shape((1, 3, 8, 8))


@pytest.mark.parametrize(
    "power, law",
    [(2, lambda x: x**2), (0, lambda x: numpy.log(x)), (-1, lambda x: 1 / x), (1, lambda x: x)],
)
def test_range_makes_its_power_uniform(power, law):
    f = Poisson(Range(2, 50, power))
    assert parse(str(f)) == f == degrade.from_json(degrade.to_json(f))
    peaks = numpy.array([g.peak for g in samples(f)])
    low, high = sorted([law(2.0), law(50.0)])
    assert stats.kstest(law(peaks), "uniform", args=(low, high - low)).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    "text, words",
    [
        ("poisson:2..5^many", "peak='2..5.*' must be a number"),
        ("poisson:2..5^99", "no number from -9 to 9"),
        ("jpeg:2..5^2", "integers are drawn with equal chance"),
        ("gaussian:0..0.5^-1", "must begin above 0"),
        ("offset:-0.5..0.5^2", "must begin at 0 or above"),
        ("poisson:2..5|3", "peak=2..5.3 must be a number"),
    ],
)
def test_range_refuses_wrong_powers(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)
