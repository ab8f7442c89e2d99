"""Laws that every registered operator keeps."""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import Gaussian, Range, parse
from degrade.operator import compose
from degrade.registry import REGISTRY
from tests.conftest import cases, rng

from .examples import SIZED, SLOPES, STRATEGIES, chains, images, operators

# Of each operator; all of them together try a law some 250 times. `.ci/run` tries sixteen times as
# many, by DEGRADE_EFFORT.
LAW = cases(4)


def test_examples_cover_every_operator():
    assert set(STRATEGIES) | set(SIZED) == {
        n for n, c in REGISTRY.items() if c.__module__.startswith("degrade.")
    }


@pytest.mark.parametrize("name", [*STRATEGIES, *SIZED])
@LAW
@given(data=st.data())
def test_output_has_declared_shape_and_repeats(name, data):
    x = data.draw(images())
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    before = x.clone()
    y = f(x, rng(3))
    assert y.shape == f.sample(x.shape, rng(3)).output_shape(x.shape)
    assert y.dtype == x.dtype and torch.isfinite(y).all()
    assert torch.equal(x, before)
    assert torch.equal(y, f(x, rng(3)))
    assert torch.equal(y, f(x.mT.contiguous().mT, rng(3)))  # another memory layout


@pytest.mark.parametrize("name", [*STRATEGIES, "mask"])  # perimage is made for one batch
@LAW
@given(data=st.data())
def test_batch_rows_are_independent(name, data):
    x = data.draw(images(batch=(3,)))
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    together = f(x, [rng(i) for i in range(3)])
    for i in range(3):
        assert torch.equal(together[i : i + 1], f(x[i : i + 1], [rng(i)]))
        assert torch.equal(together[i : i + 1], f(x[i : i + 1], rng(i)))


@pytest.mark.parametrize("name", [*STRATEGIES, *SIZED])
@LAW
@given(data=st.data())
def test_row_operator_equals_its_row_of_the_batch(name, data):
    """Also before anything is decided, beside a value per image and a range."""
    x = data.draw(images(batch=(3,)))
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    f = Gaussian((0.1, 0.2, 0.3)) >> f >> Gaussian(Range(0.1, 0.5))
    together = f(x, [rng(i) for i in range(3)])
    decided = f.sample(x.shape, [rng(i) for i in range(3)])
    for i in range(3):
        assert torch.equal(together[i : i + 1], f.row(i, 3)(x[i : i + 1], rng(i)))
        assert torch.equal(together[i : i + 1], decided.row(i, 3)(x[i : i + 1], rng(i)))


@given(chains, images())
def test_sample_then_apply_equals_apply(stages, x):
    f = compose(stages)
    g = f.sample(x.shape, rng(5))
    assert torch.equal(f(x, rng(5)), g(x, rng(5)))
    assert g.sample(x.shape, rng(6)) == g


@given(operators, operators, operators, images())
def test_composition_is_associative(f, g, h, x):
    left, right = (f >> g) >> h, f >> (g >> h)
    assert left == right and hash(left) == hash(right)
    assert torch.equal(left(x, rng()), right(x, rng()))


@given(chains)
def test_text_round_trip(stages):
    f = compose(stages)
    assert parse(str(f)) == f
    assert eval(repr(f), vars(__import__("degrade"))) == f
    assert copy.deepcopy(f) == f


@given(chains, chains)
def test_approx_is_idempotent_and_distributes(first, second):
    f, g = compose(first), compose(second)
    assert f.approx().approx() == f.approx()
    assert (f >> g).approx() == f.approx() >> g.approx()


@given(chains, images())
def test_inserted_stage_keeps_draws_of_others(stages, x):
    f, g = compose(stages), parse("identity") >> compose(stages)
    one = (1, *x.shape[1:])
    assert list(f.sample(one, rng(1))) == list(g.sample(one, rng(1)))[1:]
    assert torch.equal(f(x, rng(1)), g(x, rng(1)))


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@given(data=st.data())
def test_adjoint_of_linear_operators_is_exact(name, data):
    x = data.draw(images(dtype=torch.float64))
    f = data.draw(STRATEGIES[name]).sample(x.shape, rng())
    if not f.linear:
        # The next law is about it. The slopes of a camera, a codec and a Fourier transform are no
        # number per pixel.
        declared = {*SLOPES, "camera", "codec", "fouriermagnitude"}
        assert {stage.name for stage in f.row(0, len(x))} & declared
        with pytest.raises(ValueError, match="no adjoint"):
            f.adjoint(f(x, rng()))
        return
    x = x + 1e-3 * torch.rand_like(x)  # off the 8-bit grid, where Downsample is exactly linear
    fx = f(x, rng())
    y = torch.randn(fx.shape, dtype=x.dtype, generator=rng(1))
    assert torch.allclose((fx * y).sum(), (x * f.adjoint(y, x.shape)).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SLOPES)
