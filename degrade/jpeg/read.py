"""Read the quantised coefficients that a JPEG file stores, by jpeglib (an optional extra)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from .coefficients import JPEGCoefficients
from .header import read_header


def coefficients_of_file(file: str | Path | bytes) -> JPEGCoefficients:
    """The coefficients of a JPEG file (a path, or its bytes), as a batch of one image.

    Raises ValueError for files that `JPEG.from_file` refuses, and if jpeglib is not installed.
    """
    tables, subsampling = read_header(file)
    try:
        import jpeglib
    except ImportError as error:
        raise ValueError(
            "reading a file's coefficients needs jpeglib; pip install 'degrade[jpeg]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = file
        if not isinstance(file, (str, Path)):  # jpeglib reads files only
            path = Path(folder) / "image.jpg"
            path.write_bytes(file)
        stored = jpeglib.read_dct(str(path))
        arrays = [stored.Y]
        if stored.has_chrominance:
            arrays += [stored.Cb, stored.Cr]
    components = tuple(torch.tensor(array)[None] for array in arrays)
    steps = torch.tensor(tables, dtype=torch.int32).view(1, -1, 8, 8)
    return JPEGCoefficients(components, steps, subsampling, (stored.height, stored.width))
