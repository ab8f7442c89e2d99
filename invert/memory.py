"""Memory of the process."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def return_freed_memory() -> None:
    """Give memory that was freed back to the operating system, where the C library can do so.

    The allocator of glibc keeps freed blocks for later. With the large blocks of a network it keeps
    more and more of them: over the tiles of a large photo, more than half a gigabyte.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The function of glibc; None with another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS and musl have no such function
        return None