@LAW
@given(data=st.data())
def test_gradient_of_other_operators_is_as_declared(name, data):
    x = (data.draw(images(dtype=torch.float64)) + 1e-3).requires_grad_()
    f = data.draw(STRATEGIES[name]).sample(x.shape, rng())
    y = f(x, rng(1))
    weight = torch.randn(y.shape, dtype=x.dtype, generator=rng(2))
    (gradient,) = torch.autograd.grad(y, x, weight)
    with torch.no_grad():
        expected = weight * SLOPES[name](f, x, lambda g: g(x, rng(1)))
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*STRATEGIES, "mask"])
@cases(5)
@given(data=st.data())
def test_project_comes_closer_to_the_observation(name, data):
    """The image stays as it is where nothing is certain, and where it agrees already."""
    x0 = data.draw(images())
    x = 0.9 * x0.flip(3) + 0.05
    f = SIZED[name](*x0.shape) if name in SIZED else data.draw(STRATEGIES[name])
    f = f.sample(x0.shape, rng())
    y, before = f(x0, rng(1)), x.clone()
    near = f.project(x, y)
    assert near.shape == x.shape and near.dtype == x.dtype and torch.equal(x, before)
    assert torch.equal(f.project(x0, y), x0)
    for i, row in enumerate(f.row(i, len(x)) for i in range(len(x))):
        own, seen = x[i : i + 1], y[i : i + 1]
        assert torch.equal(row.project(own, seen), near[i : i + 1])
        if row.certain:
            errors = [
                (row(image) - seen).square().mean().sqrt() for image in (near[i : i + 1], own)
            ]
            assert errors[0] <= errors[1] + 0.5 / 255
        else:
            assert torch.equal(near[i : i + 1], own)


@given(chains, images(dtype=torch.float64))
def test_gradient_equals_that_of_the_sampled_operator(stages, x):
    x, f = x.requires_grad_(), compose(stages)
    both = [torch.autograd.grad(g(x, rng(1)).sum(), x)[0] for g in (f, f.sample(x.shape, rng(1)))]
    assert torch.equal(*both)


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@given(data=st.data())
def test_half_precision_is_computed_in_float32(name, data):
    f, x = data.draw(STRATEGIES[name]), data.draw(images())
    y = f(x.bfloat16(), rng())
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, f(x.bfloat16().float(), rng()).bfloat16())


@pytest.mark.parametrize("name", STRATEGIES)
@cases(5)
@given(data=st.data())
def test_range_draws_accepted_values(name, data):
    """A range between the values of two operators, wherever the constructor accepts it."""
    f, other = data.draw(STRATEGIES[name]), data.draw(STRATEGIES[name])
    for parameter, kind in f.kinds.items():
        ends = [getattr(operator, parameter) for operator in (f, other)]
        if not kind.drawn or not all(isinstance(end, (int, float)) for end in ends):
            continue
        span = Range(min(ends), max(ends))
        try:
            undecided = dataclasses.replace(f, **{parameter: span})
        except ValueError:
            continue  # such as a size that the kernel of the other blur allows
        for number in range(5):
            decided = undecided.sample((1, 3, 24, 20), rng(number))
            if name in ("maybe", "perspective"):
                continue  # the drawn probability or jitter is not kept
            value = getattr(decided, parameter)
            assert span.low <= value <= span.high
            assert kind.stored(parameter, value) == value


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@given(data=st.data())
def test_parameter_rejects_other_than_numbers(name, data):
    f = data.draw(STRATEGIES[name])
    numeric = [
        n for n, value, _ in f.arguments() if isinstance(value, (int, float)) and not f.holds
    ]
    for parameter in numeric:
        for bad in (math.nan, math.inf, [0.5, math.nan], "much"):
            with pytest.raises(ValueError, match=parameter):
                dataclasses.replace(f, **{parameter: bad})


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@given(data=st.data())
def test_call_rejects_bad_images(name, data):
    f = data.draw(STRATEGIES[name])
    for bad, word in [
        (torch.rand(3, 8, 8), "shape"),
        (torch.rand(1, 3, 0, 8), "shape"),
        (torch.ones(1, 3, 8, 8, dtype=torch.uint8), "float"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.full((1, 3, 8, 8), torch.inf), "infinity"),
    ]:
        with pytest.raises(ValueError, match=word):
            f(bad)
    with pytest.raises(TypeError, match="tensor"):
        f([[0.5]])
