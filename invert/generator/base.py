"""What every generator offers, and what a method may ask it for."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from .mapping import Mapping

NOISE_MODES = ("const", "random", "none")


class Generator(nn.Module):
    """From a latent to an image [B, channels, resolution, resolution] in [0, 1] units, unclamped.

    A latent lives in one of `spaces`, and `latent_shape(space)` is its shape for one image: "Z",
    what is drawn from N(0, I); "W", one style code; "W+", a code for each layer; "W++", a code for
    each output filter of each layer. A method asks for the spaces that it needs.
    """

    resolution: int
    channels: int = 3
    z_dim: int
    c_dim: int = 0  # number of classes (or of label features), 0 without
    spaces: tuple[str, ...] = ("Z",)  # each one contains the one before, but for Z

    def synthesize(self, latent: Tensor, noise_mode: str = "const",
                   generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
        """The image of a latent of any of `spaces`. Raises ValueError for another shape or mode."""
        raise NotImplementedError

    def latent_shape(self, space: str) -> tuple[int, ...]:
        """The shape of a latent for one image. Raises ValueError for a space it does not have."""
        if space not in self.spaces:
            raise ValueError(f"this generator has no {space}, only {', '.join(self.spaces)}")
        return (self.z_dim,)


class StyleGenerator(Generator):
    """A generator with a mapping from Z to style codes: W [B, w_dim] and W+ [B, num_ws, w_dim].

    One with `num_filters`, the width of its widest layer, takes W++ [B, num_ws, num_filters, w_dim]
    too; a layer of O filters uses the first O codes. Weights are frozen, in float32.
    """

    mapping: Mapping
    num_ws: int
    num_filters: int = 0
    spaces = ("W", "W+")

    @property
    def w_dim(self) -> int:
        return self.mapping.w_dim

    @property
    def w_avg(self) -> Tensor:
        """Mean of W, [w_dim]; [c_dim, w_dim] where there is one for each class."""
        return self.mapping.w_avg

    @cached_property
    def w_spread(self) -> float:
        """Mean distance ‖w - w_avg‖ of W, from 4096 draws."""
        w, label = self.some_w(4096)
        return float((w - self.mapping.center(label, len(w))).norm(dim=1).mean())

    @torch.no_grad()
    def some_w(self, count: int) -> tuple[Tensor, Tensor | None]:
        """W [count, w_dim] of z ~ N(0, I), and the classes, any as likely; always the same draws."""
        draws = torch.Generator().manual_seed(0)
        z = torch.randn(count, self.z_dim, generator=draws).to(self.w_avg.device)
        label = torch.randint(self.c_dim, (count,), generator=draws) if self.c_dim else None
        return self.mapping(z, label), label

    def latent_shape(self, space: str) -> tuple[int, ...]:
        super().latent_shape(space)
        shapes = {"W": (), "W+": (self.num_ws,), "W++": (self.num_ws, self.num_filters)}
        return (*shapes[space], self.w_dim)

    def codes(self, latent: Tensor, noise_mode: str) -> Tensor:
        """The latent as [B, num_ws, 1 or num_filters, w_dim]; checks it and the noise's name."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode={noise_mode!r} must be one of {', '.join(NOISE_MODES)}")
        shapes = [self.latent_shape(space) for space in self.spaces]
        if tuple(latent.shape[1:]) not in shapes:
            wanted = ", ".join(str(["B", *s]).replace("'", "") for s in shapes)
            raise ValueError(f"latent has shape {list(latent.shape)}; give {wanted}")
        if latent.ndim == 2:
            return latent[:, None, None].expand(-1, self.num_ws, -1, -1)
        return latent[:, :, None] if latent.ndim == 3 else latent
