"""The laws that every operator obeys; `check` tests them on an operator of your own.

No law knows whether the values are right. Compare those with an independent implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType

import torch
from torch import Tensor

from .images import WrongOutput
from .operator import Operator, Window, compose
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
    * `sample` fixes what is random in the operator and changes no values. What it returns draws at
      a call only if it is `noisy`.
    * `approx` keeps the shape and is idempotent. `visible` has values in [0, 1].
    * A linear operator is linear, and ⟨f x, y⟩ = ⟨x, fᵀ y⟩. Any other has a finite gradient.
    * A tensor that requires grad, as a parameter that is declared learnable, gets a finite gradient
      and changes no values.
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
    generator = _generator(seed)
    x = torch.rand(*shape, generator=generator, dtype=torch.float64)
    single = x.float()
    for law in (_text, _output, _draws, _rows, _sampling, _noise, _approx, _visible):
        law(operator, single, seed)
    sampled = _sampled(operator, x, seed)
    if sampled.linear:
        _adjoint(sampled, x, seed)
    else:
        _gradient(sampled, x, seed)
    _parameters(sampled, x, seed)
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
        held = [getattr(stage, name) for name in stage.files]
        if any(value is not None for value in held):
            return True
        if any(map(_has_files_or_tensors, stage.nested)):
            return True
    return False


def _output(f: Operator, x: Tensor, seed: int) -> None:
    sampled = _sampled(f, x, seed)
    declared = list(sampled.output_shape(x.shape))
    for image in (x, x.double()):
        before = image.clone()
        y = _applied(f, image, seed)
        shape = list(y.shape)
        _require(shape == declared, f, f"gives {shape}, and its output_shape says {declared}")
        unchanged = torch.equal(image, before)
        _require(unchanged, f, "changes its input")
        is_copy = _address(y) != _address(image)
        _require(
            is_copy,
            f,
            "gives a view of its input; changing one would change the other, so clone it",
        )


def _address(x: Tensor) -> int:
    storage = x.untyped_storage()
    return storage.data_ptr()


def _draws(f: Operator, x: Tensor, seed: int) -> None:
    state = torch.get_rng_state()
    first = _applied(f, x, seed)
    second = _applied(f, x, seed)
    repeats = torch.equal(first, second)
    _require(repeats, f, "gives other values for an equal generator; draw from `rng` alone")
    state_after = torch.get_rng_state()
    untouched = torch.equal(state_after, state)
    _require(untouched, f, "draws from torch's own generator; draw from `rng` alone")


def _rows(f: Operator, x: Tensor, seed: int) -> None:
    batch = len(x)
    generators = [_generator(seed + i) for i in range(batch)]
    y = f(x, generators)
    for i in range(batch):
        row = slice(i, i + 1)
        row_operator = f.row(i, batch)
        alone = _applied(row_operator, x[row], seed + i)
        equal = torch.equal(y[row], alone)
        _require(equal, f, f"gives image {i} other values beside other images than alone")


def _sampling(f: Operator, x: Tensor, seed: int) -> None:
    sampled = _sampled(f, x, seed)
    applied = _applied(f, x, seed)
    of_sampled = _applied(sampled, x, seed)
    equal = torch.equal(of_sampled, applied)
    _require(
        equal,
        f,
        "sampled gives other values than applied; decide in `draw`, or draw in `forward`, not both",
    )
    sampled_again = _sampled(sampled, x, seed + 1)
    _require(sampled_again == sampled, f, "can be sampled twice; `draw` leaves something undecided")


def _noise(f: Operator, x: Tensor, seed: int) -> None:
    sampled = _sampled(f, x, seed)
    if sampled.noisy:
        return
    first = _applied(sampled, x, seed)
    second = _applied(sampled, x, seed + 1)
    repeats = torch.equal(first, second)
    _require(repeats, f, "draws at every call; set noisy = True, or draw in `draw`")


def _approx(f: Operator, x: Tensor, seed: int) -> None:
    model = f.approx()
    shape = _sampled_shape(f, x, seed)
    model_shape = _sampled_shape(model, x, seed)
    _require(shape == model_shape, f, f"gives {shape}, and its approx() {model_shape}")
    _require(model.approx() == model, f, "has an approx() that has another approx()")


def _sampled_shape(f: Operator, x: Tensor, seed: int) -> list[int]:
    sampled = _sampled(f, x, seed)
    shape = sampled.output_shape(x.shape)
    return list(shape)


def _visible(f: Operator, x: Tensor, seed: int) -> None:
    sampled = _sampled(f, x, seed)
    batch, _, height, width = sampled.output_shape(x.shape)
    allowed = ([1, 1, height, width], [batch, 1, height, width])
    everything = torch.ones(1, 1, *x.shape[2:])
    for visible_input in (None, everything):
        mask = sampled.visible(x.shape, visible_input)
        if mask is None:
            continue
        shape = list(mask.shape)
        _require(
            shape in allowed,
            f,
            f"has visible {shape}; it must be [1 or {batch}, 1, {height}, {width}]",
        )
        inside = (mask >= 0) & (mask <= 1 + _ROUNDING)
        _require(bool(inside.all()), f, "has values of visible outside [0, 1]")


def _adjoint(f: Operator, x: Tensor, seed: int) -> None:
    generator = _generator(seed + 1)
    z = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    fx = f(x)
    combined = f(0.5 * x - 0.25 * z)
    expected = 0.5 * fx - 0.25 * f(z)
    difference = (combined - expected).norm()
    size = combined.norm() + expected.norm()
    linear = difference <= _ROUNDING * size
    _require(bool(linear), f, "says that it is linear, and is not")
    generator = _generator(seed + 2)
    y = torch.randn(fx.shape, generator=generator, dtype=x.dtype)
    transposed = f.adjoint(y, x.shape)
    forth = (fx * y).sum()
    back = (x * transposed).sum()
    size = fx.norm() * y.norm()
    difference = (forth - back).abs()
    equal = difference <= _ROUNDING * size
    _require(
        bool(equal),
        f,
        f"has no adjoint in its gradient: ⟨f x, y⟩ = {forth:.6g} and ⟨x, fᵀ y⟩ = {back:.6g}",
    )


def _gradient(f: Operator, x: Tensor, seed: int) -> None:
    x = x.clone().requires_grad_()
    y = _applied(f, x, seed)
    _require(y.requires_grad, f, "has no gradient; declare one with degrade.surrogate.declare")
    total = y.sum()
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
    _require(gradient is not None, f, "has a gradient that does not reach its input")
    finite = torch.isfinite(gradient)
    _require(bool(finite.all()), f, "has a gradient with NaN or infinity")


def _parameters(f: Operator, x: Tensor, seed: int) -> None:
    image = x[:1]
    row_operator = f.row(0, len(x))
    names: list[str] = []
    tensors: list[Tensor] = []
    stages: list[Operator] = []
    for stage in row_operator:
        learned = _learnable(stage)
        names += [f"{name} of {stage}" for name in learned]
        tensors += learned.values()
        stages.append(stage.with_values(learned))
    if not tensors:
        return
    y = _applied(compose(stages), image, seed)
    expected = _applied(row_operator, image, seed)
    equal = torch.equal(y, expected)
    _require(equal, f, "gives other values with parameters that require grad")
    _require(y.requires_grad, f, "loses the gradient of its parameters; use params.per_image")
    gradients = torch.autograd.grad(y.sum(), tensors, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        _require(gradient is not None, f, f"loses the gradient of {name}; use params.per_image")
        finite = torch.isfinite(gradient).all()
        _require(bool(finite), f, f"has a gradient of {name} with NaN or infinity")


def _learnable(stage: Operator) -> dict[str, Tensor]:
    """The given values of learnable parameters as tensors that require grad."""
    tensors = {}
    for name, value, _ in stage.arguments():
        if stage.kinds[name].learnable and isinstance(value, (float, int, tuple, Tensor)):
            numbers = torch.as_tensor(value, dtype=torch.float64, device="cpu")
            tensors[name] = numbers.detach().clone().requires_grad_()
    return tensors


def _part(f: Operator, x: Tensor, seed: int) -> None:
    height, width = x.shape[2:]
    rows = slice(_middle(height), height)
    columns = slice(_middle(width), width)
    part = f.part(x.shape, (rows, columns))
    whole = _applied(f, x, seed)
    with_other_draws = _applied(f, x, seed + 1)
    draws = not torch.equal(whole, with_other_draws)
    if part is None or draws:
        return
    part_operator, place = part
    window = x[..., rows, columns]
    result = part_operator(window)
    expected = whole[(..., *place)]
    shape = list(result.shape)
    expected_shape = list(expected.shape)
    _require(
        shape == expected_shape, f, f"has a part of {shape}, and says that it is {expected_shape}"
    )
    inner = _away_from_cuts(f, place, x, whole)
    difference = (result - expected)[inner].abs()
    equal = difference <= _PART_TOLERANCE
    _require(
        bool(equal.all()),
        f,
        "does another thing to a part than to the whole; check `local`, `reach` and `cut`",
    )


def _middle(n: int) -> int:
    """Half of n pixels, at a whole block of 16 if there is one."""
    half = n // 2
    whole_blocks = half // 16 * 16
    return whole_blocks or half


def _away_from_cuts(
    f: Operator, place: Window, x: Tensor, whole: Tensor
) -> tuple[EllipsisType, slice, slice]:
    """The index of a part's pixels that lie farther than `reach` from its cuts.

    place: where the part lies in f(x), which is `whole`.
    """
    *_, height, width = whole.shape
    pixels_of_x = min(x.shape[2:])
    scale = max(height, width) / pixels_of_x
    reach_in_x = f.reach(x.shape)
    reach = math.ceil(reach_in_x * scale)  # in pixels of f(x)
    rows, columns = place
    inner_rows = _inner(rows, height, reach)
    inner_columns = _inner(columns, width, reach)
    return ..., inner_rows, inner_columns


def _inner(span: slice, n: int, reach: int) -> slice:
    """A span of n pixels without those within `reach` of a cut, counted within the span."""
    size = span.stop - span.start
    first = reach if span.start > 0 else 0
    last = size - reach if span.stop < n else size
    return slice(first, last)


def _projection(f: Operator, x: Tensor, seed: int) -> None:
    observation = _applied(f, x, seed)
    start = 0.9 * x.flip(3) + 0.05
    projected = f.project(start, observation)
    shape = list(projected.shape)
    expected_shape = list(x.shape)
    _require(shape == expected_shape, f, f"projects {expected_shape} to {shape}")
    batch = len(x)
    for i in range(batch):
        row_operator = f.row(i, batch)
        if not row_operator.certain:
            continue
        row = slice(i, i + 1)
        observed = observation[row]
        of_start = row_operator(start[row])
        before = _distance(of_start, observed)
        of_projected = row_operator(projected[row])
        after = _distance(of_projected, observed)
        _require(
            after <= before + _HALF_LEVEL,
            f,
            f"projects away from y: {before:.4f} off, then {after:.4f}",
        )


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference."""
    squares = (a - b).square()
    return float(squares.mean().sqrt())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sampled(f: Operator, x: Tensor, seed: int) -> Operator:
    return f.sample(x.shape, _generator(seed))


def _applied(f: Operator, x: Tensor, seed: int) -> Tensor:
    return f(x, _generator(seed))


def _require(law: bool, f: Operator, broken: str) -> None:
    if not law:
        raise AssertionError(f"{f} {broken}")
