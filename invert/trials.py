"""Trials of an operator on pictures whose truth is known.

The operator damages dead-leaves pictures in the colours of the observation (`dead_leaves`). They
show how large its error is, and how its observations depend on the image on average. An operator
that draws nothing is also tried on the photo itself, reduced to half its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.operator import Operator, Shape, Window

from .dead_leaves import dead_leaves
from .linear_model import PLAIN, LinearModel, Response, linear_model
from .problem import Problem, streams
from .tiles import nearest_cut

# The centres of the trials in the image, as shares of its height and width.
TRIAL_CENTRES = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
TRIAL_SIDE = 96  # pixels: about the side of a synthetic picture
REDUCED = 2  # synthetic pictures are drawn larger by this, so that edges are as soft as in photos
MOST_WHOLE = 2**22  # pixels of an image that cannot be cut: 5 GB in the bundled network
# Of the discs, before that reduction. Without small discs the pictures have less detail than
# photos, and levels are found that remove detail (measured on two photos outside all tables).
RADII = (3.0, 600.0)
WINDOW = 9  # pixels: the side of the square of a local mean
LEAST_SLOPE = 0.1  # of a response that can be undone; below, hardly anything of the image is left
LEAST_VARIANCE = 1e-6  # of local means, for a line to be fitted
LEAST_SHIFT = 1 / 255  # of the mean, root mean square, that is worth undoing
BINS = 16  # of the histogram of levels
ROUNDS = 4  # of the search for the levels of the photo's A x


class TrialPart(NamedTuple):
    """A part of the operator, with the height and width of the images that it takes.

    observed: where the observation shows this part; None if the operator was not cut.
    """

    operator: Operator
    height: int
    width: int
    observed: Window | None = None


@dataclass(frozen=True)
class Trial:
    """A picture [1, C, h, w] whose truth is known, and the problem of restoring it.

    photo: the observation of the photo where the same part of the operator acts.
    """

    truth: Tensor
    problem: Problem
    photo: Tensor

    def model(self, response: Response = PLAIN) -> LinearModel:
        """y = A x + error for the picture of the trial."""
        return linear_model(self.problem.operator, self.problem.observation, response)

    def photo_model(self) -> LinearModel:
        """The same equation for the part of the photo, whose x is unknown."""
        return linear_model(self.problem.operator, self.photo)


def trial_parts(problem: Problem) -> list[TrialPart]:
    """Cut the operators of the trials out of the problem's operator, at four places.

    An operator that cannot be cut is tried on small images, if it takes them; otherwise on images
    of the full size.
    """
    operator = problem.operator
    shape = problem.image_shape
    parts = []
    for row, column in TRIAL_CENTRES:
        rows = trial_span(operator, shape, row, 0)
        columns = trial_span(operator, shape, column, 1)
        if rows is None or columns is None:
            return [uncut(operator, shape)] * len(TRIAL_CENTRES)
        part = operator.part(shape, (rows, columns))
        assert part is not None  # its edges are where the operator can be cut
        part_operator, observed = part
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        parts.append(TrialPart(part_operator, height, width, observed))
    return parts


def trial_span(
    operator: Operator, shape: Shape, centre: float, axis: int, side: int = TRIAL_SIDE
) -> slice | None:
    """Rows (axis 0) or columns around a share of the side; None where no cut is possible.

    centre: the share. side: how many rows or columns are wanted.
    """
    length = shape[2 + axis]
    if length <= side:
        return slice(0, length)
    wanted = int(centre * length) - side // 2
    wanted = min(max(wanted, 0), length - side)
    start = nearest_cut(operator, shape, wanted, axis)
    stop = start + side
    if stop < length:
        stop = nearest_cut(operator, shape, stop, axis)
    if stop <= start:
        return None
    return slice(start, stop)


def uncut(operator: Operator, shape: Shape) -> TrialPart:
    """The whole operator, with the size of a small image, or of `shape` if it takes no other."""
    batch, channels, full_height, full_width = shape
    height = min(TRIAL_SIDE, full_height)
    width = min(TRIAL_SIDE, full_width)
    small = (batch, channels, height, width)
    if takes(operator, small):
        return TrialPart(operator, height, width)
    if full_height * full_width > MOST_WHOLE:
        raise ValueError(
            f"{operator} cannot be undone in parts of an image, and the image of {full_width} x "
            f"{full_height} is too large to be restored whole; take an operator without the stage "
            f"that changes the size, or an observation of at most {MOST_WHOLE:,} pixels"
        )
    return TrialPart(operator, full_height, full_width)


def can_be_tried(operator: Operator, shape: Shape) -> bool:
    """Whether trials of an operator on images of a shape are possible: it is cut, or small."""
    _, channels, height, width = shape
    if height * width <= MOST_WHOLE:
        return True
    if takes(operator, (1, channels, TRIAL_SIDE, TRIAL_SIDE)):
        return True
    for row, column in TRIAL_CENTRES:
        rows = trial_span(operator, shape, row, 0)
        columns = trial_span(operator, shape, column, 1)
        if rows is None or columns is None:
            return False
    return True


def takes(operator: Operator, shape: Shape) -> bool:
    """Whether an operator can be applied to images of another shape than the problem's."""
    try:
        output = operator.output_shape(shape)
    except ValueError:  # the operator holds a mask of the full size
        return False
    # otherwise it returns to the full size, as `resize` with `of` does
    return operator.input_shape(output) == shape


