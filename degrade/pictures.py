"""Apply an operator to pictures of every kind: PIL, NumPy, tensors; 8 bits, 16 bits or floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy
import torch
from torch import Tensor

from .operator import Operator
from .rng import Generators
from .spec import operator_of

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = TypeVar("Picture", bound="Image | numpy.ndarray | Tensor")

# The white of integer pixels
_WHITES = {torch.uint8: 255, torch.uint16: 65535}


class PictureTransform:
    """Apply an operator to a picture and return one of the same kind, type and layout.

    A picture is a PIL image of mode L or RGB; an array [H, W], [H, W, C] or [N, H, W, C]; or a
    tensor [C, H, W], [B, C, H, W] or [B, T, C, H, W], of which every frame is an image of its own.
    Integers of 8 and 16 bits are divided by 255 or 65535; the result is clamped, and rounded half
    to even. Floats are in [0, 1] and are not clamped.

    It pickles, so a DataLoader's workers, `datasets.Dataset.map` and torchvision's Compose take it.

    f: the operator, or its text.

    >>> import degrade, numpy
    >>> transform = degrade.PictureTransform("downsample:2 >> jpeg:50")
    >>> transform(numpy.zeros((8, 6, 3), "uint8")).shape
    (4, 3, 3)
    """

    def __init__(self, f: Operator | str):
        self.f = operator_of(f)

    def __call__(self, picture: Picture, generator: Generators = None) -> Picture:
        """f(picture). generator: a torch.Generator, a seed, or a list with one for each image."""
        if isinstance(picture, Tensor):
            return cast(Picture, self._of_tensor(picture, generator))
        if isinstance(picture, numpy.ndarray):
            return cast(Picture, self._of_array(picture, generator))
        return cast(Picture, self._of_pil(cast("Image", picture), generator))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.f)!r})"

    def _of_tensor(self, picture: Tensor, generator: Generators) -> Tensor:
        if picture.ndim not in (3, 4, 5):
            raise ValueError(
                f"the picture has shape {list(picture.shape)}; give [C, H, W], [B, C, H, W] or "
                "[B, T, C, H, W]"
            )
        batch = picture[None] if picture.ndim == 3 else picture.flatten(0, -4)
        y = _from_floats(self.f(_as_floats(batch), generator), picture.dtype)
        return y.reshape(*picture.shape[:-3], *y.shape[1:])

    def _of_array(self, picture: numpy.ndarray, generator: Generators) -> numpy.ndarray:
        if picture.ndim not in (2, 3, 4):
            raise ValueError(
                f"the array has shape {list(picture.shape)}; give [H, W], [H, W, C] or [N, H, W, C]"
            )
        tensor = _tensor_of(picture)
        if picture.ndim == 2:
            plane = self._of_tensor(tensor[None], generator)[0]
            return _array_of(plane, picture.dtype)
        channels_first = tensor.movedim(-1, -3)
        y = self._of_tensor(channels_first, generator)
        return _array_of(y.movedim(-3, -1), picture.dtype)

    def _of_pil(self, picture: Image, generator: Generators) -> Image:
        from PIL import Image

        mode = getattr(picture, "mode", None)
        if mode is None:
            raise ValueError(
                f"the picture is a {type(picture).__name__}; give a tensor, a NumPy array or a "
                "PIL image alone, without a label"
            )
        if mode not in ("L", "RGB"):
            raise ValueError(
                f"the picture is a PIL image of mode {mode}; give picture.convert('RGB'), or "
                "numpy.array(picture) of one with 16 bits"
            )
        pixels = self._of_array(numpy.array(picture), generator)
        return Image.fromarray(pixels)


def _tensor_of(array: numpy.ndarray) -> Tensor:
    """The values of an array, copied where torch cannot share them.

    Big-endian numbers come from 16-bit files, and read-only ones from PIL.
    """
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"the array is {array.dtype}; give uint8, uint16, or floats in [0, 1], such as "
            "array.astype('float32')"
        )
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(numpy.require(array, native, ["C", "W"]))


def _array_of(tensor: Tensor, dtype: numpy.dtype) -> numpy.ndarray:
    return numpy.ascontiguousarray(tensor.detach().numpy(), dtype)


def _as_floats(x: Tensor) -> Tensor:
    """Integer pixels in [0, 1]; floats as they are."""
    white = _WHITES.get(x.dtype)
    if white is None:
        return x  # the operator refuses what is no float
    return x.float() / white


def _from_floats(y: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `_as_floats`, with values that fit into the type."""
    white = _WHITES.get(dtype)
    if white is None:
        return y
    levels = y.detach().clamp(0, 1) * white
    return levels.round().to(dtype)
