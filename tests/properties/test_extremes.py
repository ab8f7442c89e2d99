"""Values and types at the edge of what is accepted, and results that are changed in place."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import parse
from tests.conftest import cases, rng

from .examples import SIZED, STRATEGIES, images

NAMES = [*STRATEGIES, *SIZED]


@pytest.mark.parametrize("name", NAMES)
@cases(6)
@given(data=st.data())
def test_output_may_be_changed_in_place(name, data):
    """The input keeps its values, and the gradient is that of the same steps without in-place."""
    x = data.draw(images()).requires_grad_()
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    before = x.detach().clone()
    changed = f(x, rng(3)).clamp_(0.2, 0.8)
    copied = f(x, rng(3)).clamp(0.2, 0.8)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (changed, copied)]
    assert torch.equal(changed, copied) and torch.equal(*gradients)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
@cases(3)
@given(data=st.data())
def test_visible_may_be_changed_in_place(name, data):
    """`visible` does not hand out a tensor that the operator or a cache keeps."""
    x = data.draw(images())
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    f = f.sample(x.shape, rng(3))
    visible = f.visible(x.shape)
    if visible is None:
        return
    expected = visible.clone()
    visible.fill_(0.5)
    assert torch.equal(f.visible(x.shape), expected)


@pytest.mark.parametrize("name", STRATEGIES)
@cases(3)
@given(data=st.data(), value=st.sampled_from([3e38, -3e38, 1e10]))
def test_huge_values_are_refused_in_one_line(name, data, value):
    f = data.draw(STRATEGIES[name])
    with pytest.raises(ValueError, match=r"^x holds .*\[0, 1\]$"):
        f(torch.full((1, 3, 8, 8), value))


@pytest.mark.parametrize("name", STRATEGIES)
@cases(3)
@given(data=st.data())
def test_largest_accepted_value_gives_no_nan(name, data):
    """One pixel may have it, and every pixel of an image of a solver."""
    f = data.draw(STRATEGIES[name])
    x = torch.rand(1, 3, 8, 8, generator=rng())
    assert torch.isfinite(f.predict(1e9 * x, rng())).all()
    x[0, 1, 3, 4] = 1e9
    assert torch.isfinite(f(x, rng())).all()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_is_refused_in_one_line(dtype):
    x = torch.rand(1, 3, 8, 8).to(dtype)
    with pytest.raises(ValueError, match=r"^x is torch.float8_\w+; give floats"):
        parse("quantize")(x)


def test_poisson_counts_never_wrap_around():
    """Counts beyond 64-bit integers came out negative."""
    gain = "blur:0|0|0|0|1000000|0|0|0|0"
    loud = parse(f"{gain} >> {gain} >> poisson:1e9")(torch.ones(1, 1, 4, 4), rng())
    assert (loud > 0).all()
