"""No operator depends on the global state of torch, and no cache keeps that state."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from degrade import Mask, Operator
from tests.conftest import cases, empty_caches, rng

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
@cases(2)
@given(data=st.data())
def test_ambient_state_changes_no_bit(name, state, data):
    """The state is set before anything is cached; afterwards the same operator gives gradients."""
    x = data.draw(images())
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    empty_caches("degrade")
    expected = [*outcome(f, x, torch.enable_grad), gradient(f, x)]
    empty_caches("degrade")
    results = [*outcome(f, x, STATES[state]), gradient(f, x)]
    for result, truth in zip(results, expected, strict=True):
        assert result.dtype == truth.dtype and torch.equal(result, truth)


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data())
def test_meta_tensor_gives_the_output_shape(name: str, data: st.DataObject) -> None:
    """A meta tensor has a shape and no values; it was refused with an error of torch.autocast."""
    x = data.draw(images())
    f = SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])
    f = f.sample(x.shape, rng())
    y = f(x.to("meta"), rng())
    assert y.is_meta and y.dtype == x.dtype and tuple(y.shape) == tuple(f.output_shape(x.shape))
    projected = f.project(x.to("meta"), y)
    assert projected.is_meta and projected.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mask_made_in_inference_mode_trains_later(dtype: torch.dtype) -> None:
    x = torch.rand(1, 3, 4, 5, generator=rng())
    with torch.inference_mode():
        f = Mask(torch.rand(1, 1, 4, 5, generator=rng(1), dtype=dtype))
        f(x)
    assert torch.isfinite(gradient(f, x)).all()


def test_mask_file_read_in_inference_mode_trains(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "mask.safetensors"
    save_file({"mask": torch.rand(1, 1, 4, 5, generator=rng(1))}, path)
    f, x = Mask(path), torch.rand(1, 3, 4, 5, generator=rng())
    with torch.inference_mode():
        f(x)
    assert torch.isfinite(gradient(f, x)).all()


def test_constants_are_cached_by_one_decorator() -> None:
    """A bare functools.cache would keep tensors of the caller's inference mode or device."""
    import degrade

    for path in Path(degrade.__file__).parent.glob("*.py"):
        if path.name != "constants.py":
            code = path.read_text()
            assert "lru_cache" not in code and "import cache\n" not in code, path.name
