"""How a JPEG stores colours: as luma and chroma (YCbCr), or as they are (RGB).

RGB is never subsampled here, and so an RGB file is three grayscale ones that share a header.
Source: libjpeg, which names RGB by an Adobe marker or by the names of the components.
"""

from __future__ import annotations

from torch import Tensor

from ..params import check_choice

YCBCR, RGB = "ycbcr", "rgb"
COLOURS = (YCBCR, RGB)


def sampling_with(colour: str, sampling: str) -> str:
    """The sampling of a JPEG that stores colours so: of RGB 4:4:4, which "4:2:0" means, too.

    "4:2:0" is the default of the parameter, and of no consequence there.
    """
    check_choice("colour", colour, COLOURS)
    if colour == YCBCR:
        return sampling
    if sampling not in ("4:2:0", "4:4:4"):
        raise ValueError(f"subsampling={sampling} has no chroma to sample in colour=rgb; use 4:4:4")
    return "4:4:4"


def base_tables(colour: str, base: Tensor) -> Tensor:
    """Those of an encoder's tables of quality 50 that the components use: RGB has that of luma."""
    return base[:1] if colour == RGB else base


def channels_as_images(x: Tensor) -> Tensor:
    """Each channel of [B, C, ...] as a grayscale image [B·C, 1, ...]."""
    return x.flatten(0, 1)[:, None]
