"""An operator as a plug-and-play method needs it: y = A x + error, with A linear.

The linear stages of a chain make up A. Every other stage keeps the size of the image, and is taken
as its input plus an error. How large that error is, the operator itself shows on known pictures. A
curve, as of gamma, is undone before: the inverse of every stage that has one is applied to y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.knowledge import Invertible
from degrade.operator import Operator, Shape, compose

ROUNDING = 1 / 255 / 12**0.5  # the standard deviation of rounding to 8 bits
TOLERANCE = 3e-4  # of the residual, where conjugate gradients stop
ITERATIONS = 30  # of conjugate gradients, at most
SMALLEST_SIDE = 2  # of the coarsest image that missing pixels are filled from

Map = Callable[[Tensor], Tensor]
Scale = float | Tensor  # a standard deviation
Model = Callable[[Operator], Operator]  # of what a solver does not know
APPROX: Model = methodcaller("approx")


@dataclass(frozen=True)
class Response:
    """How the observations depend on the image on average: E y = slope · A x + offset.

    Noise keeps the mean, with a slope of 1. Dead pixels darken it, and clamping bends it.
    """

    slope: float = 1.0
    offset: float = 0.0

    def undone(self, y: Tensor) -> Tensor:
        """An observation whose mean is A x."""
        return y if self == PLAIN else (y - self.offset) / self.slope


PLAIN = Response()


@dataclass(frozen=True)
class LinearModel:
    """The equation y = A x + error for images that share A.

    observation: y [B, C, h, w]. linear: A; None for the identity. shape: of x.
    """

    observation: Tensor
    linear: Operator | None
    shape: Shape

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return x if self.linear is None else self.linear(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return y if self.linear is None else self.linear.adjoint(y, self.shape)

    def shown(self) -> Tensor:
        """1 for each value of the observation that shows some of the image, 0 for hidden pixels."""
        sums = self.forward(self.observation.new_ones(self.shape))
        return (sums != 0).to(sums)

    def first_guess(self) -> Tensor:
        """An image that fits the observation roughly; pixels without one come from around them."""
        y = self.observation
        weight = self.adjoint(torch.ones_like(y)).clamp_min(0)
        return filled(self.adjoint(y), weight)

    def nearest(self, x0: Tensor, prior_sigma: Scale, error_sigma: Scale) -> Tensor:
        """The proximal point: argmin ‖y − A x‖² / error_sigma² + ‖x − x0‖² / prior_sigma².

        Both scales are numbers, or one per image [B, 1, 1, 1]. Solved by conjugate gradients,
        preconditioned with the row sums of AᵀA.
        """
        data_weight = error_sigma**-2
        prior_weight = prior_sigma**-2
        residual = data_weight * self.adjoint(self.observation - self.forward(x0))
        row_sums = self.adjoint(self.forward(torch.ones_like(x0)))
        preconditioner = data_weight * row_sums.clamp_min(0) + prior_weight

        def hessian(v: Tensor) -> Tensor:
            return data_weight * self.adjoint(self.forward(v)) + prior_weight * v

        return x0 + conjugate_gradients(hessian, residual, preconditioner)


def linear_model(operator: Operator, y: Tensor, response: Response = PLAIN) -> LinearModel:
    """The model of observations y [B, C, h, w], all by the same operator.

    response: of y to the image, which is undone after the curves.
    Raises ValueError for a stage that changes the size of the image without being linear.
    """
    image_shape = tuple(operator.input_shape(y.shape))
    linear_stages = []
    shape = image_shape
    for stage in operator:
        output = tuple(stage.output_shape(shape))
        if stage.linear:
            linear_stages.append(stage)
        elif output != shape:
            raise ValueError(
                f"{stage} changes the size of the image and is not linear, so that only dps, "
                "reddiff and daps-original can use a denoiser here; sample it, or use one of "
                "these, or a generator"
            )
        shape = output
    for stage in reversed(list(operator)):
        if not stage.linear and isinstance(stage, Invertible):
            y = stage.inverse(y)
    linear = compose(linear_stages) if linear_stages else None
    return LinearModel(response.undone(y), linear, image_shape)


def with_known_filters(operator: Operator, shape: Shape, approximate: Model = APPROX) -> Operator:
    """What a method for denoisers may assume: filters and laws of noise are known, draws are not.

    `approximate` models stages that hold random draws, such as the places of dead pixels. The
    others stay as they are. The filter of a reduction is not replaced by a mean, nor Poisson's law
    by the Gaussian that has a gradient, whose mean is lower by half a photon. shape: of the image.
    """
    stages: list[Operator] = []
    for stage in operator:
        output = tuple(stage.output_shape(shape))
        resizes = stage.linear and output != shape
        is_known = resizes or not (stage.nested or holds_draws(stage))
        stages.extend(stage if is_known else approximate(stage))
        shape = output
    return compose(stages)


def holds_draws(stage: Operator) -> bool:
    """Whether an operator was sampled, so that the seed of its random draws is a parameter."""
    return getattr(stage, "seed", None) is not None


def filled(values: Tensor, weight: Tensor) -> Tensor:
    """Divide by the weights; where they are 0, interpolate from coarser and coarser images.

    values: [B, C, H, W], sums with `weight` [B, C, H, W], at least 0. Known as push-pull.
    """
    known = weight.clamp(0, 1)
    mean = values / weight.clamp_min(1e-6)
    if min(values.shape[2:]) <= SMALLEST_SIDE:
        total = (known * mean).sum((2, 3), keepdim=True)
        return (total / known.sum((2, 3), keepdim=True).clamp_min(1e-6)).expand_as(values)
    coarse_weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse_values = F.avg_pool2d(known * mean, 2, ceil_mode=True)
    coarse = filled(coarse_values, coarse_weight)
    around = F.interpolate(coarse, size=values.shape[2:], mode="bilinear", align_corners=False)
    return known * mean + (1 - known) * around


def conjugate_gradients(hessian: Map, target: Tensor, preconditioner: Tensor) -> Tensor:
    """Solve hessian(x) = target for each image of a batch; hessian is symmetric and positive.

    An image that has converged stays as it is, so no image depends on the others.
    """
    x = torch.zeros_like(target)
    residual = target.clone()
    scaled = residual / preconditioner
    direction = scaled.clone()
    product = dot(residual, scaled)
    enough = TOLERANCE**2 * product
    for _ in range(ITERATIONS):
        unfinished = product > enough
        if not unfinished.any():
            break
        image = hessian(direction)
        step = torch.where(unfinished, product / dot(direction, image), 0.0)
        x = x + step * direction
        residual = residual - step * image
        scaled = residual / preconditioner
        next_product = dot(residual, scaled)
        ratio = torch.where(unfinished, next_product / product, 0.0)
        direction = torch.where(unfinished, scaled + ratio * direction, direction)
        product = torch.where(unfinished, next_product, product)
    return x


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each image of a batch with its partner, [B, 1, 1, 1]."""
    return (a * b).sum((1, 2, 3), keepdim=True)
