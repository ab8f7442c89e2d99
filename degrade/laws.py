"""The laws that every operator obeys; `check` tests them on an operator of your own.

No law knows whether the values are right. Compare those with an independent implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .images import WrongOutput
from .operator import Operator
from .spec import parse

_ROUNDING = 1e-6  # largest relative difference that counts as rounding, in float64
_HALF_LEVEL = 0.5 / 255  # by how much a projection may fit the observation worse than its input
_PART_TOLERANCE = 1e-4  # largest difference between a part and the whole


def check(operator: Operator, shape: Sequence[int] = (2, 3, 48, 40), seed: int = 0) -> None:
    """Test the laws of operators on random images of `shape` [B, C, H, W], with B of at least 2.

    * Text: `parse` reads the operator back from its text, unless it holds a file or a tensor.
    * Output: the shape is that of `output_shape`. The input is neither changed nor shared.
    * Draws: they come from the given generator only. Equal generators give equal values.
    * Batch: an image gets the same values in a batch as alone.
    * `sample` fixes what is random in the operator and changes no values.
    * `approx` keeps the shape and is idempotent. `visible` has values in [0, 1].
    * A linear operator is linear, and ⟨f x, y⟩ = ⟨x, fᵀ y⟩. Any other has a finite gradient.
    * `part`: the operator for the lower right of an image gives the same values as the whole,
      except within `reach` pixels of the cuts. Operators that draw are not tested.
    * `project` fits the observation at least as well as its input, within half a level of 255.

    Raises AssertionError that names the operator and the broken law, and ValueError for another
    shape. Errors of the operator itself are not caught.

    >>> import degrade
    >>> degrade.check(degrade.parse("downsample:2 >> poisson:48 >> jpeg:18"))
    """
    if len(shape) != 4 or min(shape) < 1 or shape[0] < 2:
        raise ValueError(f"shape={tuple(shape)} must be (B, C, H, W) with at least two images")
    try:
        _check_laws(operator, tuple(shape), seed)
    except WrongOutput as error:
        raise AssertionError(str(error)) from error


def _check_laws(operator: Operator, shape: tuple[int, ...], seed: int) -> None:
    x = torch.rand(*shape, generator=_generator(seed), dtype=torch.float64)
    single = x.float()
    for law in (_text, _output, _draws, _rows, _sampling, _approx, _visible):
        law(operator, single, seed)
    sampled = operator.sample(x.shape, _generator(seed))
    if sampled.linear:
        _adjoint(sampled, x, seed)
    else:
        _gradient(sampled, x, seed)
    _part(sampled, single, seed)
    _projection(sampled, single, seed)


def _text(f: Operator, x: Tensor, seed: int) -> None:
    if _has_files_or_tensors(f):
        return
    try:
        parsed = parse(str(f))
    except ValueError as error:
        raise AssertionError(f"{f} cannot be read back from its text: {error}") from error
    _require(parsed == f, f, "reads back from its text as another operator")


def _has_files_or_tensors(f: Operator) -> bool:
    for stage in f:
        for name in stage.files:
            if getattr(stage, name) is not None:
                return True
        if any(map(_has_files_or_tensors, stage.nested)):
            return True
    return False


def _output(f: Operator, x: Tensor, seed: int) -> None:
    sampled = f.sample(x.shape, _generator(seed))
    declared = list(sampled.output_shape(x.shape))
    for image in (x, x.double()):
        before = image.clone()
        y = f(image, _generator(seed))
        shape = list(y.shape)
        _require(shape == declared, f, f"gives {shape}, and its output_shape says {declared}")
        _require(torch.equal(image, before), f, "changes its input")
        _require(
            _address(y) != _address(image),
            f,
            "gives a view of its input; changing one would change the other, so clone it",
        )


def _address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _draws(f: Operator, x: Tensor, seed: int) -> None:
    state = torch.get_rng_state()
    first = f(x, _generator(seed))
    second = f(x, _generator(seed))
    repeats = torch.equal(first, second)
    _require(repeats, f, "gives other values for an equal generator; draw from `rng` alone")
    untouched = torch.equal(torch.get_rng_state(), state)
    _require(untouched, f, "draws from torch's own generator; draw from `rng` alone")


def _rows(f: Operator, x: Tensor, seed: int) -> None:
    batch = len(x)
    y = f(x, [_generator(seed + i) for i in range(batch)])
    for i in range(batch):
        row_operator = f.row(i, batch)
        alone = row_operator(x[i : i + 1], _generator(seed + i))
        _require(
            torch.equal(y[i : i + 1], alone),
            f,
            f"gives image {i} other values beside other images than alone",
        )


def _sampling(f: Operator, x: Tensor, seed: int) -> None:
    sampled = f.sample(x.shape, _generator(seed))
    applied = f(x, _generator(seed))
    _require(
        torch.equal(sampled(x, _generator(seed)), applied),
        f,
        "sampled gives other values than applied; decide in `draw`, or draw in `forward`, not both",
    )
    sampled_again = sampled.sample(x.shape, _generator(seed + 1))
    _require(sampled_again == sampled, f, "can be sampled twice; `draw` leaves something undecided")


def _approx(f: Operator, x: Tensor, seed: int) -> None:
    model = f.approx()
    shape = _sampled_shape(f, x, seed)
    model_shape = _sampled_shape(model, x, seed)
    _require(shape == model_shape, f, f"gives {shape}, and its approx() {model_shape}")
    _require(model.approx() == model, f, "has an approx() that has another approx()")


def _sampled_shape(f: Operator, x: Tensor, seed: int) -> list[int]:
    return list(f.sample(x.shape, _generator(seed)).output_shape(x.shape))


def _visible(f: Operator, x: Tensor, seed: int) -> None:
    sampled = f.sample(x.shape, _generator(seed))
    batch, _, height, width = sampled.output_shape(x.shape)
    everything = torch.ones(1, 1, *x.shape[2:])
    for visible_input in (None, everything):
        mask = sampled.visible(x.shape, visible_input)
        if mask is None:
            continue
        shape = list(mask.shape)
        _require(
            shape in ([1, 1, height, width], [batch, 1, height, width]),
            f,
            f"has visible {shape}; it must be [1 or {batch}, 1, {height}, {width}]",
        )
        inside = (mask >= 0) & (mask <= 1 + _ROUNDING)
        _require(bool(inside.all()), f, "has values of visible outside [0, 1]")


def _adjoint(f: Operator, x: Tensor, seed: int) -> None:
    z = torch.rand(x.shape, generator=_generator(seed + 1), dtype=x.dtype)
    fx = f(x)
    combined = f(0.5 * x - 0.25 * z)
    expected = 0.5 * fx - 0.25 * f(z)
    difference = (combined - expected).norm()
    linear = difference <= _ROUNDING * (combined.norm() + expected.norm())
    _require(bool(linear), f, "says that it is linear, and is not")
    y = torch.randn(fx.shape, generator=_generator(seed + 2), dtype=x.dtype)
    forth = (fx * y).sum()
    back = (x * f.adjoint(y, x.shape)).sum()
    equal = (forth - back).abs() <= _ROUNDING * fx.norm() * y.norm()
    _require(
        bool(equal),
        f,
        f"has no adjoint in its gradient: ⟨f x, y⟩ = {forth:.6g} and ⟨x, fᵀ y⟩ = {back:.6g}",
    )


def _gradient(f: Operator, x: Tensor, seed: int) -> None:
    x = x.clone().requires_grad_()
    y = f(x, _generator(seed))
    _require(y.requires_grad, f, "has no gradient; declare one with degrade.surrogate.declare")
    (gradient,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
    _require(gradient is not None, f, "has a gradient that does not reach its input")
    finite = torch.isfinite(gradient).all()
    _require(bool(finite), f, "has a gradient with NaN or infinity")


def _part(f: Operator, x: Tensor, seed: int) -> None:
    height, width = x.shape[2:]
    rows = slice(_middle(height), height)
    columns = slice(_middle(width), width)
    whole = f(x, _generator(seed))
    part = f.part(x.shape, (rows, columns))
    draws = not torch.equal(whole, f(x, _generator(seed + 1)))
    if part is None or draws:
        return
    part_operator, place = part
    result = part_operator(x[..., rows, columns])
    expected = whole[(..., *place)]
    shape, expected_shape = list(result.shape), list(expected.shape)
    _require(
        shape == expected_shape, f, f"has a part of {shape}, and says that it is {expected_shape}"
    )
    scale = max(whole.shape[2:]) / min(x.shape[2:])
    reach = math.ceil(f.reach(x.shape) * scale)  # in pixels of f(x)
    inner_rows = _away_from_cuts(place[0], whole.shape[2], reach)
    inner_columns = _away_from_cuts(place[1], whole.shape[3], reach)
    difference = (result - expected)[..., inner_rows, inner_columns]
    _require(
        bool((difference.abs() <= _PART_TOLERANCE).all()),
        f,
        "does another thing to a part than to the whole; check `local`, `reach` and `cut`",
    )


def _middle(n: int) -> int:
    """Half of n pixels, at a whole block of 16 if there is one."""
    return n // 2 // 16 * 16 or n // 2


def _away_from_cuts(span: slice, n: int, reach: int) -> slice:
    """The pixels of a part that lie more than `reach` from its cuts, counted within the part.

    span: where the part lies among the n pixels of the whole.
    """
    size = span.stop - span.start
    first = reach if span.start > 0 else 0
    last = size - reach if span.stop < n else size
    return slice(first, last)


def _projection(f: Operator, x: Tensor, seed: int) -> None:
    observation = f(x, _generator(seed))
    start = 0.9 * x.flip(3) + 0.05
    projected = f.project(start, observation)
    shape, expected_shape = list(projected.shape), list(x.shape)
    _require(shape == expected_shape, f, f"projects {expected_shape} to {shape}")
    for i in range(len(x)):
        row_operator = f.row(i, len(x))
        if not row_operator.certain:
            continue
        row = slice(i, i + 1)
        before = _distance(row_operator(start[row]), observation[row])
        after = _distance(row_operator(projected[row]), observation[row])
        _require(
            after <= before + _HALF_LEVEL,
            f,
            f"projects away from y: {before:.4f} off, then {after:.4f}",
        )


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference."""
    return float((a - b).square().mean().sqrt())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _require(law: bool, f: Operator, broken: str) -> None:
    if not law:
        raise AssertionError(f"{f} {broken}")
