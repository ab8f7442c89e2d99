"""`degrade --version`: the versions that a bug report must name. Only Pillow is imported for it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

LIBRARIES = ("torch", "kornia", "lpips", "pillow")  # on which computed values may depend


def versions() -> Iterator[str]:
    """A line for degrade, Python, each library, and the JPEG library inside of Pillow."""
    from PIL import features

    yield _line("degrade")
    yield f"python {platform.python_version()}"
    for library in LIBRARIES:
        yield _line(library)
    turbo = features.version_feature("libjpeg_turbo")
    yield f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}"


def _line(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # such as a copy of the source that was never installed
        return f"{package} (not installed)"
