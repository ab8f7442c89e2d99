"""Guidance of the samplers of diffusers by an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..choice import Identity
from ..operator import Operator, compose
from ..spec import operator_of


class DiffusersGuidance:
    """Pull a sampler of diffusers towards images that f degrades to y.

    Give it to a pipeline as `callback_on_step_end`. After each step,

        latents ← latents − strength · ∇ ‖f(image) − y‖,   image = vae.decode(latents) / 2 + 1/2,

    with one norm per image. Without a `vae` the latents are the image. The gradient goes through
    the operator and the decoder, not through the denoiser, whose prediction a callback does not
    get: the image is that of the latents as they are, with the noise that remains in them.

    f: the operator, or its text. Draw what is random in it before, by `f.sample(shape, seed)`;
        stages of noise are left out.
    y: the observation [1 or B, C, H, W] in [0, 1].
    strength: the length of a step in units of the latents, at a gradient of length 1.

    Raises ValueError for packed latents, as those of Flux, and for a y of another size than f's.
    """

    tensor_inputs = ("latents",)  # what diffusers hands over

    def __init__(self, f: Operator | str, y: Tensor, strength: float = 1.0):
        if y.ndim != 4:
            raise ValueError(f"y has shape {list(y.shape)}; give [B, C, H, W]")
        self.f = _without_noise(operator_of(f))
        self.y = y
        self.strength = strength

    def __call__(
        self, pipeline: Any, step: int, timestep: object, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        latents = callback_kwargs["latents"]
        if latents.ndim != 4:
            raise ValueError(
                f"the latents have shape {list(latents.shape)}; use a pipeline whose latents are "
                "[B, C, h, w]"
            )
        gradient = self._gradient(getattr(pipeline, "vae", None), latents)
        guided = latents - self.strength * gradient
        return {**callback_kwargs, "latents": guided}

    def _gradient(self, vae: Any, latents: Tensor) -> Tensor:
        """The gradient of the distance to y in the latents."""
        with torch.enable_grad():  # a pipeline runs without gradients
            variable = latents.detach().requires_grad_()
            degraded = self.f.predict(_image_of(vae, variable).float())
            y = self.y.to(degraded)
            if y.shape[1:] != degraded.shape[1:] or len(y) not in (1, len(degraded)):
                raise ValueError(
                    f"y has shape {list(y.shape)}, but {self.f} makes {list(degraded.shape)} of "
                    "the pipeline's images"
                )
            distances = torch.linalg.vector_norm(degraded - y, dim=(1, 2, 3))
            (gradient,) = torch.autograd.grad(distances.sum(), variable)
        return gradient


def _without_noise(f: Operator) -> Operator:
    """The operator without the stages that draw at every call."""
    stages: list[Operator] = []
    for stage in f:
        if not stage.noisy:
            stages.append(stage)
        elif stage.nested:
            raise ValueError(f"{stage} holds noise; give f.sample(shape, seed), which is a chain")
    if not stages:
        return Identity()
    return compose(stages)


def _image_of(vae: Any, latents: Tensor) -> Tensor:
    """The images [B, C, H, W] in [0, 1] that the latents stand for."""
    if vae is None:
        return latents / 2 + 0.5
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled = latents / vae.config.scaling_factor + shift
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0]
    return decoded / 2 + 0.5