def draw_trial(problem: Problem, part: TrialPart, number: int) -> Trial:
    """Draw a synthetic picture for a part of the operator, and damage it."""
    (generator,) = streams(problem.seeds, f"trial{number}")
    palette = problem.observation[0].cpu()
    large = dead_leaves(REDUCED * part.height, REDUCED * part.width, palette, generator, RADII)
    reduced = F.avg_pool2d(large[None], REDUCED)
    truth = reduced.clamp(0, 1).to(problem.device)
    return damaged(problem, part, truth, generator)


def damaged(problem: Problem, part: TrialPart, truth: Tensor, generator: torch.Generator) -> Trial:
    """The trial of restoring a picture that a part of the operator damages."""
    observation = part.operator(truth, generator)
    trial_problem = replace(problem, observation=observation, operator=part.operator)
    observed = part.observed
    if observed is None:
        observed = middle_of(problem.observation.shape, observation.shape)
    rows, columns = observed
    photo = problem.observation[..., rows, columns]
    return Trial(truth, trial_problem, photo)


def photo_trials(problem: Problem) -> list[Trial]:
    """Trials on the photo itself, reduced to half its size, which hides most of its damage.

    Unlike synthetic pictures they have the texture of this photo. There are none if the photo is
    too small, or if the operator cannot be cut.
    """
    trials: dict[tuple[int, ...], Trial] = {}
    parts = trial_parts(problem)
    for number, (centre, part) in enumerate(zip(TRIAL_CENTRES, parts, strict=True)):
        window = photo_window(problem, centre)
        if window is None:
            continue
        rows, columns = window
        place = (rows.start, columns.start)
        guess = guess_within(problem, window)
        truth = F.avg_pool2d(guess, REDUCED).clamp(0, 1)
        fits = truth.shape[2] >= part.height and truth.shape[3] >= part.width
        if fits and place not in trials:
            truth = truth[..., : part.height, : part.width]
            (generator,) = streams(problem.seeds, f"photo{number}")
            trials[place] = damaged(problem, part, truth, generator)
    return list(trials.values())


def estimate_trial(problem: Problem, image: Tensor, number: int) -> Trial:
    """A trial whose truth is a part of a first restoration [1, C, H, W], at one of the centres."""
    part = trial_parts(problem)[number]
    row, column = TRIAL_CENTRES[number]
    rows = trial_span(problem.operator, problem.image_shape, row, 0)
    columns = trial_span(problem.operator, problem.image_shape, column, 1)
    if part.observed is None or rows is None or columns is None:
        rows, columns = middle_of(image.shape, (1, 1, part.height, part.width))
    truth = image[..., rows, columns].clone()
    (generator,) = streams(problem.seeds, f"estimate{number}")
    return damaged(problem, part, truth, generator)


def draws_nothing(trial: Trial) -> bool:
    """Whether the operator damages the picture in the same way again."""
    (generator,) = streams(trial.problem.seeds, "again")
    again = trial.problem.operator(trial.truth, generator)
    return torch.equal(again, trial.problem.observation)


