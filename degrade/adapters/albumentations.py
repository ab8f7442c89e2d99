"""An operator as a transform of Albumentations."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from albumentations import DualTransform
from torch import Tensor

from ..movement import is_still, move_boxes, move_mask
from ..operator import Operator, Shape
from ..pictures import PictureTransform
from ..spec import operator_of


class AlbumentationsTransform(DualTransform):
    """Apply an operator to the image of a sample; masks, boxes and keypoints follow what moves.

    Images are arrays [H, W] or [H, W, C], uint8 or float in [0, 1]. Draws come from the generator
    of the pipeline, so `Compose(…, seed=3)` repeats. `A.to_dict` keeps the operator's text.

    f: the operator, or its text. p: the probability of applying it.
    """

    class InitSchema(DualTransform.InitSchema):
        f: Any

    def __init__(self, f: Operator | str, p: float = 1.0):
        super().__init__(p=p)
        self._operator = operator_of(f)
        self.f = str(f)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width, *channels = params["shape"]
        shape = (1, *(channels or [1]), height, width)
        seed = self.py_random.getrandbits(62)
        operator = self._operator.row(0, 1).sample(shape, seed)
        return {"operator": operator, "seed": seed, "degraded_shape": shape}

    def apply(self, img: numpy.ndarray, **params: Any) -> numpy.ndarray:
        return PictureTransform(params["operator"])(img, params["seed"])

    def apply_to_mask(self, mask: numpy.ndarray, **params: Any) -> numpy.ndarray:
        has_channels = mask.ndim == 3
        planes = torch.from_numpy(numpy.ascontiguousarray(mask))
        planes = planes.movedim(-1, 0) if has_channels else planes
        moved = move_mask(params["operator"], planes, params["degraded_shape"])
        moved = moved.movedim(0, -1) if has_channels else moved
        return numpy.ascontiguousarray(moved.numpy())

    def apply_to_bboxes(self, bboxes: numpy.ndarray, **params: Any) -> numpy.ndarray:
        """Boxes in shares of the sides; further columns, such as labels, stay."""
        operator, shape = params["operator"], params["degraded_shape"]
        if is_still(operator, shape):
            return bboxes
        pixels = torch.from_numpy(bboxes[:, :4]) * _sides(shape)
        moved = move_boxes(operator, pixels, shape) / _sides(operator.output_shape(shape))
        return _with_columns(moved, bboxes)

    def apply_to_keypoints(self, keypoints: numpy.ndarray, **params: Any) -> numpy.ndarray:
        """Keypoints in pixels, whose first columns are x and y; the rest stays."""
        operator, shape = params["operator"], params["degraded_shape"]
        if is_still(operator, shape):
            return keypoints
        points = torch.from_numpy(keypoints[:, :2]).double()
        centres = points + 0.5  # Albumentations counts from the centre of the first pixel
        return _with_columns(operator.moved(centres, shape) - 0.5, keypoints)

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ("f",)


def _sides(shape: Shape) -> Tensor:
    *_, height, width = shape
    return torch.tensor([width, height, width, height], dtype=torch.float64)


def _with_columns(moved: Tensor, before: numpy.ndarray) -> numpy.ndarray:
    """The first columns replaced by moved ones."""
    after = before.copy()
    after[:, : moved.shape[1]] = moved.numpy()
    return after
