"""Names that a shell completes, read from the source files without importing torch."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

_REGISTRATION = re.compile(r"^@?register\(\s*\"([\w-]+)\"", re.MULTILINE)


def operator_names(incomplete: str) -> list[str]:
    """The names of our operators that begin with `incomplete`; operators of plugins are missing."""
    package = importlib.util.find_spec("degrade")
    folders = [] if package is None else package.submodule_search_locations or []
    found: set[str] = set()
    for folder in folders:
        for path in Path(folder).rglob("*.py"):
            found.update(_REGISTRATION.findall(path.read_text(encoding="utf-8")))
    return sorted(name for name in found if name.startswith(incomplete))
