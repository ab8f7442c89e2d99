"""torch.func gives every operator the values and gradients that plain autograd gives."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, vjp, vmap

from degrade import JPEG, Clamp, Gaussian, Mask, Operator, PerImage, jpeg, parse
from tests.conftest import cases, rng

from .examples import SIZED, STRATEGIES

NAMES = [*STRATEGIES, *SIZED]
SIZE = (2, 3, 9, 11)


def example(data: st.DataObject, name: str) -> Operator:
    return SIZED[name](*SIZE) if name in SIZED else data.draw(STRATEGIES[name])


def image(*size: int) -> torch.Tensor:
    return torch.rand(size or SIZE, generator=rng(7), dtype=torch.float64)


def plain_gradient(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data())
def test_func_grad_equals_autograd(name, data):
    f, x = example(data, name), image()
    loss = lambda x: f(x, rng(3)).square().sum()  # noqa: E731
    torch.testing.assert_close(grad(loss)(x), plain_gradient(loss, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data())
def test_func_vjp_equals_autograd(name, data):
    f, x = example(data, name), image()
    y, pull_back = vjp(lambda x: f(x, rng(3)), x)
    assert torch.equal(y, f(x, rng(3)))
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    expected = plain_gradient(lambda x: (f(x, rng(3)) * weight).sum(), x)
    torch.testing.assert_close(pull_back(weight)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data())
def test_func_jacrev_equals_autograd(name, data):
    f, x = example(data, name), image()
    corner = lambda x: f(x, rng(3))[:, :1, :2, :2]  # noqa: E731
    expected = torch.autograd.functional.jacobian(corner, x)
    torch.testing.assert_close(jacrev(corner)(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data(), at=st.integers(0, 4))
def test_func_vmap_equals_a_loop(name, data, at):
    """Every slice gets the draws that it gets on its own."""
    f, x = example(data, name), image(3, *SIZE)
    x[0] = (x[0] * 255).round() / 255  # resizes have another arithmetic for 8 bits
    mapped = vmap(lambda x: f(x, rng(3)), in_dims=at, randomness="same")(x.movedim(0, at))
    expected = torch.stack([f(row, rng(3)) for row in x])
    torch.testing.assert_close(mapped, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("randomness", "seed"), [("different", 97), ("error", 98)])
@pytest.mark.parametrize(
    "name", ["gaussian:0.1", "pixels:0.3", "strokes:3", "compressedsensing:0.2"]
)
def test_func_vmap_refuses_other_randomness(name, randomness, seed):
    """No mask of the refused call is kept in a cache; each seed is drawn here only."""
    x = image(3, *SIZE)
    f = parse(name if name.startswith("gaussian") else f"{name},seed={seed}")
    with pytest.raises(ValueError, match='give vmap randomness="same"'):
        vmap(lambda x: f(x, 3), randomness=randomness)(x)
    assert torch.isfinite(f(x[0], 3)).all()


@pytest.mark.parametrize(
    "f", [JPEG(30, surrogate="cubic"), JPEG(30, surrogate="residual"), Clamp()], ids=str
)
def test_func_vmap_of_grad_equals_a_loop(f):
    x, target = image(3, 1, 3, 9, 11), image(1, 3, 9, 11)
    loss = lambda x: (f(x) - target).square().sum()  # noqa: E731
    expected = torch.stack([plain_gradient(loss, row) for row in x])
    torch.testing.assert_close(vmap(grad(loss))(x), expected, rtol=1e-12, atol=1e-12)
    together = grad(lambda x: vmap(loss)(x).sum())(x)
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)


def test_func_grad_and_vmap_of_jpeg_s_parameters():
    x, quality = image(), torch.tensor([30.0, 60.0], dtype=torch.float64)
    loss = lambda q: (jpeg(x, q, surrogate="ste") - x).square().sum()  # noqa: E731
    expected = plain_gradient(loss, quality)
    torch.testing.assert_close(grad(loss)(quality), expected, rtol=1e-12, atol=1e-12)
    each = torch.stack([quality, quality + 20])
    assert torch.equal(vmap(lambda q: jpeg(x, q))(each), torch.stack([jpeg(x, q) for q in each]))


@pytest.mark.parametrize("f", [JPEG(30, surrogate="ste"), Clamp()], ids=str)
def test_func_second_derivative_is_refused(f):
    slope = lambda x: grad(lambda x: f(x).sum())(x).sum()  # noqa: E731
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        grad(slope)(image())


@pytest.mark.parametrize("name", NAMES)
@cases(3)
@given(data=st.data())
def test_func_jvp_is_the_derivative_or_refused(name, data):
    """<J t, w> = <t, Jᵀ w>, where all of an operator is torch's; else one line names the stage."""
    f, x = example(data, name), image()
    tangent = torch.randn(SIZE, generator=rng(2), dtype=x.dtype)
    try:
        y, forward = jvp(lambda x: f(x, rng(3)), (x,), (tangent,))
    except ValueError as error:
        assert "no forward-mode derivative" in str(error) and "\n" not in str(error)
        return
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    backward = plain_gradient(lambda x: (f(x, rng(3)) * weight).sum(), x)
    left, right = (forward * weight).sum(), (tangent * backward).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("number, transform", list(enumerate([grad, jacrev, jacfwd, hessian])))
@pytest.mark.parametrize(
    "spec", ["blur:gaussian,0.73{}", "blur:motion,3.7{}", "strokes:3,seed=97{}"]
)
def test_func_leaves_cached_constants_usable(spec, number, transform):
    """What is built inside a transform serves later calls outside it, and with other transforms."""
    x = image(1, 3, 9, 11)
    f = parse(spec.format(number)).sample(x.shape)  # in no cache yet
    with suppress(ValueError):  # forward mode may be refused
        transform(lambda x: f(x, 3).sum())(x)
    expected = f(x, 3)
    assert torch.equal(grad_and_value(lambda x: f(x, 3).sum())(x)[1], expected.sum())


@pytest.mark.parametrize("spec", ["jpeg:30", "blur:gaussian,1 >> resize:5", "clamp"])
@pytest.mark.parametrize("transform", [hessian, jacfwd])
def test_func_forward_mode_names_the_stage(spec, transform):
    stage = parse(spec)[-1]
    derivative = transform(lambda x: parse(spec)(x, 3).sum())
    with pytest.raises(ValueError, match=f"{stage}: .*vjp, grad and jacrev work"):
        derivative(image(1, 3, 9, 11))
    with pytest.raises(ValueError, match="^jpeg: it has no forward-mode derivative"):
        transform(lambda x: jpeg(x, 30).sum())(image(1, 3, 9, 11))


def test_func_leaves_cached_tensors_usable():
    x = image()
    mask = Mask(torch.linspace(0, 1, 99).view(1, 1, 9, 11))
    f = mask >> PerImage(JPEG(10) >> Gaussian(0.1), JPEG(20) >> Gaussian(0.2))
    grad(lambda x: f(x, rng(3)).sum())(x)
    assert str(f) == str(f) and f(x, rng(3)).numpy().shape == SIZE
    plain_gradient(lambda x: f(x, rng(3)).sum(), x)


def test_nan_is_refused_outside_torch_func():
    with pytest.raises(ValueError, match="NaN"):
        Clamp()(image() * torch.nan)
