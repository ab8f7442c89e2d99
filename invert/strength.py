"""Choose how strongly plug-and-play restoration denoises, by trial on pictures of known truth.

The operator damages synthetic pictures in the colours of the observation (`dead_leaves`), or, if it
draws nothing, the photo itself at half its size. Since their truth is known, the noise level that
restores them best can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .denoiser import Denoiser
from .descent import STRIDE, descend, geometric
from .linear_model import PLAIN, ROUNDING, Response, linear_model
from .orientation import averaged, turned
from .problem import Problem, streams
from .trials import (
    Trial,
    draw_trial,
    draws_nothing,
    local_mean,
    measured_error,
    measured_response,
    photo_trials,
    trial_parts,
)

TRIAL_STEPS = 4  # turns of a trial whose linear part leaves something open
EXACT = 1e-4  # errors below this are rounding of float32
PAIRS = 2  # pairs of random draws that measure the local variance of noise
MOST_SAMPLES = 100_000  # of the local variance, for its quantiles
# dB: a variant of the prior is taken unless it restores worse by more than this. The variant of
# the photo prior is trained by LPIPS, too, which is a third lower on pictures outside all tables.
PREFERENCE = 0.25
VARIES = 1.5  # noise varies if the ratio of its 90 % and 10 % quantiles is above this


@dataclass(frozen=True)
class Strength:
    """How strongly each turn denoises.

    levels: the noise levels of the turns, falling. error: the standard deviation of y − A x.
    note: how the levels were chosen, for readers. fixed: the part of error² that is not random, if
    the noise varies over the image; None if it is the same everywhere, so that every pixel is
    denoised alike. response: how the mean of y depends on A x; it is undone first. denoiser: the
    variant of the prior that restores best; None for the prior itself.
    """

    levels: tuple[float, ...]
    error: float
    note: str
    fixed: float | None = None
    response: Response = PLAIN
    denoiser: Denoiser | None = None


def find_strength(problem: Problem, steps: int, first: float, last: float) -> Strength:
    """Choose the noise levels for one image.

    steps, first, last: how many levels there are, and the first and the lowest.
    """
    trials = []
    for number, part in enumerate(trial_parts(problem)):
        trials.append(draw_trial(problem, part, number))
    direct = is_direct(problem, trials)
    if measured_error(trials) >= EXACT:
        return best_strength(problem, trials, direct, steps, first)
    if direct:
        return undone_exactly(problem)
    levels = geometric(first, last, steps)
    note = f"noise level {last:g} at the end, since the operator makes no error"
    return Strength(levels, ROUNDING, note)


def undone_exactly(problem: Problem) -> Strength:
    """The strength for an operator whose inverse is known: nothing is denoised."""
    model = linear_model(problem.operator, problem.observation)
    is_unchanged = torch.equal(model.first_guess(), problem.observation)
    result = "nothing to undo" if is_unchanged else "undone exactly"
    return Strength((), ROUNDING, f"{result}, so no pixel is invented")


def best_strength(
    problem: Problem, trials: list[Trial], direct: bool, steps: int, first: float
) -> Strength:
    """Search the network and the noise level that restore the pictures of trials best.

    They are the synthetic ones or, if the operator draws nothing and leaves nothing open, the photo
    at half its size. direct: of the trials, as `is_direct` returns it.
    """
    response = measured_response(trials)
    error = measured_error(trials, response)
    fixed = fixed_variance(problem, trials, error, response) if direct else None
    judges, pictures = judging(problem, trials, direct)
    search = Search(direct, first, Strength((), error, "", fixed, response))
    # In few turns on synthetic pictures, a variant may win that loses 2 dB in all turns on a photo.
    denoisers = problem.denoiser.alternatives if direct else (problem.denoiser,)
    best = preferred([search.candidate(judges, denoiser) for denoiser in denoisers])
    nothing_denoised = Strength((), error, "")
    gain = decibels(trial_loss(judges, nothing_denoised), best.loss)
    if gain <= 0:
        note = f"no noise level makes {pictures} better, so nothing is denoised"
        return replace(nothing_denoised, note=note)
    note = f"denoised down to noise level {best.sigma:.3f}, which restores {pictures} best "
    note += f"({gain:+.1f} dB){remarks(fixed, response)}"
    strength = search.strength(best.denoiser, best.sigma, steps)
    return replace(strength, note=note)


def remarks(fixed: float | None, response: Response) -> str:
    """What else a note says of the noise and of the mean."""
    words = ""
    if fixed is not None:
        words += "; less is denoised where the noise is weaker"
    if response != PLAIN:
        changed = f"{response.slope:.2f}·x {response.offset:+.2f}"
        words += f"; the operator turns a mean of x into {changed}, which is corrected"
    return words


class Candidate(NamedTuple):
    """A variant of the prior with the noise level at which it restores the trials best."""

    denoiser: Denoiser
    sigma: float
    loss: float


@dataclass(frozen=True)
class Search:
    """The search of a noise level.

    direct, first: those of `best_strength`. measured: the strength without levels and network.
    """

    direct: bool
    first: float
    measured: Strength

    def strength(self, denoiser: Denoiser, sigma: float, count: int) -> Strength:
        """The strength of `count` turns that end at a noise level; of one if it is direct."""
        levels: tuple[float, ...] = (sigma,)
        if not self.direct:
            levels = geometric(max(self.first, sigma), sigma, count)
        return replace(self.measured, levels=levels, denoiser=denoiser)

    def candidate(self, judges: list[Trial], denoiser: Denoiser) -> Candidate:
        """The noise level at which a network restores the trials best."""

        def loss(sigma: float) -> float:
            return trial_loss(judges, self.strength(denoiser, sigma, TRIAL_STEPS))

        sigma = descend(loss, self.measured.error * STRIDE, *denoiser.sigma_range)
        return Candidate(denoiser, sigma, loss(sigma))


def preferred(candidates: Sequence[Candidate]) -> Candidate:
    """The variant to take. The first candidate is the prior itself."""
    prior, *variants = candidates
    if not variants:
        return prior
    best = min(variants, key=lambda candidate: candidate.loss)
    return best if decibels(best.loss, prior.loss) <= PREFERENCE else prior


def judging(problem: Problem, trials: list[Trial], direct: bool) -> tuple[list[Trial], str]:
    """The trials that choose the noise level, and what their pictures are."""
    if direct and draws_nothing(trials[0]):
        of_photo = photo_trials(problem)
        if of_photo:
            return of_photo, "the photo at half its size"
    return trials, "synthetic pictures"


def decibels(loss: float, lower_loss: float) -> float:
    """By how much the second of two mean squared errors is lower, in dB; 0 where both are 0."""
    if loss == lower_loss:
        return 0.0
    if min(loss, lower_loss) == 0:
        return math.inf if loss > 0 else -math.inf
    return 10 * math.log10(loss / lower_loss)


def is_direct(problem: Problem, trials: list[Trial]) -> bool:
    """Whether A alone, without the error, leaves nothing open: the first guess is the image."""
    visible = problem.operator.visible(problem.image_shape)
    if visible is not None and bool((visible < 1).any()):
        return False
    for trial in trials:
        model = trial.model()
        exact = model.forward(trial.truth)
        without_error = replace(model, observation=exact)
        difference = without_error.first_guess() - trial.truth
        if difference.abs().max() > EXACT:
            return False
    return True


def fixed_variance(
    problem: Problem, trials: list[Trial], error: float, response: Response
) -> float | None:
    """The part of error² that is not random; None if the random part is the same everywhere."""
    if not problem.denoiser.takes_map:
        return None
    variances = []
    for trial in trials:
        variance = noise_variance(trial.problem, trial.truth, response)
        variances.append(variance.flatten())
    variance = torch.cat(variances)
    every = max(1, len(variance) // MOST_SAMPLES)  # quantile() takes at most 2²⁴ values
    variance = variance[::every]
    random_part = float(variance.mean())
    fixed = max(0.0, error**2 - random_part)
    deviation = (variance + fixed).sqrt()
    low = float(deviation.quantile(0.1))
    high = float(deviation.quantile(0.9))
    return fixed if high > VARIES * low else None


def noise_variance(problem: Problem, image: Tensor, response: Response) -> Tensor:
    """The local variance [1, 1, H, W] of an operator's random draws on an image [1, C, H, W].

    The method undoes curves and turns before it looks at the noise, and so does this function.
    """
    operator = problem.operator
    total = torch.zeros_like(image[:, :1])
    for pair in range(PAIRS):
        guesses = []
        for name in ("first", "second"):
            draw = operator(image, streams(problem.seeds, f"{name}{pair}"))
            guesses.append(linear_model(operator, draw, response).first_guess())
        first, second = guesses
        squares = (first - second).square()
        total += squares.mean(1, keepdim=True) / 2
    return local_mean(total / PAIRS)


def relative_noise(problem: Problem, z: Tensor, strength: Strength) -> Tensor | None:
    """The standard deviation [1, 1, H, W] of y − A x relative to its mean; None if it is uniform.

    z: the first guess. Its local means stand for the image.
    """
    if strength.fixed is None:
        return None
    image = local_mean(z).clamp(0, 1)
    variance = noise_variance(problem, image, strength.response)
    deviation = (variance + strength.fixed).sqrt()
    return deviation / strength.error


def of_variant(problem: Problem, strength: Strength) -> Problem:
    """The problem with the variant of the prior that restores it best."""
    if strength.denoiser is None:
        return problem
    return replace(problem, prior=strength.denoiser)


def turns(
    problem: Problem, strength: Strength, orientations: Sequence[int] = ()
) -> Iterator[Tensor]:
    """Half-quadratic splitting: yield the denoised image of each turn, unclamped.

    orientations: quarter turns of the image after which the last estimate is made, too; all are
    averaged.
    """
    problem = of_variant(problem, strength)
    model = linear_model(problem.operator, problem.observation, strength.response)
    z = model.first_guess()
    if not strength.levels:
        yield z
        return
    relative = relative_noise(problem, z, strength)
    for sigma, next_sigma in pairwise(strength.levels):
        x0 = denoised(problem, z, sigma, relative)
        yield x0
        z = model.nearest(x0, next_sigma, strength.error)
    last_sigma = strength.levels[-1]
    x0 = denoised(problem, z, last_sigma, relative)
    yield averaged(x0, orientations, lambda n: denoised(problem, z, last_sigma, relative, n))


def denoised(
    problem: Problem, z: Tensor, sigma: float, relative: Tensor | None, number: int = 0
) -> Tensor:
    """The network's estimate of z after `number` quarter turns.

    relative: a map [1, 1, H, W] that sigma is multiplied by.
    """
    level: float | Tensor = sigma
    if relative is not None:
        lowest, highest = problem.denoiser.sigma_range
        level = turned(sigma * relative, number).clamp(lowest, highest)
    return problem.denoiser.denoise(turned(z, number), level, problem.label)


def trial_loss(trials: list[Trial], strength: Strength) -> float:
    """The mean squared error of the restored pictures."""
    squares = []
    for trial in trials:
        *_, x0 = turns(trial.problem, strength)
        difference = x0.clamp(0, 1) - trial.truth
        squares.append(difference.square().mean())
    return float(torch.stack(squares).mean())
