"""How strongly plug-and-play restoration denoises: found by trial, not by a constant of the task.

The operator damages synthetic pictures in the colours of the observation (`dead_leaves`). Since
their truth is known, the noise level that restores them best can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.operator import Operator, Shape

from .dead_leaves import dead_leaves
from .linear_model import ROUNDING, linear_model
from .problem import Problem, streams
from .tiles import nearest_cut

TRIALS = 4  # how many synthetic pictures there are
TRIAL_SIDE = 96  # of them, in pixels
TRIAL_STEPS = 4  # of a trial with a linear part
STRIDE = 2**0.5  # between neighbouring noise levels
MOST_STRIDES = 7
EXACT = 1e-4  # errors below this are rounding of float32
PAIRS = 2  # of random draws that show how noise varies over a picture
MOST_SAMPLES = 100_000  # of that variance
WINDOW = 9  # pixels: the side of the square in which their variance is taken
VARIES = 1.5  # between the 10 % and 90 % quantiles of its standard deviation, at least
REDUCED = 2  # synthetic pictures are drawn larger by this, so that edges are as soft as in photos


@dataclass(frozen=True)
class Strength:
    """levels: the falling noise levels of the turns. error: the standard deviation of y − A x.

    note: for readers, how it was found. fixed: the part of error² that is not random; None where
    the noise is the same everywhere, so that every pixel is denoised alike.
    """

    levels: tuple[float, ...]
    error: float
    note: str
    fixed: float | None = None


@dataclass(frozen=True)
class Trial:
    """A synthetic picture [1, C, h, w], its operator, and what the operator made of it."""

    truth: Tensor
    problem: Problem


def find_strength(problem: Problem, steps: int, first: float, last: float) -> Strength:
    """Choose the noise levels for one image.

    steps, first, last: how many levels there are, and the first and the lowest.
    """
    trials = [trial(problem, part, i) for i, part in enumerate(trial_parts(problem))]
    error = measured_error(trials)
    direct = is_direct(problem, trials)
    if error < EXACT:
        if direct:
            is_changed = not torch.equal(
                linear_model(problem.operator, problem.observation).first_guess(),
                problem.observation,
            )
            done = "undone exactly" if is_changed else "nothing to undo"
            return Strength((), ROUNDING, f"{done}, so no pixel is invented")
        note = f"noise level {last:g} at the end, since the operator makes no error"
        return Strength(geometric(first, last, steps), ROUNDING, note)
    lowest, highest = problem.denoiser.sigma_range
    fixed = fixed_variance(problem, trials, error) if direct else None

    def levels_to(sigma: float, count: int) -> tuple[float, ...]:
        return (sigma,) if direct else geometric(max(first, sigma), sigma, count)

    def loss(sigma: float) -> float:
        return trial_loss(trials, Strength(levels_to(sigma, TRIAL_STEPS), error, "", fixed))

    best = descend(loss, error * STRIDE, lowest, highest)
    gain = 10 * math.log10(trial_loss(trials, Strength((), error, "")) / loss(best))
    if gain <= 0:
        note = "no noise level makes synthetic pictures better, so nothing is denoised"
        return Strength((), error, note)
    note = f"noise level {best:.3f} at the end, the best of those tried on synthetic pictures "
    note += f"({gain:+.1f} dB)"
    if fixed is not None:
        note += "; where the noise is weaker, less is removed"
    return Strength(levels_to(best, steps), error, note, fixed)


def is_direct(problem: Problem, trials: list[Trial]) -> bool:
    """Whether A alone, without the error, leaves nothing open: the first guess is the image."""
    visible = problem.operator.visible(problem.image_shape)
    if visible is not None and bool((visible < 1).any()):
        return False
    for trial in trials:
        model = linear_model(trial.problem.operator, trial.problem.observation)
        without_error = replace(model, observation=model.forward(trial.truth))
        if (without_error.first_guess() - trial.truth).abs().max() > EXACT:
            return False
    return True


def geometric(first: float, last: float, count: int) -> tuple[float, ...]:
    """`count` levels from `first` to `last`, each the same factor lower."""
    if count == 1:
        return (last,)
    levels = []
    for i in range(count):
        ratio: float = (last / first) ** (i / (count - 1))
        levels.append(first * ratio)
    return tuple(levels)


def descend(loss: Callable[[float], float], start: float, lowest: float, highest: float) -> float:
    """Walk from `start` in strides to the level of least loss; refine by a parabola."""
    start = min(max(start, lowest), highest)
    losses = {0: loss(start)}

    def at(stride: int) -> float:
        if stride not in losses:
            losses[stride] = loss(min(max(start * STRIDE**stride, lowest), highest))
        return losses[stride]

    best = 0
    for _ in range(MOST_STRIDES):
        neighbours = (best - 1, best, best + 1)
        better = min(neighbours, key=at)
        if better == best:
            break
        best = better
    shift = vertex(at(best - 1), at(best), at(best + 1))
    stride: float = STRIDE ** (best + shift)
    return min(max(start * stride, lowest), highest)


def vertex(left: float, middle: float, right: float) -> float:
    """The position of the minimum of the parabola through (-1, left), (0, middle), (1, right)."""
    curvature = left - 2 * middle + right
    if curvature <= 0:
        return 0.0
    return min(max((left - right) / (2 * curvature), -1.0), 1.0)


def trial_parts(problem: Problem) -> list[tuple[Operator, int, int]]:
    """The operators of the trials, each with the height and width of its image.

    They are parts of the operator at four places. An operator that cannot be cut is tried on small
    images, if it takes them; otherwise on images of the full size.
    """
    operator, shape = problem.operator, problem.image_shape
    parts = []
    for row, column in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        rows = trial_span(operator, shape, row, 0)
        columns = trial_span(operator, shape, column, 1)
        if rows is None or columns is None:
            return [(operator, *uncut_sides(operator, shape))] * TRIALS
        part = operator.part(shape, (rows, columns))
        assert part is not None  # its edges are where the operator can be cut
        parts.append((part[0], rows.stop - rows.start, columns.stop - columns.start))
    return parts


def trial_span(operator: Operator, shape: Shape, at: float, axis: int) -> slice | None:
    """Rows (axis 0) or columns around a share of the side; None where no cut is possible."""
    length = shape[2 + axis]
    if length <= TRIAL_SIDE:
        return slice(0, length)
    wanted = int(at * length) - TRIAL_SIDE // 2
    start = nearest_cut(operator, shape, min(max(wanted, 0), length - TRIAL_SIDE), axis)
    stop = start + TRIAL_SIDE
    if stop < length:
        stop = nearest_cut(operator, shape, stop, axis)
    return slice(start, stop) if stop > start else None


def uncut_sides(operator: Operator, shape: Shape) -> tuple[int, int]:
    """The height and width of a small image, or those of `shape` if the operator refuses it."""
    height, width = min(TRIAL_SIDE, shape[2]), min(TRIAL_SIDE, shape[3])
    try:
        operator.output_shape((*shape[:2], height, width))
    except ValueError:  # it holds a mask of the full size
        return shape[2], shape[3]
    return height, width


def trial(problem: Problem, part: tuple[Operator, int, int], number: int) -> Trial:
    """Draw a synthetic picture for a part of the operator, and damage it."""
    operator, height, width = part
    (generator,) = streams(problem.seeds, f"trial{number}")
    palette = problem.observation[0].cpu()
    large = dead_leaves(REDUCED * height, REDUCED * width, palette, generator)
    truth = F.avg_pool2d(large[None], REDUCED).clamp(0, 1).to(problem.device)
    observation = operator(truth, generator)
    return Trial(truth, replace(problem, observation=observation, operator=operator))


def measured_error(trials: list[Trial]) -> float:
    """The standard deviation of y − A x over the trials."""
    squares = []
    for trial in trials:
        model = linear_model(trial.problem.operator, trial.problem.observation)
        difference = model.observation - model.forward(trial.truth)
        squares.append(difference.square().mean())
    return float(torch.stack(squares).mean().sqrt())


def fixed_variance(problem: Problem, trials: list[Trial], error: float) -> float | None:
    """The part of error² that is not random; None if the random part is the same everywhere."""
    if not problem.denoiser.takes_map:
        return None
    variances = []
    for trial in trials:
        variances.append(noise_variance(trial.problem, trial.truth).flatten())
    variance = torch.cat(variances)
    variance = variance[:: max(1, len(variance) // MOST_SAMPLES)]  # quantile() takes 2²⁴ at most
    fixed = max(0.0, error**2 - float(variance.mean()))
    deviation = (variance + fixed).sqrt()
    low, high = float(deviation.quantile(0.1)), float(deviation.quantile(0.9))
    return fixed if high > VARIES * low else None


def noise_variance(problem: Problem, image: Tensor) -> Tensor:
    """The local variance [1, 1, H, W] of an operator's random draws on an image [1, C, H, W].

    Draws are compared as the method sees them, after curves and turns are undone.
    """
    operator = problem.operator
    total = torch.zeros_like(image[:, :1])
    for pair in range(PAIRS):
        guesses = []
        for name in ("first", "second"):
            draw = operator(image, streams(problem.seeds, f"{name}{pair}"))
            guesses.append(linear_model(operator, draw).first_guess())
        first, second = guesses
        total += (first - second).square().mean(1, keepdim=True) / 2
    return local_mean(total / PAIRS)


def local_mean(x: Tensor) -> Tensor:
    """The mean of the pixels in a square around each."""
    return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def relative_noise(problem: Problem, z: Tensor, strength: Strength) -> Tensor | None:
    """The standard deviation [1, 1, H, W] of y − A x relative to its mean; None if it is uniform.

    z: the first guess, whose local means are taken for the image.
    """
    if strength.fixed is None:
        return None
    variance = noise_variance(problem, local_mean(z).clamp(0, 1))
    return (variance + strength.fixed).sqrt() / strength.error


def turns(problem: Problem, strength: Strength) -> Iterator[Tensor]:
    """Half-quadratic splitting: yield the denoised image of each turn, unclamped."""
    model = linear_model(problem.operator, problem.observation)
    z = model.first_guess()
    if not strength.levels:
        yield z
        return
    relative = relative_noise(problem, z, strength)
    lowest, highest = problem.denoiser.sigma_range
    following = (*strength.levels[1:], None)
    for sigma, next_sigma in zip(strength.levels, following, strict=True):
        level: float | Tensor = sigma
        if relative is not None:
            level = (sigma * relative).clamp(lowest, highest)
        x0 = problem.denoiser.denoise(z, level, problem.label)
        yield x0
        if next_sigma is not None:
            z = model.nearest(x0, next_sigma, strength.error)


def trial_loss(trials: list[Trial], strength: Strength) -> float:
    """The mean squared error of the restored synthetic pictures."""
    squares = []
    for trial in trials:
        *_, x0 = turns(trial.problem, strength)
        squares.append((x0.clamp(0, 1) - trial.truth).square().mean())
    return float(torch.stack(squares).mean())
