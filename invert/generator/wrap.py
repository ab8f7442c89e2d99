"""Any torch module z → image as a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import Generator


class Wrapped(Generator):
    """Made by `wrap`; has Z alone."""

    def __init__(self, module: nn.Module, z_shape: tuple[int, ...], low: float, high: float):
        super().__init__()
        self.module, self.z_shape, self.z_dim = module, z_shape, math.prod(z_shape)
        self.low, self.high = low, high
        self.eval().requires_grad_(False)

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """The image of z [B, z_dim]. noise_mode changes nothing: noise of a module's own cannot be told apart."""
        if tuple(latent.shape[1:]) != (self.z_dim,):
            raise ValueError(f"latent has shape {list(latent.shape)}; give [B, {self.z_dim}]")
        image = self.module(latent.view(-1, *self.z_shape))
        return (image - self.low) / (self.high - self.low)


def wrap(
    module: nn.Module,
    z_dim: int | None = None,
    *,
    z_shape: Sequence[int] | None = None,
    image_range: tuple[float, float] = (-1, 1),
) -> Generator:
    """A generator of `module`, which turns z ~ N(0, I) into square images [B, C, R, R].

    z_dim: of a module that takes [B, z_dim]; z_shape: of one that takes another shape, such as
    (100, 1, 1) of a DCGAN. image_range: what the module means by black and white. The module is
    put into eval mode and frozen. Raises ValueError where it does not make such images.
    """
    if (z_dim is None) == (z_shape is None):
        raise ValueError("give z_dim, or z_shape where z is no vector; one of the two")
    shape = (z_dim,) if z_shape is None else tuple(z_shape)
    if not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"z_shape={shape} must be integers above 0")
    low, high = image_range
    if not low < high:
        raise ValueError(f"image_range={image_range} must be (black, white) with black below white")
    generator = Wrapped(module, shape, low, high)
    place = next(iter([*module.parameters(), *module.buffers()]), torch.empty(0))
    try:
        with torch.no_grad():
            image = generator.synthesize(torch.zeros(1, generator.z_dim, device=place.device))
    except Exception as error:  # whatever a stranger's module raises
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the module does not take z of shape {['B', *shape]} in float32: {reason}"
        ) from error
    if image.ndim != 4 or image.shape[2] != image.shape[3]:
        raise ValueError(
            f"the module turns z into {list(image.shape)}; it must make square images [B, C, R, R]"
        )
    generator.channels, generator.resolution = image.shape[1], image.shape[2]
    return generator
