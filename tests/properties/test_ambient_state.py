"""Operators do not depend on torch's global state, and leave nothing behind that breaks later calls."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from degrade import Operator
from tests.conftest import cases, rng

from .examples import SIZED, STRATEGIES, images

State = Callable[[], AbstractContextManager]
NAMES = [*STRATEGIES, *SIZED]


@contextmanager
def float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


STATES = {
    "float64": float64_by_default,
    "meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
}


def forget_constants() -> None:
    """Empty the caches of all modules of degrade, as in a new process."""
    for name, module in list(sys.modules.items()):
        if name.startswith("degrade"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def outcome(f: Operator, x: Tensor, state: State) -> list[Tensor]:
    """Everything that f says about x, computed within `state`."""
    with state():
        y = f(x, rng(3))
        sampled = f.sample(x.shape, rng(3))
        known = sampled.visible(x.shape)
        projected = sampled.project(0.9 * x.flip(3) + 0.05, y)
        return [y, projected] if known is None else [y, projected, known]


def gradient(f: Operator, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = f(x, rng(3))
    return torch.autograd.grad(y.square().sum(), x)[0]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, phases=[Phase.generate])
@given(data=st.data())
def test_ambient_state_changes_no_bit(name, state, data):
    """The state is set before anything is cached; afterwards the same operator gives gradients."""
    x = data.draw(images())
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    forget_constants()
    expected = [*outcome(f, x, torch.enable_grad), gradient(f, x)]
    forget_constants()
    results = [*outcome(f, x, STATES[state]), gradient(f, x)]
    for result, truth in zip(results, expected, strict=True):
        assert result.dtype == truth.dtype and torch.equal(result, truth)
