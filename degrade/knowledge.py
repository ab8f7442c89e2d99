"""What an observation says of the image: visible pixels, and projection onto what is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from .images import check_image
from .stages import through_stages

if TYPE_CHECKING:
    from .operator import Operator, Shape


@runtime_checkable
class Agrees(Protocol):
    """An operator that can find an image near x from which it makes y.

    Operators without it say nothing certain of their input: they draw, or give the same y for
    images that are far apart.
    """

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """The image near x for which f gives y. x [1, C, H, W], y [1, C, h, w], float32 or float64."""


def certain(f: Operator) -> bool:
    """Whether y says something certain of x: every stage has `agree` and nothing left to draw.

    A single stage without it explains any difference, and so the stages before it cannot be held
    to the observation.
    """
    return all(isinstance(stage, Agrees) and stage.decided for stage in f.stages)


@torch.no_grad()
def project(f: Operator, x: Tensor, y: Tensor) -> Tensor:
    """An image near x for which f(x') is y, as near as can be: data consistency.

    x [B, C, H, W] → the same shape and dtype; y [B, C, h, w], both in [0, 1]. Each operator's
    docstring says how exactly, and what "near" is. Where something of f is drawn or unknown (noise,
    dead pixels, an undecided filter), or a stage has no `agree` (a blur), nothing is certain, and x
    comes back unchanged; so does an x with f(x) = y. Each image depends only on its own row. There
    is no gradient. Raises ValueError if f does not give images like y from images like x, and for
    NaN or infinity. Source: projections onto convex sets (Youla & Webb 1982), one for each stage.
    """
    check_image(x)
    check_image(y, "y", scale=False)
    output = tuple(f.output_shape(x.shape))
    if tuple(y.shape) != output:
        raise ValueError(f"y is {list(y.shape)}, but {f} turns {list(x.shape)} into {list(output)}")
    images = (x if x.dtype == torch.float64 else x.float()).contiguous()
    observations = y.to(images).contiguous()
    projected = []
    with torch.autocast(x.device.type, enabled=False):
        for i in range(len(x)):
            image, observation = images[i : i + 1], observations[i : i + 1]
            projected.append(_project_row(f.row(i, len(x)), image, observation))
    return torch.cat(projected).to(x.dtype)


def _project_row(f: Operator, x: Tensor, y: Tensor) -> Tensor:
    if not certain(f) or torch.equal(f(x), y):
        return x
    inputs = [x]
    for stage in f.stages[:-1]:
        inputs.append(stage(inputs[-1]))
    # Backwards: what the last stage says of its input is the observation of the stage before it
    for stage, stage_input in zip(reversed(f.stages), reversed(inputs), strict=True):
        assert isinstance(stage, Agrees)
        y = stage.agree(stage_input, y)
    return y


def visible_through_chain(f: Operator, shape: Shape, seen: Tensor | None) -> Tensor | None:
    """`visible` of each stage in turn."""

    def step(
        stage: Operator, state: tuple[Shape, Tensor | None], _: str
    ) -> tuple[Shape, Tensor | None]:
        shape, visible = state
        return stage.output_shape(shape), stage.visible(shape, visible)

    _, visible = through_stages(f, (tuple(shape), seen), step)
    return visible
