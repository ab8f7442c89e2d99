"""Which versions are at work: what a report of a bug must tell. Nothing is loaded for it but Pillow."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

LIBRARIES = ("torch", "kornia", "lpips", "pillow")  # that values may depend on


def versions() -> Iterator[str]:
    """A line each: ours, Python's, those of the libraries, and of the JPEG library within Pillow."""
    from PIL import features

    yield _line("degrade")
    yield f"python {platform.python_version()}"
    yield from map(_line, LIBRARIES)
    turbo = features.version_feature("libjpeg_turbo")
    yield f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}"


def _line(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # such as a copy of the source that was never installed
        return f"{package} is not installed"
