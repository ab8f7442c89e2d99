"""An operator as an augmentation of kornia."""

from __future__ import annotations

from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ..movement import is_still
from ..operator import Operator
from ..spec import operator_of


class KorniaTransform(IntensityAugmentationBase2D):
    """Apply an operator to a batch, on its own or in an AugmentationSequential.

    Each image has a seed, which kornia keeps among its parameters, so `aug(x, params=aug._params)`
    repeats. Masks, boxes and keypoints stay. Raises ValueError for an operator that moves pixels or
    changes the size, since kornia mixes images by their probabilities.

    f: the operator, or its text. p: the probability of each image. same_on_batch: one seed for all.
    """

    def __init__(
        self, f: Operator | str, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ):
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self.f = operator_of(f)

    def __repr__(self) -> str:
        of_kornia = f"p={self.p}, same_on_batch={self.same_on_batch}"
        return f"{type(self).__name__}({str(self.f)!r}, {of_kornia})"

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        count = 1 if self.same_on_batch else batch_shape[0]
        seeds = torch.randint(2**62, (count,), device="cpu")
        return {"seed": seeds.expand(batch_shape[0])}

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        seeds = params["seed"].tolist()
        operator = self.f.sample(input.shape, seeds)
        rows = [operator.row(i, len(input)) for i in range(len(input))]
        for row in rows:
            if not is_still(row, (1, *input.shape[1:])):
                raise ValueError(
                    f"{row} moves pixels, which kornia's masks and boxes would not follow; "
                    "apply it before or after the augmentations"
                )
        return operator(input, seeds)
