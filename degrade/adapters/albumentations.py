"""An operator as a transform of Albumentations."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from albumentations import DualTransform
from numpy import ndarray
from torch import Tensor

from ..movement import is_still, move_boxes, move_mask
from ..operator import Operator, Shape
from ..pictures import PictureTransform
from ..spec import operator_of

Params = dict[str, Any]  # what Albumentations passes between the methods of a transform


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

    def get_params_dependent_on_data(self, params: Params, data: Params) -> Params:
        """The operator drawn for this sample, which all parts of the sample share."""
        shape = _batch_shape(params["shape"])
        seed = self.py_random.getrandbits(62)
        for_one_image = self._operator.row(0, 1)
        return {
            "operator": for_one_image.sample(shape, seed),
            "seed": seed,
            "degraded_shape": shape,
        }

    def apply(self, img: ndarray, **params: Any) -> ndarray:
        transform = PictureTransform(params["operator"])
        return transform(img, params["seed"])

    def apply_to_mask(self, mask: ndarray, **params: Any) -> ndarray:
        """Labels [H, W], or [H, W, C]."""
        labels = torch.from_numpy(numpy.ascontiguousarray(mask))
        has_channels = mask.ndim == 3
        if has_channels:
            labels = labels.movedim(-1, 0)
        moved = move_mask(params["operator"], labels, params["degraded_shape"])
        if has_channels:
            moved = moved.movedim(0, -1)
        return numpy.ascontiguousarray(moved.numpy())

    def apply_to_bboxes(self, bboxes: ndarray, **params: Any) -> ndarray:
        """Boxes in shares of the sides; further columns, such as labels, stay."""
        operator = params["operator"]
        shape = params["degraded_shape"]
        if is_still(operator, shape):
            return bboxes
        shares = torch.from_numpy(bboxes[:, :4])
        pixels = shares * _sides(shape)
        moved = move_boxes(operator, pixels, shape)
        new_shape = operator.output_shape(shape)
        return _with_columns(bboxes, moved / _sides(new_shape))

    def apply_to_keypoints(self, keypoints: ndarray, **params: Any) -> ndarray:
        """Keypoints in pixels, whose first columns are x and y; the rest stays."""
        operator = params["operator"]
        shape = params["degraded_shape"]
        if is_still(operator, shape):
            return keypoints
        points = torch.from_numpy(keypoints[:, :2])
        # Albumentations counts from the centre of the first pixel, `moved` from its corner.
        moved = operator.moved(points.double() + 0.5, shape)
        return _with_columns(keypoints, moved - 0.5)

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ("f",)


def _batch_shape(shape: Shape) -> Shape:
    """[1, C, H, W] of an array [H, W] or [H, W, C]."""
    height, width, *channels = shape
    if not channels:
        return (1, 1, height, width)
    return (1, *channels, height, width)


def _sides(shape: Shape) -> Tensor:
    """What a box in shares of the sides is multiplied by."""
    *_, height, width = shape
    sides = [width, height, width, height]
    return torch.tensor(sides, dtype=torch.float64)


def _with_columns(rows: ndarray, first_columns: Tensor) -> ndarray:
    """A copy of the rows with other first columns."""
    count = first_columns.shape[1]
    replaced = rows.copy()
    replaced[:, :count] = first_columns.numpy()
    return replaced
