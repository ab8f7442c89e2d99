"""An operator as a transform of torchvision v2."""

from __future__ import annotations

from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ..movement import is_still, move_boxes, move_mask
from ..operator import Operator, Shape
from ..pictures import PictureTransform
from ..spec import operator_of


class TorchvisionTransform(v2.Transform):
    """Apply an operator to the images of a sample; boxes and masks follow what moves.

    Images are tv_tensors.Image, tv_tensors.Video, PIL images and plain tensors, uint8 or float, as
    `PictureTransform` takes them. Boxes in any format and masks are cropped, shifted, turned and
    resized with the image. Labels and other values stay. All parts of a sample have one size and
    get the same draws, from torch's global generator, as torchvision's own transforms do.

    Raises ValueError for rotated boxes and keypoints of an operator that moves pixels.

    f: the operator, or its text.
    """

    def __init__(self, f: Operator | str):
        super().__init__()
        self.f = operator_of(f)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        seed = int(torch.randint(2**62, (), device="cpu"))
        shape = _shape_of(flat_inputs)
        if shape is None:
            return {"seed": seed}
        operator = self.f.row(0, 1).sample(shape, seed)
        return {"operator": operator, "seed": seed, "shape": shape}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        operator = params.get("operator")
        if operator is None:
            raise ValueError(f"{self.f}: the sample has no image; give one beside boxes and masks")
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return _moved_boxes(operator, inpt, params["shape"])
        if isinstance(inpt, tv_tensors.Mask):
            mask = move_mask(operator, inpt.as_subclass(Tensor), params["shape"])
            return tv_tensors.wrap(mask, like=inpt)
        if isinstance(inpt, tv_tensors.TVTensor) and not _is_image(inpt):
            if is_still(operator, params["shape"]):
                return inpt
            raise ValueError(f"{operator} moves pixels, and {type(inpt).__name__} cannot follow")
        if isinstance(inpt, PIL.Image.Image):
            return PictureTransform(operator)(inpt, params["seed"])
        return _degraded(operator, inpt, params["seed"])

    def extra_repr(self) -> str:
        return str(self.f)


def _is_image(value: object) -> bool:
    if isinstance(value, tv_tensors.TVTensor):
        return isinstance(value, (tv_tensors.Image, tv_tensors.Video))
    return isinstance(value, (Tensor, PIL.Image.Image))


def _shape_of(values: list[Any]) -> Shape | None:
    """The shape [1, C, H, W] of the images of a sample, or None if it has no image."""
    shapes: list[Shape] = []
    for value in values:
        if isinstance(value, PIL.Image.Image):
            channels = len(value.getbands())
            shapes.append((1, channels, value.height, value.width))
        elif _is_image(value):
            shapes.append((1, *value.shape[-3:]))
    sizes = sorted({shape[2:] for shape in shapes})
    if len(sizes) > 1:
        raise ValueError(f"the sample has images of sizes {sizes}; transform them one by one")
    return shapes[0] if shapes else None


def _degraded(operator: Operator, image: Tensor, seed: int) -> Tensor:
    """The images or frames of a tensor, all with the same draws."""
    plain = image.as_subclass(Tensor)
    frames = plain.reshape(-1, *plain.shape[-3:])
    if len(frames) == 0:
        raise ValueError(f"the images have shape {list(plain.shape)}; give at least one")
    transform = PictureTransform(operator)
    results = []
    for frame in frames:
        results.append(transform(frame, seed))
    result = torch.stack(results)
    shaped = result.reshape(*plain.shape[:-3], *result.shape[1:])
    return tv_tensors.wrap(shaped, like=image) if _is_tv_tensor(image) else shaped


def _is_tv_tensor(image: Tensor) -> bool:
    return isinstance(image, tv_tensors.TVTensor)


def _moved_boxes(
    operator: Operator, boxes: tv_tensors.BoundingBoxes, shape: Shape
) -> tv_tensors.BoundingBoxes:
    if is_still(operator, shape):
        return boxes
    if tv_tensors.is_rotated_bounding_format(boxes.format):
        raise ValueError(f"{operator} moves pixels, and rotated boxes cannot follow")
    corners = functional.convert_bounding_box_format(boxes, new_format="XYXY")
    moved = move_boxes(operator, corners.as_subclass(Tensor), shape)
    if not boxes.is_floating_point():
        moved = moved.round()
    height, width = operator.output_shape(shape)[2:]
    moved_boxes = tv_tensors.BoundingBoxes(
        moved.to(boxes.dtype), format="XYXY", canvas_size=(height, width)
    )
    result: tv_tensors.BoundingBoxes = functional.convert_bounding_box_format(
        moved_boxes, new_format=boxes.format
    )
    return result
