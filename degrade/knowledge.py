"""What an observation says about the image: visible pixels, and projection (data consistency)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from .images import check_image
from .stages import through_stages
from .transforms import without_autocast

if TYPE_CHECKING:
    from .operator import Operator, Shape

    _ShapeAndMask = tuple[Shape, Tensor | None]


@runtime_checkable
class Agrees(Protocol):
    """An operator with a method `agree`, which finds an image near x that gives y.

    From the output of other operators nothing certain follows: they draw, or give the same y for
    very different images.
    """

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """The image near x for which f gives y: x [1, C, H, W], y [1, C, h, w]."""


@runtime_checkable
class Invertible(Protocol):
    """An operator with a property `inverse`, an operator that undoes it exactly."""

    @property
    def inverse(self) -> Operator: ...


def certain(f: Operator) -> bool:
    """Whether y says something certain about x: no stage draws, and each has `agree`.

    A stage without `agree` may explain any difference, so `project` cannot hold the stages before
    it to the observation.
    """
    return all(isinstance(stage, Agrees) and stage.decided for stage in f.stages)


@torch.no_grad()
def project(f: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Data consistency: an image x' near x for which f(x') equals y as closely as possible.

    x: images [B, C, H, W] in [0, 1]; the result has the same shape and dtype.
    y: the observations [B, C, h, w] in [0, 1].

    The docstring of each operator says how close f(x') comes and what "near" means. x is returned
    unchanged where f(x) = y already, and where nothing is certain: something of f is random or
    unknown (noise, dead pixels, an undecided filter), or a stage has no `agree` (a blur). Images
    are independent of each other. No gradient. Raises ValueError if f does not turn the shape of x
    into that of y, and for NaN or infinity. Source: projections onto convex sets (Youla & Webb
    1982), one for each stage.
    """
    check_image(x)
    check_image(y, "y", scale=False)
    output = list(f.output_shape(x.shape))
    if list(y.shape) != output:
        raise ValueError(f"y is {list(y.shape)}, but {f} turns {list(x.shape)} into {output}")
    if x.is_meta or y.is_meta:  # they have a shape and no values
        return torch.empty_like(x)
    images = x if x.dtype == torch.float64 else x.float()
    images = images.contiguous()
    observations = y.to(images).contiguous()
    batch = len(x)
    projected = []
    with without_autocast(x.device):
        for i in range(batch):
            row_operator = f.row(i, batch)
            row = slice(i, i + 1)
            projected.append(_project_row(row_operator, images[row], observations[row]))
    return torch.cat(projected).to(x.dtype)


def _project_row(f: Operator, x: Tensor, y: Tensor) -> Tensor:
    if not certain(f) or torch.equal(f(x), y):
        return x
    inputs = [x]
    for stage in f.stages[:-1]:
        x = stage(x)
        inputs.append(x)
    # Backwards: the input that the last stage agrees with is the observation of the stage before it
    for stage in reversed(f.stages):
        assert isinstance(stage, Agrees)
        y = stage.agree(inputs.pop(), y)
    return y


def visible_through_chain(f: Operator, shape: Shape, seen: Tensor | None) -> Tensor | None:
    """Pass the mask of visible pixels through the stages of a chain."""

    def step(stage: Operator, state: _ShapeAndMask, key: str) -> _ShapeAndMask:
        shape, visible = state
        output = stage.output_shape(shape)
        return output, stage.visible(shape, visible)

    start = (tuple(shape), seen)
    _, visible = through_stages(f, start, step)
    return visible
