"""The solve: look for the latent whose image, degraded, is the observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from degrade.operator import Operator, check_image
from degrade.rng import Rng, child_seed

from . import perceptual as perceptual_net
from .generator import Generator
from .latent import extend
from .loss import RobustLoss
from .methods import Phase, phases_of
from .optim import ngd

FFHQ_SPREAD = 9.5  # mean ‖w - w_avg‖ of the FFHQ generator the learning rates were published for


@dataclass(frozen=True)
class Step:
    """What a callback sees after a step."""

    phase: Phase
    step: int  # of all `total` steps, from 1
    total: int
    loss: Tensor  # [B], before the step
    generator: Generator
    packed: Tensor  # the latent after the step; the solver's own, so look, but do not change it

    @property
    def latent(self) -> Tensor:
        return self.generator.unpack(self.packed)


@dataclass(frozen=True)
class Restoration:
    """The result of a solve."""

    image: Tensor  # [B, C, R, R], clamped to [0, 1]
    latent: Tensor
    history: Tensor  # [steps, B], the loss before each step, on the CPU
    phase_images: dict[str, Tensor]  # the image at the end of each phase, by its space


@torch.enable_grad()
def restore(observation: Tensor, operator: Operator, generator: Generator, method: str = "robust",
            seed: int | Sequence[int] = 0, callback: Callable[[Step], None] | None = None, *,
            perceptual: str = "vgg", steps: int | None = None,
            lr_scale: float | None = None) -> Restoration:  # fmt: skip
    """Search `generator`'s latent space for images that `operator` turns into `observation`.

    observation: [B, C, h, w] in [0, 1], of the generator's channels, on its device. operator: what
    a solver may assume, usually f.sample(...).approx(). seed: one for all images (each gets the
    same stream, so its result does not depend on its batch mates), or one per image. steps: in all,
    every phase shortened in proportion. lr_scale: factor of the learning rates; None takes the
    generator's `w_spread` / 9.5, FFHQ's. Raises ValueError when the operator does not lead from the
    generator's images to the observation, or the generator lacks a space that the method needs.

    Source: Poirier-Ginter & Lalonde 2023, Algorithm 1.
    """
    check_image(observation)
    batch, resolution = len(observation), generator.resolution
    shape = (batch, generator.channels, resolution, resolution)
    expected = operator.output_shape(shape)
    if tuple(observation.shape) != tuple(expected):
        raise ValueError(
            f"the observation is {list(observation.shape)}, but {operator} turns the generator's "
            f"{resolution}×{resolution} images into {list(expected)}; crop or resize it, or mend the operator"
        )
    phases = phases_of(method, steps)
    missing = sorted({phase.space for phase in phases} - set(generator.spaces))
    if missing:
        raise ValueError(
            f"method={method!r} needs {', '.join(missing)}; the generator has {', '.join(generator.spaces)}"
        )
    if lr_scale is not None and not 0 < lr_scale < math.inf:
        raise ValueError(f"lr_scale={lr_scale} must be a finite number above 0, or None")
    scale = generator.w_spread / FFHQ_SPREAD if lr_scale is None else lr_scale
    device = observation.device
    network = perceptual_net.load(perceptual, str(device), perceptual_net.fastest_dtype(device))
    loss = RobustLoss(observation.float(), operator.visible(shape), network)
    streams = _streams(seed, batch)

    latent = generator.mapping.center(None, batch).clone()
    history, images = [], {}
    total = sum(phase.steps for phase in phases)
    for phase in phases:
        latent = generator.pack(extend(latent, phase.space, generator))
        for _ in range(phase.steps):
            latent.requires_grad_()
            prediction = operator(generator.synthesize(latent), streams)
            losses = loss(prediction, Rng.of(streams, batch).child("fill"))
            (grad,) = torch.autograd.grad(losses.sum(), latent)
            latent = ngd(latent.detach(), grad, phase.lr * scale)
            history.append(losses.detach())
            if callback is not None:
                callback(Step(phase, len(history), total, history[-1], generator, latent.detach()))
        images[phase.space] = _image(generator, latent)
    stacked = torch.stack(history).cpu() if history else torch.empty(0, batch)
    return Restoration(_image(generator, latent), generator.unpack(latent), stacked, images)


def _image(generator: Generator, latent: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.synthesize(latent).clamp(0, 1)


def _streams(seed: int | Sequence[int], batch: int) -> list[torch.Generator]:
    seeds = [seed] * batch if isinstance(seed, Integral) else list(seed)
    if len(seeds) != batch:
        raise ValueError(f"seed has {len(seeds)} values for {batch} images; give one, or one per image")
    return [torch.Generator().manual_seed(child_seed(int(s), "restore")) for s in seeds]
