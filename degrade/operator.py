"""The operator: what happened to an image, as an immutable value that is applied, composed, printed.

An operator's values are exact and its gradient is a declared surrogate. Chains are flat, so `>>`
is associative; a single operator is a chain of one stage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .kinds import Kind
from .params import check_count, nested
from .rng import Generators, Rng
from .transforms import values_are_readable
from .values import Range, format_value

Shape = tuple[int, ...]
Window = tuple[slice, slice]  # rows and columns


class Operator:
    """Base of all operators. A subclass is decorated with `register` and defines `forward`.

    Images are float [B, C, H, W] in [0, 1]. float32 and float64 are kept; float16 and bfloat16 are
    computed in float32 and cast back. The input is never changed.
    """

    name: ClassVar[str]
    exact: ClassVar[str]  # what its values equal, in a few words
    gradient: ClassVar[str]  # what autograd is told, in a few words
    linear: bool = False  # f(x) is linear in x, and so has an adjoint
    local: bool = (
        False  # nothing is carried from pixel to pixel; where place matters, `cut` says how
    )

    # `register` sets these from the declarations of the fields
    kinds: ClassVar[Mapping[str, Kind]] = {}  # what each parameter may hold
    positional: ClassVar[tuple[str, ...]] = ()  # the required parameters
    files: ClassVar[tuple[str, ...]] = ()  # parameters that may name a file
    holds: ClassVar[str | None] = None  # the field with the operators it is made of, if any

    def __post_init__(self) -> None:
        """Check every declared parameter and store its plain value.

        A subclass whose parameters depend on each other extends this, and calls it first.
        """
        for name, kind in self.kinds.items():
            object.__setattr__(self, name, kind.stored(name, getattr(self, name)))

    # What a subclass may define -----------------------------------------------------------------

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        """Exact values, surrogate gradient. x is float32 or float64, contiguous; draw only from `rng`."""
        raise NotImplementedError

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        """This operator with everything random *in the operator* fixed for images of `shape`.

        Only what this returns is ever asked to `forward`.
        """
        return self

    def approx(self) -> Operator:
        """The operator a solver may assume: unknown draws replaced by their model."""
        return self

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of f(x) for x of `shape`, without running it."""
        return tuple(shape)

    def input_shape(self, shape: Shape) -> Shape:
        """The shape of x that `adjoint` assumes for an f(x) of `shape`."""
        return tuple(shape)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        """How much of each pixel of f(x) carries information, for x of `shape`.

        `seen` is the same for x. Returns [1 or B, 1, h, w] in [0, 1], or None where all is seen.
        """
        return seen

    def reach(self, shape: Shape) -> float:
        """How far a pixel of x, of `shape`, acts beyond where `part` puts it, in pixels of x; inf if unknown."""
        return 0.0 if self.local else math.inf

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        """See `part`; asked only where `reach` is finite. Here: itself, where no pixel of f(x) is cut through."""
        cut = []
        for span, n, m in zip(window, shape[2:], self.output_shape(shape)[2:], strict=True):
            if span.start * m % n or span.stop * m % n:
                return None
            cut.append(slice(span.start * m // n, span.stop * m // n))
        return self, (cut[0], cut[1])

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """The image near x of which f makes y, for one image of each; asked only of what is `certain`.

        x is [1, C, H, W] and y [1, C, h, w], float32 or float64. An operator that does not define
        this says nothing for certain of its input: it draws, or many images far apart look the same.
        """
        return x

    @property
    def certain(self) -> bool:
        """Whether y says something for certain of x: nothing is left to draw, and `agree` is defined."""
        return type(self).agree is not Operator.agree and not self.varies

    # What every operator offers -----------------------------------------------------------------

    def __call__(self, x: Tensor, generator: Generators = None) -> Tensor:
        """Apply to x [B, C, H, W]. `generator`: a torch.Generator, a list of B, or None for torch's own.

        With a list, row i is what x[i:i+1] gives with entry i. Raises TypeError for what is no tensor,
        ValueError for a wrong rank or dtype, NaN or infinity; an error inside a chain names the stage.
        """
        check_image(x)
        rng = Rng.of(generator, len(x))
        y = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        y = y.contiguous()  # sums in one order: a memory layout changes no bit
        with torch.autocast(x.device.type, enabled=False):
            y = self._drawn(x.shape, rng)._run(y, rng)
        return y.to(x.dtype)

    def sample(self, shape: Shape, generator: Generators = None) -> Operator:
        """Draw whatever is random in the operator for images of `shape` [B, C, H, W].

        f.sample(x.shape, g)(x, g') with equal generators g, g' is f(x, g).
        """
        return self._drawn(tuple(shape), Rng.of(generator, shape[0]))

    def adjoint(self, y: Tensor, shape: Shape | None = None) -> Tensor:
        """fᵀ y for a linear operator: ⟨f x, y⟩ = ⟨x, fᵀ y⟩. y [B, C, h, w] → `shape`.

        The gradient of a linear operator *is* its adjoint, so this is one backward pass, and what it
        gives has no gradient itself. Raises ValueError where f is not linear, or leads to no y.
        """
        if not self.linear:
            raise ValueError(f"{self} has no adjoint: it is not linear, or not yet sampled")
        check_image(y, "y")
        shape = tuple(shape or self.input_shape(y.shape))
        if tuple(self.output_shape(shape)) != tuple(y.shape):
            raise ValueError(
                f"y is {list(y.shape)}, but {self} turns {list(shape)} into {list(self.output_shape(shape))}"
            )
        with torch.enable_grad():
            x = y.new_zeros(shape, requires_grad=True)
            return torch.autograd.grad(self(x), x, y)[0]

    @torch.no_grad()
    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """An image near x that agrees with what the observation y says for certain: f(x') is y, as near as can be.

        x [B, C, H, W] → the same shape and dtype; y [B, C, h, w], both in [0, 1]. Each operator says
        how exactly and what "near" is. Where anything of f is drawn or unknown (noise, dead pixels,
        an undecided filter), or a stage has no `agree` (a blur), nothing is certain, and x comes back as
        it was; so does an x of which f makes y already. Each image depends on nothing but its own row;
        there is no gradient. Raises ValueError where f does not lead from images like x to the shape of
        y, and for NaN or infinity. Source: projections onto convex sets (Youla & Webb 1982), here one
        for each stage.
        """
        check_image(x)
        check_image(y, "y")
        expected = self.output_shape(x.shape)
        if tuple(y.shape) != tuple(expected):
            raise ValueError(
                f"y is {list(y.shape)}, but {self} turns {list(x.shape)} into {list(expected)}"
            )
        wide = (x if x.dtype == torch.float64 else x.float()).contiguous()
        pairs = zip(wide.split(1), y.to(wide).contiguous().split(1), strict=True)
        with torch.autocast(x.device.type, enabled=False):
            rows = [(self.row(i, len(x)), *pair) for i, pair in enumerate(pairs)]
            near = torch.cat([f._agreed(own, seen) if f.certain else own for f, own, seen in rows])
        return near.to(x.dtype)

    def part(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        """(g, w): g does to this window of an x of `shape` what f does there to x, and w is that part of f(x).

        window: rows and columns, slices with start and stop within the image. Exact but for
        `f.reach(shape)` pixels of x along borders of the window that are not the image's. None where
        there is no such g: f looks at the whole image, or the window cuts through a pixel or block of
        it. Raises ValueError where what decides shapes or masks is not sampled yet.
        """
        for span, n in zip(window, shape[2:], strict=True):
            ends = span.start, span.stop
            if span.step is not None or None in ends or not 0 <= span.start < span.stop <= n:
                raise ValueError(
                    f"window={span} must be from a first to a last of {n} pixels, with both ends said"
                )
        if all(
            (span.start, span.stop) == (0, n) for span, n in zip(window, shape[2:], strict=True)
        ):
            height, width = self.output_shape(shape)[2:]
            return self, (slice(0, height), slice(0, width))
        return None if math.isinf(self.reach(shape)) else self.cut(shape, window)

    def __rshift__(self, other: Operator) -> Operator:
        return (
            compose([*self.stages, *other.stages])
            if isinstance(other, Operator)
            else NotImplemented
        )

    @property
    def stages(self) -> tuple[Operator, ...]:
        return (self,)

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index: int | slice) -> Operator:
        chosen = self.stages[index]
        return compose(chosen) if isinstance(index, slice) else chosen

    @property
    def nested(self) -> tuple[Operator, ...]:
        """The operators it is made of; they come last in its class's arguments."""
        value = getattr(self, self.holds) if self.holds else ()
        return value if isinstance(value, tuple) else (value,)

    def with_nested(self, change: Callable[[Operator], Operator]) -> Operator:
        """This operator with `change` applied to those it is made of."""
        if not self.holds:
            return self
        plain = [value for _, value, _ in self.arguments()]
        return type(self)(*plain, *map(change, self.nested))

    def arguments(self) -> list[tuple[str, object, bool]]:
        """(name, value, positional) of the parameters worth writing: no defaults, in order."""
        if not is_dataclass(self):
            raise TypeError(
                f"{type(self).__name__} has no name yet; decorate it with @degrade.register('name')"
            )
        kept = [
            (f.name, getattr(self, f.name), f.default) for f in fields(self) if f.name != self.holds
        ]
        first = len(self.positional)
        return [
            (n, v, i < first) for i, (n, v, default) in enumerate(kept) if i < first or v != default
        ]

    def __str__(self) -> str:
        parts = [
            format_value(v) if positional else f"{n}={format_value(v)}"
            for n, v, positional in self.arguments()
        ]
        inner = f"({' ; '.join(map(str, self.nested))})" if self.nested else ""
        return self.name + (":" if parts else "") + ",".join(parts) + inner

    def __repr__(self) -> str:
        parts = [f"{v!r}" if positional else f"{n}={v!r}" for n, v, positional in self.arguments()]
        return f"{type(self).__name__}({', '.join([*parts, *map(repr, self.nested)])})"

    @property
    def varies(self) -> bool:
        """Whether each image of a batch may get another operator (not just other draws)."""
        return any(isinstance(value, Range) for _, value, _ in self.arguments())

    def row(self, index: int, batch: int) -> Operator:
        """What image `index` of a batch gets, as an operator for that image alone."""
        own = {}
        for name, value, _ in self.arguments():
            if isinstance(value, tuple) and self.kinds[name].per_image:
                check_count(name, value, batch)
                own[name] = value[index]
        return (replace(self, **own) if own else self).with_nested(lambda f: f.row(index, batch))

    def _agreed(self, x: Tensor, y: Tensor) -> Tensor:
        return x if torch.equal(self(x), y) else self.agree(x, y)

    def _run(self, x: Tensor, rng: Rng) -> Tensor:
        return self._fold(x, lambda stage, x, key: stage.forward(x, rng.child(key)))

    def _drawn(self, shape: Shape, rng: Rng) -> Operator:
        stages = self.stages
        if any(stage.varies for stage in stages):
            rows = [self.row(i, shape[0]) for i in range(shape[0])]
            if len(rows) > 1:
                return PerImage(
                    *(f._drawn((1, *shape[1:]), rng.row(i)) for i, f in enumerate(rows))
                )
            stages = rows[0].stages
        concrete: list[Operator] = []

        def step(stage: Operator, shape: Shape, key: str) -> Shape:
            stream = rng.child(f"draw/{key}")
            ranges = {n: v for n, v, _ in stage.arguments() if isinstance(v, Range)}
            if ranges:
                values = {n: stage.kinds[n].draw(v, stream.child(n)) for n, v in ranges.items()}
                stage = replace(stage, **values)
            drawn = stage.draw(shape, stream)
            concrete.extend(drawn)
            return drawn.output_shape(shape)

        compose(stages)._fold(shape, step)
        return compose(concrete)

    def _fold(self, value, step: Callable):
        """step(stage, value, key) along the stages; an error names the stage it came from."""
        seen: Counter[str] = Counter()
        for index, stage in enumerate(self.stages):
            try:
                value = step(stage, value, f"{stage.name}/{seen[stage.name]}")
            except ValueError as error:
                place = f"stage {index + 1}, " if len(self) > 1 else ""
                raise ValueError(f"{place}{stage}: {error}") from error
            seen[stage.name] += 1
        return value


@dataclass(frozen=True, repr=False)
class Chain(Operator):
    """Stages applied one after another. Made by `>>`; never nested."""

    _stages: tuple[Operator, ...]
    name: ClassVar[str] = "chain"

    @property
    def stages(self) -> tuple[Operator, ...]:
        return self._stages

    @property
    def linear(self) -> bool:
        return all(stage.linear for stage in self)

    def row(self, index: int, batch: int) -> Operator:
        return compose([part for stage in self for part in stage.row(index, batch)])

    def approx(self) -> Operator:
        return compose([part for stage in self for part in stage.approx()])

    def output_shape(self, shape: Shape) -> Shape:
        return self._fold(tuple(shape), lambda stage, shape, _: stage.output_shape(shape))

    def input_shape(self, shape: Shape) -> Shape:
        for stage in reversed(self.stages):
            shape = stage.input_shape(shape)
        return tuple(shape)

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        def step(stage: Operator, state: tuple, _: str) -> tuple:
            shape, seen = state
            return stage.output_shape(shape), stage.visible(shape, seen)

        return self._fold((tuple(shape), seen), step)[1]

    def reach(self, shape: Shape) -> float:
        total, scale = 0.0, 1.0
        for stage in self:
            total += stage.reach(shape) * scale
            before, shape = shape, stage.output_shape(shape)
            if not (
                stage.local and sorted(before[2:]) == sorted(shape[2:])
            ):  # a turn swaps the sides
                scale *= max(n / m for n, m in zip(before[2:], shape[2:], strict=True))
        return total

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        cut: list[Operator] = []
        for stage in self:
            found = stage.cut(shape, window)
            if found is None:
                return None
            cut.extend(found[0])
            shape, window = stage.output_shape(shape), found[1]
        return compose(cut), window

    @property
    def certain(self) -> bool:
        return all(
            stage.certain for stage in self
        )  # one that is not takes all differences on itself

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        """Backwards: what the last stage says of its input is what the stages before it are held to."""
        states = [x]
        for stage in self.stages[:-1]:
            states.append(stage(states[-1]))
        for stage, state in zip(reversed(self.stages), reversed(states), strict=True):
            y = stage.agree(state, y)
        return y

    def __str__(self) -> str:
        return " >> ".join(map(str, self))

    def __repr__(self) -> str:
        return " >> ".join(map(repr, self))


def compose(stages: Iterable[Operator]) -> Operator:
    """The operator that applies `stages` in order; a single stage is itself."""
    stages = tuple(stages)
    if not stages:
        raise ValueError("an operator needs at least one stage")
    return stages[0] if len(stages) == 1 else Chain(stages)


class PerImage(Operator):
    """A chain of its own for every image of a batch, as `sample` draws them.

    Within a chain it is taken apart: what is applied is one chain for each image.
    """

    operators: tuple[Operator, ...] = nested(several=True)
    varies = True

    def __init__(self, *operators: Operator):
        object.__setattr__(self, "operators", operators)
        self.__post_init__()

    @property
    def linear(self) -> bool:
        return all(f.linear for f in self.operators)

    def row(self, index: int, batch: int) -> Operator:
        return self._for((batch,))[index]

    def _run(self, x: Tensor, rng: Rng) -> Tensor:
        self.output_shape(x.shape)  # refuses rows of different sizes
        return torch.cat(
            [f._run(x[i : i + 1], rng.row(i)) for i, f in enumerate(self._for(x.shape))]
        )

    def approx(self) -> Operator:
        return self.with_nested(lambda f: f.approx())

    def output_shape(self, shape: Shape) -> Shape:
        shapes = {f.output_shape((1, *shape[1:])) for f in self._for(shape)}
        if len(shapes) > 1:
            raise ValueError(
                f"the images of a batch would get different sizes: {sorted(shapes)}; take them one by one"
            )
        return (shape[0], *shapes.pop()[1:])

    def input_shape(self, shape: Shape) -> Shape:
        return (shape[0], *self.operators[0].input_shape((1, *shape[1:]))[1:])

    def visible(self, shape: Shape, seen: Tensor | None = None) -> Tensor | None:
        rows = [None if seen is None else seen[i % len(seen)][None] for i in range(shape[0])]
        each = [
            f.visible((1, *shape[1:]), row) for f, row in zip(self._for(shape), rows, strict=True)
        ]
        if all(row is None for row in each):
            return None
        size = self.output_shape(shape)
        return torch.cat([torch.ones(1, 1, *size[2:]) if row is None else row for row in each])

    def _for(self, shape: Shape) -> tuple[Operator, ...]:
        if shape[0] != len(self.operators):
            raise ValueError(
                f"{len(self.operators)} operators for {shape[0]} images; sample again for this batch"
            )
        return self.operators


def check_image(x: Tensor, name: str = "x") -> None:
    """Raise TypeError or ValueError unless x is a finite float tensor [B, C, H, W]."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}; give a float tensor [B, C, H, W] in [0, 1]"
        )
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} has shape {list(x.shape)}; give [B, C, H, W] with no empty side")
    if not x.is_floating_point():
        raise ValueError(f"{name} is {x.dtype}; give floats in [0, 1], such as {name} / 255")
    if not values_are_readable(x):
        return
    if not all(map(math.isfinite, torch.stack(x.aminmax()).tolist())):
        raise ValueError(
            f"{name} holds NaN or infinity; replace them, for example with torch.nan_to_num"
        )
