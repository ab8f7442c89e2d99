"""A JPEG whose file is known: data consistency with the coefficients that the file stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ..knowledge import certain
from ..operator import Operator, Shape, Window, compose
from ..params import Range
from . import JPEG
from .cells import part_of_components
from .coefficients import JPEGCoefficients
from .layout import layout_of
from .read import coefficients_of_file
from .steps import steps_of_components


@dataclass(frozen=True, repr=False)
class SavedJPEG(JPEG):
    """The JPEG that made a file, with the coefficients in the file.

    `project` onto the file's pixels then needs no search for the coefficients, which pixels do not
    always determine. For other pixels, and in all else, it is the `JPEG` of the same parameters.
    The text form and JSON do not hold the coefficients.

    pixels: what the file, or a part of it, decodes to, [1, C, H, W]. components: the coefficients
    of that part, as in `JPEGCoefficients`.
    """

    pixels: Tensor = field(kw_only=True, compare=False)
    components: tuple[Tensor, ...] = field(kw_only=True, compare=False)

    def arguments(self) -> list[tuple[str, object, bool]]:
        """The parameters of `JPEG`."""
        without = ("pixels", "components")
        return [argument for argument in super().arguments() if argument[0] not in without]

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        pixels = self.pixels.to(y)
        if not torch.equal(pixels, y):
            return super().agree(x, y)
        components = [component.to(x.device) for component in self.components]
        return self._nearest(x, y, components)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        part = super().cut(shape, window)
        is_file = tuple(shape[2:]) == tuple(self.pixels.shape[2:])
        if part is None or not is_file:
            return part
        rows, columns = window
        layout = layout_of(self.colour, self.subsampling, len(self.components))
        components = part_of_components(self.components, rows, columns, layout)
        pixels = self.pixels[..., rows, columns]
        saved = replace(self, pixels=pixels, components=tuple(components))
        return saved, window


def with_coefficients(operator: Operator, file: str | Path | bytes, pixels: Tensor) -> Operator:
    """The operator whose last JPEG knows the coefficients of `file`, if the file is its result.

    file: the path or the bytes of the file that holds the observation. pixels: the observation
    [1, C, H, W] in [0, 1].

    Returns the operator itself if it has no JPEG, or one with other tables or sampling, if the
    file is no JPEG that `JPEG.coefficients_from_file` can read (jpeglib may not be installed, the
    file may have gone), or if the file's coefficients do not decode to these pixels.
    """
    stages = list(operator)
    position = _last_jpeg(stages)
    if position is None:
        return operator
    jpeg = stages[position]
    assert isinstance(jpeg, JPEG)
    try:
        coefficients = coefficients_of_file(file)
    except (ValueError, OSError):  # it is read a second time, and may have gone meanwhile
        return operator
    decoded = coefficients.decode(jpeg.decoder)
    following = stages[position + 1 :]
    if not _made(jpeg, coefficients, decoded):
        return operator
    if not _leads_to(following, decoded, pixels):
        return operator
    parameters = {field.name: getattr(jpeg, field.name) for field in fields(JPEG)}
    saved = decoded if following else pixels  # equal; a large photo is kept once
    stages[position] = SavedJPEG(**parameters, pixels=saved, components=coefficients.components)
    return compose(stages)


def _last_jpeg(stages: Sequence[Operator]) -> int | None:
    """The position of the last JPEG with one set of parameters; None if there is none."""
    positions = []
    for position, stage in enumerate(stages):
        if isinstance(stage, JPEG) and not isinstance(stage.quality, (tuple, Range)):
            positions.append(position)
    return positions[-1] if positions else None


def _made(jpeg: JPEG, coefficients: JPEGCoefficients, decoded: Tensor) -> bool:
    """Whether a JPEG has the tables and the sampling of coefficients."""
    is_colour = len(coefficients.components) > 1
    if is_colour and coefficients.subsampling != jpeg.subsampling:
        return False
    if is_colour and coefficients.colour != jpeg.colour:
        return False
    steps = jpeg.steps(decoded)
    steps_of_file = steps_of_components(coefficients.tables, decoded.shape[1])
    return torch.equal(steps, steps_of_file.to(steps))


def _leads_to(stages: Sequence[Operator], decoded: Tensor, pixels: Tensor) -> bool:
    """Whether certain stages, such as a turn, make the observation of a decoded file."""
    after = decoded
    if stages:
        following = compose(stages)
        if not certain(following):
            return False
        try:
            after = following(decoded)
        except ValueError:  # a mask or a window that the file's image does not have
            return False
    return torch.equal(after, pixels.to(after))
