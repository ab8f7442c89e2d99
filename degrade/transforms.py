"""What operators need to work under torch.func (grad, vjp, jacrev, vmap), compile and export.

A tensor inside a transform of torch.func stands for other tensors and has no storage of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.utils._python_dispatch import _disable_current_modes


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Compute in the tensors' own types, whatever torch.autocast the caller has switched on."""
    if device.type == "meta":  # it computes nothing, and autocast does not know it
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def is_transformed(x: Tensor) -> bool:
    """Whether x belongs to a running transform of torch.func, and so has no storage to look at."""
    if torch.compiler.is_compiling():
        return False
    try:
        x.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return True
    return False


def is_exporting() -> bool:
    """Whether torch.export or torch.onnx.export records what is computed."""
    compiler_knows = getattr(torch.compiler, "is_exporting", None)  # PyTorch 2.7 has it first
    return compiler_knows is not None and compiler_knows()


def is_compiled() -> bool:
    """Whether torch.compile traces now. torch.export and ONNX trace, too, but run elsewhere."""
    return torch.compiler.is_compiling() and not is_exporting()


def values_are_readable(x: Tensor) -> bool:
    """Whether Python may look at the numbers in x, as a check of its content does.

    False under torch.compile, under torch.func and on the meta device.
    """
    if torch.compiler.is_compiling() or x.is_meta:
        return False
    if torch._is_functional_tensor(x):  # of torch.func.functionalize: its storage holds no numbers
        return False
    return not is_transformed(x)


def is_differentiated(x: Tensor) -> bool:
    """Whether a derivative with respect to x is asked for, backward or in forward mode."""
    if x.requires_grad:
        return True
    if torch.compiler.is_compiling():  # it compiles no forward mode
        return False
    return unpack_dual(x).tangent is not None


@contextmanager
def not_recorded() -> Iterator[None]:
    """Compute with real tensors during torch.export: the program holds the result as a constant."""
    if not is_exporting():
        yield
        return
    with _disable_current_modes():
        yield


def differs_within_vmap(x: Tensor) -> bool:
    """Whether each slice of torch.func.vmap has another x, so that its numbers cannot be read."""
    if x.numel() == 0 or not is_transformed(x):
        return False
    try:
        x.flatten()[0].item()
    except RuntimeError:
        return True
    return False


NO_FORWARD_MODE = (
    "it has no forward-mode derivative, which torch.func.jvp, jacfwd and hessian ask for; "
    "torch.func.vjp, grad and jacrev work"
)


def asks_for_forward_mode(error: BaseException) -> bool:
    """Whether torch raised an error because a function has no forward-mode derivative.

    A surrogate is declared for the backward pass. A custom function that defines `jvp`, to say so
    itself, would not compile.
    """
    text = str(error)
    return isinstance(error, NotImplementedError) and ("forward AD" in text or "mode AD" in text)


def numbers_in(x: Tensor) -> list:
    """The numbers in x, in one row. `tolist` needs a storage in PyTorch 2.6; `item` does not."""
    return [number.item() for number in x.flatten().unbind()]


def fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Move a dimension that vmap runs over into the batch: [size·B, ...].

    dim: where x has it, or None where x is the same for all and is repeated.
    """
    if dim is None:
        repeated = x.expand(size, *x.shape)
        return repeated.flatten(0, 1)
    moved = x.movedim(dim, 0)
    return moved.flatten(0, 1)


def unfold(x: Tensor, size: int) -> Tensor:
    """The inverse of `fold`, with the dimension of vmap first: [size, B, ...]."""
    result: Tensor = x.unflatten(0, (size, -1))
    return result


def fold_all(
    function: type[torch.autograd.Function], size: int, dims: tuple, arguments: tuple
) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:
    """A vmap rule: one call of `function` with the dimension of vmap folded into the batch."""
    folded = []
    for argument, dim in zip(arguments, dims, strict=True):
        if isinstance(argument, Tensor):
            argument = fold(argument, dim, size)
        folded.append(argument)
    outputs: list[Tensor | None] = []
    out_dims: list[int | None] = []
    for output in function.apply(*folded):
        if output is None:
            outputs.append(None)
            out_dims.append(None)
        else:
            outputs.append(unfold(output, size))
            out_dims.append(0)
    return tuple(outputs), tuple(out_dims)
