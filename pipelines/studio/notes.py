"""Notes of degrade to a user, collected for the thread that caused them.

`warnings.catch_warnings` changes all threads at once, and several visitors have threads here.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from degrade.imagefile import Note

_COLLECTED = threading.local()


def collect() -> None:
    """From now on give every note to the thread that `noting` runs in; drop others."""
    warnings.simplefilter("always", Note)
    warnings.showwarning = _collected


def _collected(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    notes = getattr(_COLLECTED, "notes", None)
    if notes is not None and issubclass(category, Note):
        notes.append(str(message))


@contextmanager
def noting() -> Iterator[list[str]]:
    """Collect the notes of this thread in a list."""
    _COLLECTED.notes = []
    try:
        yield _COLLECTED.notes
    finally:
        _COLLECTED.notes = None
