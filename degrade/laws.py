"""The laws that every operator keeps, for whoever writes one: `check` tries them.

What no law knows is whether the values are right; that takes a truth from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .images import WrongOutput
from .operator import Operator
from .spec import parse

_ROUNDING = 1e-6  # how far, relatively, two numbers may be apart that are equal but for rounding, in float64


def check(operator: Operator, shape: Sequence[int] = (2, 3, 48, 40), seed: int = 0) -> None:
    """Try an operator on random images of `shape` [B, C, H, W], B above 1. Raises AssertionError, naming the law.

    It reads back from its text, unless it holds a file or tensor; tells its output's shape; leaves its
    input alone; draws from the given generator alone, the same each time, for every image on its own;
    `sample` decides what is random and nothing else; `approx` and `visible` fit; what is linear is, and
    ⟨f x, y⟩ = ⟨x, fᵀ y⟩; anything else has a finite gradient; its `part` of the lower right, where it has
    one and draws nothing, equals the whole but for `reach` pixels along the cuts; `project` leads no
    farther from what was observed than half a level of 255. The operator's own errors pass through.

    >>> import degrade
    >>> degrade.check(degrade.parse("downsample:2 >> poisson:48 >> jpeg:18"))
    """
    if len(shape) != 4 or min(shape) < 1 or shape[0] < 2:
        raise ValueError(f"shape={tuple(shape)} must be (B, C, H, W) with at least two images")
    try:
        _try_laws(operator, tuple(shape), seed)
    except WrongOutput as error:
        raise AssertionError(str(error)) from error


def _try_laws(operator: Operator, shape: tuple[int, ...], seed: int) -> None:
    x = torch.rand(*shape, generator=_generator(seed), dtype=torch.float64)
    decided = operator.sample(x.shape, _generator(seed))
    for law in (_text, _output, _draws, _rows, _sampling, _approx, _visible):
        law(operator, x.float(), seed)
    (_adjoint if decided.linear else _gradient)(decided, x, seed)
    _part(decided, x.float(), seed)
    _projection(decided, x.float(), seed)


def _text(f: Operator, x: Tensor, seed: int) -> None:
    if _holds_files(f):
        return
    try:
        again = parse(str(f))
    except ValueError as error:
        raise AssertionError(f"{f} cannot be read back from its text: {error}") from error
    _holds(again == f, f, "reads back from its text as another operator")


def _holds_files(f: Operator) -> bool:
    """Or tensors, which have no text."""
    return any(
        any(getattr(stage, name) is not None for name in stage.files)
        or any(map(_holds_files, stage.nested))
        for stage in f
    )


def _output(f: Operator, x: Tensor, seed: int) -> None:
    told = tuple(f.sample(x.shape, _generator(seed)).output_shape(x.shape))
    for image in (x, x.double()):
        before = image.clone()
        y = f(image, _generator(seed))
        _holds(
            tuple(y.shape) == told,
            f,
            f"gives {list(y.shape)}, and its output_shape says {list(told)}",
        )
        _holds(torch.equal(image, before), f, "changes its input")
        shared = y.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
        _holds(
            not shared,
            f,
            "gives a view of its input; changing one would change the other, so clone it",
        )


def _draws(f: Operator, x: Tensor, seed: int) -> None:
    state = torch.get_rng_state()
    y, again = f(x, _generator(seed)), f(x, _generator(seed))
    _holds(
        torch.equal(y, again), f, "gives other values for an equal generator; draw from `rng` alone"
    )
    _holds(
        torch.equal(torch.get_rng_state(), state),
        f,
        "draws from torch's own generator; draw from `rng` alone",
    )


def _rows(f: Operator, x: Tensor, seed: int) -> None:
    together = f(x, [_generator(seed + i) for i in range(len(x))])
    for i, own in enumerate(together.split(1)):
        alone = f.row(i, len(x))(x[i : i + 1], _generator(seed + i))
        _holds(
            torch.equal(own, alone),
            f,
            f"gives image {i} other values beside other images than alone",
        )


def _sampling(f: Operator, x: Tensor, seed: int) -> None:
    g = f.sample(x.shape, _generator(seed))
    same = torch.equal(g(x, _generator(seed)), f(x, _generator(seed)))
    _holds(
        same,
        f,
        "sampled gives other values than applied; decide in `draw`, or draw in `forward`, not both",
    )
    _holds(
        g.sample(x.shape, _generator(seed + 1)) == g,
        f,
        "can be sampled twice; `draw` leaves something undecided",
    )


def _approx(f: Operator, x: Tensor, seed: int) -> None:
    g, guess = (h.sample(x.shape, _generator(seed)) for h in (f, f.approx()))
    shapes = list(g.output_shape(x.shape)), list(guess.output_shape(x.shape))
    _holds(shapes[0] == shapes[1], f, f"gives {shapes[0]}, and its approx() {shapes[1]}")
    _holds(f.approx().approx() == f.approx(), f, "has an approx() that has another approx()")


def _visible(f: Operator, x: Tensor, seed: int) -> None:
    g = f.sample(x.shape, _generator(seed))
    for seen in (None, torch.ones(1, 1, *x.shape[2:])):
        shown = g.visible(x.shape, seen)
        if shown is not None:
            batch, _, *size = g.output_shape(x.shape)
            fits = shown.shape[0] in (1, batch) and list(shown.shape[1:]) == [1, *size]
            _holds(
                fits,
                f,
                f"has visible {list(shown.shape)}; it must be [1 or {batch}, 1, {size[0]}, {size[1]}]",
            )
            _holds(
                bool(((shown >= 0) & (shown <= 1 + _ROUNDING)).all()),
                f,
                "has values of visible outside [0, 1]",
            )


def _adjoint(f: Operator, x: Tensor, seed: int) -> None:
    z = torch.rand(x.shape, generator=_generator(seed + 1), dtype=x.dtype)
    fx, fz = f(x), f(z)
    _holds(
        _near(f(0.5 * x - 0.25 * z), 0.5 * fx - 0.25 * fz), f, "says that it is linear, and is not"
    )
    y = torch.randn(fx.shape, generator=_generator(seed + 2), dtype=x.dtype)
    forth, back = (fx * y).sum(), (x * f.adjoint(y, x.shape)).sum()
    close = (forth - back).abs() <= _ROUNDING * fx.norm() * y.norm()
    _holds(
        bool(close),
        f,
        f"has no adjoint in its gradient: ⟨f x, y⟩ = {forth:.6g} and ⟨x, fᵀ y⟩ = {back:.6g}",
    )


def _gradient(f: Operator, x: Tensor, seed: int) -> None:
    x = x.clone().requires_grad_()
    y = f(x, _generator(seed))
    _holds(y.requires_grad, f, "has no gradient; declare one with degrade.surrogate.declare")
    (gradient,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
    _holds(gradient is not None, f, "has a gradient that does not reach its input")
    _holds(bool(torch.isfinite(gradient).all()), f, "has a gradient with NaN or infinity")


def _part(f: Operator, x: Tensor, seed: int) -> None:
    """Of the lower right, cut at whole blocks if possible; an operator that draws is left out."""
    height, width = x.shape[2:]
    window = (slice(_middle(height), height), slice(_middle(width), width))
    whole, part = f(x, _generator(seed)), f.part(x.shape, window)
    draws = not torch.equal(whole, f(x, _generator(seed + 1)))
    if part is None or draws:
        return
    part_operator, place = part
    result = part_operator(x[(..., *window)])
    expected = whole[(..., *place)]
    _holds(
        result.shape == expected.shape,
        f,
        f"has a part of {list(result.shape)}, and says that it is {list(expected.shape)}",
    )
    scale = max(whole.shape[2:]) / min(x.shape[2:])
    reach = math.ceil(f.reach(x.shape) * scale)  # in pixels of f(x)
    inner = []
    for span, n, size in zip(place, whole.shape[2:], result.shape[2:], strict=True):
        first = reach if span.start > 0 else 0
        last = size - reach if span.stop < n else size
        inner.append(slice(first, last))
    rows, columns = inner
    difference = result[..., rows, columns] - expected[..., rows, columns]
    _holds(
        bool((difference.abs() <= 1e-4).all()),
        f,
        "does another thing to a part than to the whole; check `local`, `reach` and `cut`",
    )


def _middle(n: int) -> int:
    """Half of n pixels, at a whole block of 16 if there is one."""
    return n // 2 // 16 * 16 or n // 2


def _projection(f: Operator, x: Tensor, seed: int) -> None:
    y, other = f(x, _generator(seed)), 0.9 * x.flip(3) + 0.05
    near = f.project(other, y)
    _holds(near.shape == x.shape, f, f"projects {list(x.shape)} to {list(near.shape)}")
    for i in range(len(x)):
        row, own, before = f.row(i, len(x)), near[i : i + 1], other[i : i + 1]
        if row.certain:
            seen = y[i : i + 1]
            after, first = (
                float((row(image) - seen).square().mean().sqrt()) for image in (own, before)
            )
            _holds(
                after <= first + 0.5 / 255,
                f,
                f"projects away from y: {first:.4f} off, then {after:.4f}",
            )


def _near(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= _ROUNDING * (a.norm() + b.norm()))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _holds(law: bool, f: Operator, broken: str) -> None:
    if not law:
        raise AssertionError(f"{f} {broken}")
