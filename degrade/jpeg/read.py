"""Read the quantised coefficients that a JPEG file stores, by jpeglib (an optional extra)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ..imagefile import opened
from .coefficients import JPEGCoefficients
from .parse import read_header


def coefficients_of_file(file: str | Path | bytes) -> JPEGCoefficients:
    """The coefficients of a JPEG file (a path, or its bytes), as a batch of one image.

    Raises ValueError for files that `JPEG.from_file` or Pillow refuses, such as truncated ones, and
    if jpeglib is not installed.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        data = bytes(file)
    else:
        data = Path(file).read_bytes()
    header = read_header(data)
    # jpeglib replaces what is missing by zeros; Pillow refuses such a file
    opened(data, "this JPEG", lambda image: image.load())
    try:
        import jpeglib
    except ImportError as error:
        raise ValueError(
            "reading a file's coefficients needs jpeglib; pip install 'degrade[jpeg]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"  # jpeglib reads files only
        path.write_bytes(data)
        try:
            stored = jpeglib.read_dct(str(path))
        except OSError as error:
            raise ValueError("this JPEG is damaged: jpeglib cannot read it") from error
        arrays = [stored.Y]
        if stored.has_chrominance:
            arrays += [stored.Cb, stored.Cr]
        if stored.has_black:
            arrays.append(stored.K)
    components = tuple(torch.tensor(array)[None] for array in arrays)
    steps = torch.tensor(header.tables, dtype=torch.int32).view(1, -1, 8, 8)
    size = (stored.height, stored.width)
    return JPEGCoefficients(components, steps, header.subsampling, size, header.colour)
