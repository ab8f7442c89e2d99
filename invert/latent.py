"""The latent spaces of a style-based generator, from the most constrained to the freest.

W [B, w_dim] has one code for the image, W+ [B, num_ws, w_dim] one for every layer, W++
[B, num_ws, num_filters, w_dim] one for every output filter of every layer. The shape tells which.
"""

from __future__ import annotations

from torch import Tensor

from .generator import Generator

SPACES = ("W", "W+", "W++")


def extend(latent: Tensor, space: str, generator: Generator) -> Tensor:
    """`latent` written in the freer `space`: the same image, more freedom.

    Raises ValueError for a space that the generator does not have.
    """
    *repeated, dim = generator.latent_shape(space)
    while latent.ndim < 2 + len(repeated):
        latent = latent.unsqueeze(-2)  # one code stands for all of the next kind
    return latent.expand(-1, *repeated, dim).clone()
