"""Operators on a device that this machine lacks: tensors only claim to be there.

An operator that makes a helper tensor on another device than its image's fails here as on a GPU.
Each read of numbers from there is counted, because the host waits for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import degrade
from degrade import Operator
from tests.conftest import cases, rng
from tests.test_parameter_gradients import SMOOTH, image

from .examples import SIZED, STRATEGIES

NAMES = [*STRATEGIES, *SIZED]
# A device that torch has a name for, and nothing else. Gradients of its tensors are computed in
# the calling thread, where `Machine` sees them; those of "cuda" would need a GPU.
AWAY = torch.device("lazy")

aten = torch.ops.aten
ANSWERS = {  # operations whose result the host needs to go on
    aten._local_scalar_dense.default,  # item, tolist, bool, float, int
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
}
SELECTIONS = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}

READERS = {  # operators whose forward reads from the device, and why
    "codec": "its encoder runs on the CPU",
    "poisson": "torch counts by the means, on the CPU as all draws",
    "poissongaussian": "as poisson",
    "scaledpoisson": "as poisson",
    "downsample": "Pillow resizes images of 8-bit levels in another arithmetic",
    "frame": "it resizes",
    "resize": "as downsample",
    "maybe": "it may hold poisson",
}


class Away(Tensor):
    """A tensor that claims to be on AWAY; its numbers are in the CPU tensor `here`."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "Away":
        here = values.resolve_conj().resolve_neg()  # a wrapper has no such mark
        away = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=AWAY
        )
        away.here = here
        return away

    @classmethod
    def __torch_dispatch__(cls, operation: Any, *_: Any) -> Any:
        raise AssertionError(f"{operation} without a Machine")


