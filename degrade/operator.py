"""The base class of operators: immutable values that are applied to images and composed.

An operator's values are exact and its gradient is a declared surrogate. Chains are flat, so `>>`
is associative; a single operator is a chain of one stage. What only some operators can do is in
separate files: `linearity`, `locality`, `knowledge`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, overload

import torch
from torch import Tensor

from . import knowledge, linearity, locality, movement
from .declared import Declared
from .images import check_image, check_output, check_shape
from .params import nested
from .rng import Generators, Rng
from .stages import through_stages
from .transforms import without_autocast

if TYPE_CHECKING:
    from deepinv.physics import Physics

Shape = tuple[int, ...]
Window = tuple[slice, slice]  # rows and columns


class Operator(Declared):
    """Base of all operators. A subclass is decorated with `register` and defines `forward`.

    Images are float [B, C, H, W] in [0, 1]. float32 and float64 are kept; float16 and bfloat16 are
    computed in float32 and cast back. The input is never changed.
    """

    exact: ClassVar[str]  # what the values equal, in a few words
    gradient: ClassVar[str]  # which gradient autograd gets, in a few words

    # What a subclass may define -----------------------------------------------------------------

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        """Compute f(x): exact values with the surrogate gradient.

        x is contiguous, float32 or float64. Draw random numbers from `rng` only.
        """
        raise NotImplementedError

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        """Fix everything random *in the operator*, such as the place of a mask, for `shape`.

        `forward` is called on the returned operator only.
        """
        return self

    def approx(self) -> Operator:
        """The operator that a solver may assume: a model instead of the unknown random draws."""
        return self

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of f(x) for x of `shape`, without running it."""
        return tuple(shape)

    def input_shape(self, shape: Shape) -> Shape:
        """The shape of x that `adjoint` assumes for an f(x) of `shape`."""
        return tuple(shape)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        """Where points [N, (x, y)] of an image of `shape` lie in f(x), for a sampled operator.

        In pixels from the upper left corner; the centre of the first pixel is (0.5, 0.5). By
        default they follow a change of size. An operator that moves pixels otherwise defines it.
        """
        return movement.scaled(points, shape, self.output_shape(shape))

    # Capabilities that a subclass may declare; also `agree` (knowledge) and `cut` (locality) -----

    linear: bool = False  # f(x) is linear in x, so f has an adjoint
    local: bool = False  # each pixel of f(x) depends on x at the same position only
    noisy: bool = False  # `forward` draws anew at every call, also of a sampled operator

    def reach(self, shape: Shape) -> float:
        """How far from its position a pixel of x changes f(x), in pixels of x; inf if unknown."""
        return 0.0 if self.local else math.inf

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        """The mask of visible pixels of f(x): 1 where a pixel carries information of x, else 0.

        seen: the mask of x, [1 or B, 1, H, W] in [0, 1]; None if everything is visible. Returns
        the same for f(x).
        """
        return seen

    # What every operator offers -----------------------------------------------------------------

    def __call__(self, x: Tensor, generator: Generators = None) -> Tensor:
        """Apply to images x [B, C, H, W] in [0, 1].

        generator: a torch.Generator, an integer seed, or a list with one of them per image; None
            is torch's global generator. With a list, image i gets what f(x[i:i+1], generator[i])
            gives.

        Raises TypeError if x is no tensor, and ValueError for a wrong shape or dtype, for another
        scale than [0, 1], NaN or infinity. An error inside a chain names the stage.
        """
        check_image(x, vector=self.linear)
        return self._apply(x, generator)

    def predict(self, x: Tensor, generator: Generators = None) -> Tensor:
        """f(x) for an image of a solver, which may be in any scale while the solver searches."""
        check_image(x, scale=False)
        return self._apply(x, generator)

    def _apply(self, x: Tensor, generator: Generators) -> Tensor:
        rng = Rng.of(generator, x.shape[0])
        is_half = x.dtype in (torch.float16, torch.bfloat16)
        y = x.float() if is_half else x
        y = y.contiguous()  # so that sums have one order, whatever the memory layout
        with without_autocast(x.device):
            drawn = self._drawn(x.shape, rng)
            y = drawn._run(y, rng)
        return y.to(x.dtype)

    def sample(self, shape: Shape, generator: Generators = None) -> Operator:
        """Draw everything random in the operator for images of `shape` [B, C, H, W].

        f.sample(x.shape, g)(x, h) equals f(x, g) if the generators g and h are equal.
        """
        check_shape(shape)
        batch = shape[0]
        rng = Rng.of(generator, batch)
        return self._drawn(tuple(shape), rng)

    def __rshift__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        return compose([*self.stages, *other.stages])

    @property
    def stages(self) -> tuple[Operator, ...]:
        """The operators of the chain in order. A single operator is a chain of itself."""
        return (self,)

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    @overload
    def __getitem__(self, index: int) -> Operator: ...
    @overload
    def __getitem__(self, index: slice) -> Operator: ...
    def __getitem__(self, index: int | slice) -> Operator:
        if isinstance(index, slice):
            return compose(self.stages[index])
        return self.stages[index]

    def row(self, index: int, batch: int) -> Operator:
        """The operator for image `index` of a batch, as an operator for one image."""
        values = self.row_values(index, batch)
        row_operator = self.with_values(values)
        return row_operator.with_nested(lambda f: f.row(index, batch))

    # Shortcuts to functions of linearity, locality and knowledge --------------------------------

    @property
    def certain(self) -> bool:
        """Whether f(x) determines something of x with certainty; see `degrade.knowledge`."""
        return knowledge.certain(self)

    def adjoint(self, y: Tensor, shape: Shape | None = None) -> Tensor:
        """fᵀ y for a linear operator; see `degrade.linearity.adjoint`."""
        return linearity.adjoint(self, y, shape)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """Data consistency: an image x' near x with f(x') = y; see `degrade.knowledge.project`."""
        return knowledge.project(self, x, y)

    def part(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        """The operator for a window of an image; see `degrade.locality.part`."""
        return locality.part(self, shape, window)

    def to_deepinv(self, img_size: Sequence[int], seed: int = 0) -> Physics:
        """The operator as a physics of deepinv, which must be installed.

        The stages before the first noise are A, and the others are the noise model. If all of A is
        linear, the result is a LinearPhysics with the exact A_adjoint, and deepinv's A_dagger and
        prox_l2 work; else it is a Physics with the declared gradient as A_vjp.

        img_size: of the images, (C, H, W). seed: draws what is random in the operator.
        """
        from .adapters.deepinv import physics_of

        return physics_of(self, img_size, seed)

    # How it is applied --------------------------------------------------------------------------

    def _run(self, x: Tensor, rng: Rng) -> Tensor:
        """Apply a sampled operator."""

        def step(stage: Operator, x: Tensor, key: str) -> Tensor:
            y = stage.forward(x, rng.child(key))
            declared_shape = stage.output_shape(x.shape)
            check_output(y, x, declared_shape)
            return y

        return through_stages(self, x, step)

    def _drawn(self, shape: Shape, rng: Rng) -> Operator:
        """Draw each stage, image by image if images may get different operators."""
        if not any(stage.varies for stage in self.stages):
            return self._drawn_stages(shape, rng)
        batch, *image = shape
        if batch == 1:
            row_operator = self.row(0, 1)
            return row_operator._drawn_stages(shape, rng)
        row_shape = (1, *image)
        rows = []
        for i in range(batch):
            row_operator = self.row(i, batch)
            drawn = row_operator._drawn(row_shape, rng.row(i))
            rows.append(drawn)
        return PerImage(*rows)

    def _drawn_stages(self, shape: Shape, rng: Rng) -> Operator:
        concrete: list[Operator] = []

        def step(stage: Operator, shape: Shape, key: str) -> Shape:
            stream = rng.child(f"draw/{key}")
            values = {}
            for name, span in stage.ranges.items():
                kind = stage.kinds[name]
                stream_of_name = stream.child(name)
                values[name] = kind.draw(span, stream_of_name)
            with_numbers = stage.with_values(values)
            drawn = with_numbers.draw(shape, stream)
            concrete.extend(drawn)
            return drawn.output_shape(shape)

        through_stages(self, shape, step)
        return compose(concrete)


@dataclass(frozen=True, repr=False)
class Chain(Operator):
    """Stages applied one after another. Made by `>>`; never nested."""

    _stages: tuple[Operator, ...]
    name: ClassVar[str] = "chain"

    @property
    def stages(self) -> tuple[Operator, ...]:
        return self._stages

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return all(stage.linear for stage in self)

    @property
    def noisy(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return any(stage.noisy for stage in self)

    def row(self, index: int, batch: int) -> Operator:
        rows: list[Operator] = []
        for stage in self:
            rows.extend(stage.row(index, batch))
        return compose(rows)

    def approx(self) -> Operator:
        models: list[Operator] = []
        for stage in self:
            models.extend(stage.approx())
        return compose(models)

    def output_shape(self, shape: Shape) -> Shape:
        def step(stage: Operator, shape: Shape, key: str) -> Shape:
            return stage.output_shape(shape)

        return through_stages(self, tuple(shape), step)

    def input_shape(self, shape: Shape) -> Shape:
        for stage in reversed(self.stages):
            shape = stage.input_shape(shape)
        return tuple(shape)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        return knowledge.visible_through_chain(self, shape, seen)

    def moved(self, points: Tensor, shape: Shape) -> Tensor:
        for stage in self:
            points = stage.moved(points, shape)
            shape = stage.output_shape(shape)
        return points

    def reach(self, shape: Shape) -> float:
        return locality.reach_of_chain(self, shape)

    def __str__(self) -> str:
        return " >> ".join(map(str, self))

    def __repr__(self) -> str:
        return " >> ".join(map(repr, self))


def compose(stages: Iterable[Operator]) -> Operator:
    """The operator that applies `stages` in order. A single stage is returned as it is."""
    stages = tuple(stages)
    if not stages:
        raise ValueError("an operator needs at least one stage")
    if len(stages) == 1:
        return stages[0]
    return Chain(stages)


class PerImage(Operator):
    """A separate operator for each image of a batch, as `sample` draws them.

    PerImage(f, g) >> h is applied as one chain per image: f >> h and g >> h.
    """

    operators: tuple[Operator, ...] = nested(several=True)
    varies = True

    def __init__(self, *operators: Operator):
        object.__setattr__(self, "operators", operators)
        self.__post_init__()

    @property
    def linear(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return all(f.linear for f in self.operators)

    @property
    def noisy(self) -> bool:  # type: ignore[override]  # computed, so it cannot be set
        return any(f.noisy for f in self.operators)

    def row(self, index: int, batch: int) -> Operator:
        operators = self._for_batch(batch)
        return operators[index]

    def _run(self, x: Tensor, rng: Rng) -> Tensor:
        self.output_shape(x.shape)  # refuses rows of different sizes
        rows = []
        operators = self._for_batch(len(x))
        for i, f in enumerate(operators):
            image = x[i : i + 1]
            stream = rng.row(i)
            rows.append(f._run(image, stream))
        return torch.cat(rows)

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def output_shape(self, shape: Shape) -> Shape:
        batch, *image = shape
        row_shape = (1, *image)
        shapes = {f.output_shape(row_shape) for f in self._for_batch(batch)}
        if len(shapes) > 1:
            _, *smallest = min(shapes)
            _, *largest = max(shapes)
            raise ValueError(
                f"the images of a batch would get different sizes, {smallest} to {largest}; take "
                "them one by one, or end the chain with a resize to one size, as in resize:64"
            )
        _, *output = shapes.pop()
        return (batch, *output)

    def input_shape(self, shape: Shape) -> Shape:
        batch, *image = shape
        first = self.operators[0]
        _, *image_before = first.input_shape((1, *image))
        return (batch, *image_before)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        batch, *image = shape
        row_shape = (1, *image)
        rows: list[Tensor | None] = []
        for i, f in enumerate(self._for_batch(batch)):
            row = None
            if seen is not None:
                row = seen[i % len(seen)][None]
            mask = f.visible(row_shape, row)
            rows.append(mask)
        if all(row is None for row in rows):
            return None
        _, _, height, width = self.output_shape(shape)
        everything = torch.ones(1, 1, height, width, dtype=torch.float32, device="cpu")
        masks = [everything if row is None else row for row in rows]
        return torch.cat(masks)

    def _for_batch(self, batch: int) -> tuple[Operator, ...]:
        """The operators, if there is one for each image of the batch."""
        if batch != len(self.operators):
            raise ValueError(
                f"{len(self.operators)} operators for {batch} images; sample again for this batch"
            )
        return self.operators