def photo_window(problem: Problem, centre: tuple[float, float]) -> Window | None:
    """The part of the photo that gives the picture of a trial; None if it cannot be cut."""
    row, column = centre
    shape = problem.image_shape
    side = REDUCED * TRIAL_SIDE
    rows = trial_span(problem.operator, shape, row, 0, side)
    columns = trial_span(problem.operator, shape, column, 1, side)
    if rows is None or columns is None:
        return None
    return rows, columns


def guess_within(problem: Problem, window: Window) -> Tensor:
    """What the observation says about a part of the photo, without a prior."""
    part = problem.operator.part(problem.image_shape, window)
    assert part is not None  # its edges are where the operator can be cut
    operator, (rows, columns) = part
    observation = problem.observation[..., rows, columns]
    return linear_model(operator, observation).first_guess()


def middle_of(shape: Shape, part: Shape) -> Window:
    """The rows and columns of a part, of a smaller shape, in the middle."""
    top = (shape[2] - part[2]) // 2
    left = (shape[3] - part[3]) // 2
    return slice(top, top + part[2]), slice(left, left + part[3])


def measured_error(trials: list[Trial], response: Response = PLAIN) -> float:
    """The standard deviation of y − A x over the trials, where y shows the image."""
    total = 0.0
    count = 0.0
    for trial in trials:
        model = trial.model(response)
        difference = model.observation - model.forward(trial.truth)
        shows_image = model.shown()
        total += float((shows_image * difference.square()).sum())
        count += float(shows_image.sum())
    return math.sqrt(total / max(count, 1.0))


def measured_response(trials: list[Trial]) -> Response:
    """The line E y = slope · A x + offset that fits the trials best, at the levels of the photo.

    It is fitted to local means, since stages such as JPEG change details and keep means. Trials
    count by how often the photo has the levels of their A x, which are those of its y with the line
    of the round before undone. The levels of y would not do: a choice by y flattens the line, as a
    choice by the dependent variable does in every regression. Returns PLAIN if y shows the mean of
    A x.
    """
    images = []
    observations = []
    photos = []
    for trial in trials:
        model = trial.model()
        shows_image = model.shown()
        images.append(means_where(shows_image, model.forward(trial.truth)))
        observations.append(means_where(shows_image, model.observation))
        photos.append(means_where(shows_image, trial.photo_model().observation))
    x = torch.cat(images)
    y = torch.cat(observations)
    photo = torch.cat(photos)
    response = PLAIN
    for _ in range(ROUNDS):
        levels = histogram(response.undone(photo))
        weights = (levels / histogram(x).clamp_min(1))[bins(x)]
        response = line(x, y, weights)
        if response.slope < LEAST_SLOPE:
            return PLAIN
    shift = response.slope * x + response.offset - x
    mean_square = (weights * shift.square()).sum() / weights.sum()
    if mean_square < LEAST_SHIFT**2:
        return PLAIN
    return response


def means_where(shows_image: Tensor, values: Tensor) -> Tensor:
    """The local means of values [1, C, h, w] that show the image, as one list [n]."""
    share = local_mean(shows_image)
    means = local_mean(shows_image * values) / share
    return means[share > 0]


def bins(values: Tensor) -> Tensor:
    """The number of the bin of each value."""
    return (values.clamp(0, 1) * BINS).long().clamp_max(BINS - 1)


def histogram(values: Tensor) -> Tensor:
    """The number of values in each bin [BINS]."""
    return torch.bincount(bins(values), minlength=BINS).to(values)


def line(x: Tensor, y: Tensor, weights: Tensor) -> Response:
    """The weighted least-squares line through points; PLAIN if all x are nearly the same."""
    total = weights.sum()
    if total == 0:
        return PLAIN
    weights = weights / total
    x_mean = (weights * x).sum()
    y_mean = (weights * y).sum()
    variance = (weights * (x - x_mean).square()).sum()
    if variance < LEAST_VARIANCE:
        return PLAIN
    covariance = (weights * (x - x_mean) * (y - y_mean)).sum()
    slope = float(covariance / variance)
    return Response(slope, float(y_mean) - slope * float(x_mean))


def local_mean(x: Tensor, window: int = WINDOW) -> Tensor:
    """Replace every pixel by the mean of the square around it, `window` pixels wide and high."""
    return F.avg_pool2d(x, window, stride=1, padding=window // 2, count_include_pad=False)
