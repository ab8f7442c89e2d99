"""Use any torch module that maps z to an image as a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from .base import Generator


class Wrapped(Generator):
    """The generator that `wrap` returns. Its only space is Z."""

    def __init__(self, module: nn.Module, z_shape: tuple[int, ...], low: float, high: float):
        super().__init__()
        self.module = module
        self.z_shape = z_shape
        self.z_dim = math.prod(z_shape)
        self.low = low
        self.high = high
        self.eval().requires_grad_(False)

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the image of z [B, z_dim]. `noise_mode` and `generator` have no effect."""
        if tuple(latent.shape[1:]) != (self.z_dim,):
            raise ValueError(f"latent has shape {list(latent.shape)}; give [B, {self.z_dim}]")
        image: Tensor = self.module(latent.view(-1, *self.z_shape))
        return (image - self.low) / (self.high - self.low)


def wrap(
    module: nn.Module,
    z_dim: int | None = None,
    *,
    z_shape: Sequence[int] | None = None,
    image_range: tuple[float, float] = (-1, 1),
) -> Generator:
    """Make a generator of `module`, which maps z ~ N(0, I) to square images [B, C, R, R].

    z_dim: the size of z, if the module takes [B, z_dim]. z_shape: the shape of z without the batch,
    if it is no vector, for example (100, 1, 1) for a DCGAN. image_range: the module's values of
    black and white. The module is put into eval mode and frozen. Raises ValueError if the module
    does not make such images.
    """
    shape = _shape_of_z(z_dim, z_shape)
    low, high = image_range
    if not low < high:
        raise ValueError(f"image_range={image_range} must be (black, white) with black below white")
    generator = Wrapped(module, shape, low, high)
    image = _trial_image(generator)
    if image.ndim != 4 or image.shape[2] != image.shape[3]:
        raise ValueError(
            f"the module turns z into {list(image.shape)}; it must make square images [B, C, R, R]"
        )
    _, generator.channels, generator.resolution, _ = image.shape
    return generator


def _shape_of_z(z_dim: int | None, z_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape that one of the two arguments gives. Raises ValueError for both or none."""
    if z_dim is not None and z_shape is None:
        shape: tuple[int, ...] = (z_dim,)
    elif z_dim is None and z_shape is not None:
        shape = tuple(z_shape)
    else:
        raise ValueError("give z_dim, or z_shape where z is no vector; one of the two")
    for side in shape:
        if not isinstance(side, int) or side < 1:
            raise ValueError(f"z_shape={shape} must be integers above 0")
    return shape


def _trial_image(generator: Wrapped) -> Tensor:
    """The image of z = 0. Raises ValueError if the module refuses z."""
    tensors = chain(generator.parameters(), generator.buffers())
    first = next(tensors, None)
    device = torch.device("cpu") if first is None else first.device
    z = torch.zeros(1, generator.z_dim, dtype=torch.float32, device=device)
    try:
        with torch.no_grad():
            return generator.synthesize(z)
    except Exception as error:  # the module may raise anything
        reason = " ".join(str(error).split())
        shape = ["B", *generator.z_shape]
        raise ValueError(
            f"the module does not take z of shape {shape} in float32: {reason}"
        ) from error
