"""Tensors that are computed once from plain numbers and kept for later calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch

Arguments = ParamSpec("Arguments")
Constant = TypeVar("Constant")
Build = Callable[Arguments, Constant]


def cached_constant(maxsize: int) -> Callable[[Build], Build]:
    """Keep the last `maxsize` results of a function that builds tensors from plain numbers.

    The function runs outside the caller's inference mode and default device. So a cached tensor
    is an ordinary CPU tensor that every later call can use, with or without gradients. The
    function itself must name the dtype of what it creates.
    """

    def decorate(build: Build) -> Build:
        @wraps(build)
        def build_plainly(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
            with torch.inference_mode(False), torch.device("cpu"):
                return build(*args, **kwargs)

        return cast(Build, lru_cache(maxsize)(build_plainly))

    return decorate
