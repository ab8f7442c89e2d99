"""Cached tensors: computed once from plain numbers and used again by later calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch

from .transforms import is_transformed, not_recorded

Arguments = ParamSpec("Arguments")
Constant = TypeVar("Constant")
Build = Callable[Arguments, Constant]  # a function, and the same function with a cache


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Create ordinary CPU tensors, whatever inference mode or default device the caller set.

    What is created here may be kept: every later call can use it, with or without gradients.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        yield


def cached_constant(
    maxsize: int,
) -> Callable[[Build[Arguments, Constant]], Build[Arguments, Constant]]:
    """Keep the last `maxsize` results of a function that builds tensors from plain numbers.

    The function makes `ordinary_tensors`; it must itself name the dtype of what it creates, since
    the caller's default dtype holds for the whole process. Under torch.compile and torch.export it
    is called once, and the graph holds its result.
    """

    def decorate(build: Build[Arguments, Constant]) -> Build[Arguments, Constant]:
        @wraps(build)
        def build_plainly(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
            with not_recorded(), ordinary_tensors():
                constant = build(*args, **kwargs)
                within_transform = is_transformed(torch.empty(0))
            if not within_transform:
                return constant
            # What torch.func's transforms have seen belongs to this one call; it is built again.
            with torch._C._DisableFuncTorch(), ordinary_tensors():
                return build(*args, **kwargs)

        cache = lru_cache(maxsize)(build_plainly)
        # every argument is hashable, which the type of lru_cache cannot tell from `build`
        look_up = cast(Build[Arguments, Constant], cache)

        @wraps(build)
        def constant(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
            return look_up(*args, **kwargs)

        # what torch.compiler.assume_constant_result sets, without the second its import takes
        constant._dynamo_marked_constant = True  # type: ignore[attr-defined]
        constant.cache_clear = cache.cache_clear  # type: ignore[attr-defined]
        return cast(Build[Arguments, Constant], constant)

    return decorate
