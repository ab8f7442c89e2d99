"""What every generator offers, and what a method may ask it for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mapping import Mapping

if TYPE_CHECKING:
    from .discriminator import Discriminator

NOISE_MODES = ("const", "random", "none")


class Generator(nn.Module):
    """From a latent to an image [B, channels, resolution, resolution] in [0, 1] units, unclamped.

    A latent lives in one of `spaces`, and `latent_shape(space)` is its shape for one image: "Z",
    what is drawn from N(0, I); "W", one style code; "W+", a code for each layer; "W++", a code for
    each output filter of each layer. A method asks for the spaces that it needs.
    """

    prior_kind = "generator"  # what methods of restoration may use it for
    resolution: int
    channels: int = 3
    z_dim: int
    c_dim: int = 0  # number of classes (or of label features), 0 without
    spaces: tuple[str, ...] = ("Z",)  # each one contains the one before, but for Z
    __call__: Callable[..., Tensor]  # for type checkers; torch says Any

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """The image of a latent of any of `spaces`. Raises ValueError for another shape or mode."""
        raise NotImplementedError

    def discriminator(self) -> Discriminator | None:
        """What it was trained against, where its file keeps it; read when it is first asked for."""
        return None

    def forward(self, latent: Tensor, **options) -> Tensor:
        return self.synthesize(latent, **options)  # so that torch.func can give it other weights

    def pack(self, latent: Tensor) -> Tensor:
        """The latent as a solver keeps it; here, as it is."""
        return latent

    def unpack(self, latent: Tensor) -> Tensor:
        return latent

    def latent_shape(self, space: str) -> tuple[int, ...]:
        """The shape of a latent for one image. Raises ValueError for a space it does not have."""
        if space not in self.spaces:
            raise ValueError(f"this generator has no {space}, only {', '.join(self.spaces)}")
        return (self.z_dim,)


class StyleGenerator(Generator):
    """A generator with a mapping from Z to style codes: W [B, w_dim] and W+ [B, num_ws, w_dim].

    One that says its `filters` takes W++ [B, num_ws, num_filters, w_dim] too; a layer of n filters
    uses the first n codes. Weights are frozen, in float32.
    """

    config: dict  # the constructor's arguments
    mapping: Mapping
    num_ws: int
    filters: tuple[int, ...] = ()  # for each layer, how many filters listen to a code of their own
    spaces = ("W", "W+")
    read_discriminator: Callable[[], Discriminator | None] | None = (
        None  # from the file that this was read from
    )

    @cached_property
    def _trained_against(self) -> Discriminator | None:
        return None if self.read_discriminator is None else self.read_discriminator()

    def discriminator(self) -> Discriminator | None:
        return self._trained_against

    @property
    def num_filters(self) -> int:
        return max(self.filters, default=0)

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

    @cached_property
    def w_std(self) -> float:
        """√(mean ‖w - w_avg‖²), from 10 000 draws: the one number that the projectors call the deviation of W."""
        w, label = self.some_w(10_000)
        return float((w - self.mapping.center(label, len(w))).square().sum(1).mean().sqrt())

    @cached_property
    def w_gaussian(self) -> tuple[Tensor, Tensor]:
        """(mean, deviation), each [w_dim], of W before its last leaky ReLU, where it is nearly Gaussian.

        From 10 000 draws. Source: Menon et al. 2020 (PULSE), §3.2.
        """
        before = F.leaky_relu(self.some_w(10_000)[0], 5)
        return before.mean(0), before.std(0)

    @torch.no_grad()
    def some_w(self, count: int, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """W [count, w_dim] of z ~ N(0, I), and the classes: of `label` [1, c_dim], else any as likely.

        Always the same draws.
        """
        draws = torch.Generator().manual_seed(0)
        z = torch.randn(count, self.z_dim, generator=draws).to(self.w_avg.device)
        if label is not None:
            label = label.expand(count, -1)
        elif self.c_dim:
            label = torch.randint(self.c_dim, (count,), generator=draws)
        return self.mapping(z, label), label

    def latent_shape(self, space: str) -> tuple[int, ...]:
        super().latent_shape(space)
        shapes = {"W": (), "W+": (self.num_ws,), "W++": (self.num_ws, self.num_filters)}
        return (*shapes[space], self.w_dim)

    def pack(self, latent: Tensor) -> Tensor:
        """A W++ without the codes of filters that do not exist, [B, sum(filters), w_dim].

        `synthesize` takes it too. A latent of another space is returned as it is.
        """
        return latent if latent.ndim < 4 else torch.cat(self._of_filters(latent), 1)

    def unpack(self, latent: Tensor) -> Tensor:
        """What `pack` was given; filters that do not exist get the code of their layer's first one."""
        if not self._is_packed(latent):
            return latent
        layers = [
            torch.cat([codes, codes[:, :1].expand(-1, self.num_filters - codes.shape[1], -1)], 1)
            for codes in latent.split(self.filters, 1)
        ]
        return torch.stack(layers, 1)

    def codes(self, latent: Tensor, noise_mode: str) -> Sequence[Tensor]:
        """The codes of every layer, each [B, 1 or its filters, w_dim]; checks the latent and the noise's name."""
        latent = latent.to(self.w_avg.dtype)
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode={noise_mode!r} must be one of {', '.join(NOISE_MODES)}")
        if self._is_packed(latent):
            return latent.split(self.filters, 1)
        shapes = [self.latent_shape(space) for space in self.spaces]
        if tuple(latent.shape[1:]) not in shapes:
            wanted = ", ".join(str(["B", *s]).replace("'", "") for s in shapes)
            raise ValueError(f"latent has shape {list(latent.shape)}; give {wanted}")
        if latent.ndim == 2:
            return [latent[:, None]] * self.num_ws
        # unbind, since a slice's gradient would fill the whole tensor each time
        return (
            [codes[:, None] for codes in latent.unbind(1)]
            if latent.ndim == 3
            else self._of_filters(latent)
        )

    def _of_filters(self, latent: Tensor) -> list[Tensor]:
        return [codes[:, :n] for codes, n in zip(latent.unbind(1), self.filters, strict=True)]

    def _is_packed(self, latent: Tensor) -> bool:
        return bool(self.filters) and tuple(latent.shape[1:]) == (sum(self.filters), self.w_dim)
