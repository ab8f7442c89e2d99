"""The latent spaces of a style-based generator, from the most constrained to the freest.

W [B, w_dim] has one code for the image, W+ [B, num_ws, w_dim] one for every layer, W++
[B, num_ws, num_filters, w_dim] one for every output filter of every layer. The shape tells which.
"""

from __future__ import annotations

from torch import Tensor

SPACES = ("W", "W+", "W++")


def extend(latent: Tensor, space: str, generator) -> Tensor:
    """`latent` written in the freer `space`: the same image, more freedom."""
    if latent.ndim == 2 and space != "W":
        latent = latent[:, None].repeat(1, generator.num_ws, 1)
    if latent.ndim == 3 and space == "W++":
        latent = latent[:, :, None].repeat(1, 1, generator.num_filters, 1)
    return latent