class Machine(TorchDispatchMode):
    """Computes as if it had the device AWAY.

    reads: the operations that the host waits for. sent: how many tensors were copied to AWAY.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.sent = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_away = any(isinstance(tensor, Away) for tensor in tensors_in(args, kwargs))
        if is_away:
            refuse_mixture(operation, args, kwargs)
        device = kwargs.get("device")
        ends_away = is_away if device is None else torch.device(device).type == AWAY.type
        if is_away and is_read(operation, args, ends_away):
            self.reads.append(str(operation))
        if operation is aten._to_copy.default and ends_away and not is_away:
            self.sent += 1
        args_here, kwargs_here = tree_map_only(Away, lambda tensor: tensor.here, (args, kwargs))
        if device is not None:
            kwargs_here["device"] = torch.device("cpu")
        result = operation(*args_here, **kwargs_here)
        if operation._schema.is_mutable:
            return kwargs.get("out", args[0])
        return tree_map_only(Tensor, Away, result) if ends_away else result


def refuse_mixture(operation: Any, args: tuple, kwargs: dict) -> None:
    """Raise as torch does for tensors of two devices, but for single numbers and copies."""
    if operation is aten.copy_.default:
        return
    for tensor in tensors_in(args, kwargs):
        if not isinstance(tensor, Away) and tensor.ndim > 0:
            shape = list(tensor.shape)
            raise RuntimeError(f"{operation} mixes {AWAY} with a tensor {shape} on {tensor.device}")


def tensors_in(args: tuple, kwargs: dict) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]


def is_read(operation: Any, args: tuple, ends_away: bool) -> bool:
    """Whether an operation on tensors of AWAY makes the host wait for them."""
    if operation is aten._to_copy.default:
        return not ends_away
    if operation is aten.copy_.default:
        return not isinstance(args[0], Away)
    if operation in SELECTIONS:  # by a mask, of which the size of the result depends
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    return operation in ANSWERS


@contextmanager
def machine() -> Iterator[Machine]:
    """Numbers in Python become a CPU tensor first, and `Machine` sees how it is moved."""
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with pytest.MonkeyPatch.context() as patch, Machine() as running:
            patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no AWAY
            yield running
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


def drawn(name: str, x: Tensor, data: st.DataObject) -> Operator:
    return SIZED[name](*x.shape) if name in SIZED else data.draw(STRATEGIES[name])


def applied(f: Operator, x: Tensor) -> list[Tensor]:
    """f(x) and a gradient."""
    x.requires_grad_()
    y = f(x, rng(3))
    return [y, *torch.autograd.grad(y.square().sum(), x)]


def projected(f: Operator, x: Tensor) -> list[Tensor]:
    """The projection of a paler image."""
    sampled = f.sample(x.shape, rng(3))
    return [sampled.project(x * 0.9 + 0.05, sampled(x, rng(3)))]


def compare(results: Callable[[Operator, Tensor], list[Tensor]], f: Operator, x: Tensor) -> None:
    """Require the same bits as on the CPU."""
    expected = results(f, x.clone())
    with machine():
        found = results(f, Away(x.clone()))
    for result, truth in zip(found, expected, strict=True):
        assert isinstance(result, Away) and torch.equal(result.here, truth)


@pytest.mark.parametrize("name", NAMES)
@cases(8)
@given(data=st.data())
def test_operator_stays_on_the_device_of_its_image(name: str, data: st.DataObject) -> None:
    x = image(torch.float32)
    compare(applied, drawn(name, x, data), x)


@pytest.mark.parametrize("name", NAMES)
@cases(2)
@given(data=st.data())
def test_projection_stays_on_the_device_of_its_image(name: str, data: st.DataObject) -> None:
    x = image(torch.float32)[:1, :, :8, :8].contiguous()  # one block, since JPEG takes long
    compare(projected, drawn(name, x, data), x)


def parameter_gradient(f: Operator, name: str, x: Tensor, value: Tensor) -> list[Tensor]:
    """f(x) with a value that requires grad in place of a number, and its gradient."""
    value.requires_grad_()
    y = f.with_values({name: value})(x, 3)
    return [y, *torch.autograd.grad(y.square().sum(), value)]


@pytest.mark.parametrize(("text", "name"), SMOOTH)
def test_learned_parameter_may_be_on_the_device(text: str, name: str) -> None:
    f = degrade.parse(text)
    x, value = image(), torch.tensor(getattr(f, name), dtype=torch.float64)
    expected = parameter_gradient(f, name, x, value.clone())
    with machine():
        found = parameter_gradient(f, name, Away(x), Away(value))
    for result, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(result.here, truth, rtol=1e-12, atol=1e-12)


def reads_of(f: Operator, x: Tensor) -> list[str]:
    """What the host waits for, forward and backward."""
    with machine() as running:
        away = Away(x).requires_grad_()
        y = f(away, rng(3))
        torch.autograd.grad(y.square().sum(), away)
    return running.reads


@pytest.mark.parametrize("name", NAMES)
@cases(3)
@given(data=st.data())
def test_host_does_not_wait_for_an_operator(name: str, data: st.DataObject) -> None:
    """Except for the checks of its image and of its result, which are left out here."""
    x = image(torch.float32)
    f = drawn(name, x, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degrade.images, "_ends", lambda x: (0.0, 1.0))
        reads = reads_of(f, x)
    assert not reads or name in READERS


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("clamp", 0),
        ("blur:gaussian,2 >> gaussian:0.1 >> jpeg:30", 0),
        ("resize:6", 2),  # once for each image, see READERS
        ("poisson:20", 2),
    ],
)
def test_host_waits_once_for_each_check(text: str, more: int) -> None:
    """Of the image, and of the result of each stage."""
    f = degrade.parse(text)
    assert len(reads_of(f, image())) == 1 + len(f) + more


def test_zoomblur_sends_one_tensor_for_each_axis() -> None:
    with machine() as running:
        degrade.ZoomBlur(1.5, step=0.01)(Away(image(torch.float32)))
    assert running.sent == 2


def test_function_jpeg_reads_no_quality_from_the_device() -> None:
    with machine() as running:
        y = degrade.jpeg(Away(image(torch.float32)), 50)
    assert isinstance(y, Away) and len(running.reads) == 1  # the check of the image


def test_helper_tensors_on_another_device_are_found() -> None:
    with machine():
        x = Away(torch.ones(2, 2))
        for helper in (torch.ones(2), torch.ones(2, device="cpu"), torch.tensor([1.0, 2.0])):
            with pytest.raises(RuntimeError, match=r"mixes lazy with a tensor \[2\] on cpu"):
                x * helper
        y = x * torch.ones(2, device=x.device) * torch.ones(2).to(x) * torch.tensor(1.0)
    assert isinstance(y, Away) and y.device == x.device
