"""The generator protocol: what every generator offers, and the capabilities it may declare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..axes import Axes
from ..draws import integers, normal
from ..hub import HubPrior
from .mapping import Mapping

if TYPE_CHECKING:
    from .discriminator import Discriminator

NOISE_MODES = ("const", "random", "none")


@dataclass(frozen=True)
class Features:
    """What enters a block of the synthesis, so that a search can start there.

    block: the number of the block. maps: feature maps [B, F, r, r]. image: the image that the
    earlier blocks have summed up, or None.
    """

    block: int
    maps: Tensor
    image: Tensor | None


class Generator(HubPrior):
    """Map a latent to an image [B, channels, resolution, resolution] in [0, 1] units, unclamped.

    A latent lives in one of `spaces`, and `latent_shape(space)` is its shape for one image: "Z",
    drawn from N(0, I); "W", one style code; "W+", one code per layer; "W++", one code per output
    filter of each layer.

    A subclass declares what else a method may use. A generator that has none of it keeps the
    defaults:

    blocks: how many blocks the synthesis has. With blocks, `features` returns what enters a block,
    and `synthesize(…, start=features)` continues there.
    noise_sides: the sides of the noise maps, in the order in which they are added. With noise maps,
    `synthesize(…, noises=maps)` replaces them.
    tunable: the names of the weights that weight tuning may change.
    """

    prior_kind = "generator"  # what methods of restoration may use it for
    resolution: int
    channels: int = 3
    z_dim: int
    c_dim: int = 0  # number of classes (or of label features); 0 if the generator has none
    spaces: tuple[str, ...] = ("Z",)  # each space contains the one before it, except after Z
    blocks: int = 0
    noise_sides: tuple[int, ...] = ()
    __call__: Callable[..., Tensor]  # for type checkers, since torch declares Any

    def suited_to(self, images: Tensor) -> Generator:
        """The generator for observations [B, C, h, w]: this one."""
        return self

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the image of a latent from any of `spaces`.

        noise_mode: "const" uses the noise maps of the checkpoint, "random" draws them from
        `generator`, "none" leaves them out. Raises ValueError for another shape or mode.
        """
        raise NotImplementedError

    def features(
        self,
        latent: Tensor,
        block: int,
        noises: Sequence[Tensor] | None = None,
        start: Features | None = None,
    ) -> Features:
        """Return what enters `block`, a number from 1 to `blocks` - 1.

        Raises ValueError for another number, or if the generator has no blocks.
        """
        raise ValueError("this generator cannot go on from features within it; StyleGAN2 can")

    def tunable(self, blocks: int | None = None) -> list[str]:
        """Return the names of the parameters that weight tuning may change.

        blocks: restrict them to the first blocks of the synthesis, without the layers that paint
        the image. None means all blocks. A generator without blocks ignores it.
        """
        return [name for name, _ in self.named_parameters()]

    def discriminator(self) -> Discriminator | None:
        """Return the discriminator that the generator was trained with, if its file contains it."""
        return None

    def forward(self, latent: Tensor, **options) -> Tensor:
        """Call `synthesize`, so that `torch.func.functional_call` can replace the weights."""
        return self.synthesize(latent, **options)

    def pack(self, latent: Tensor) -> Tensor:
        """Return the latent in the form that a solver optimises. Here it is unchanged."""
        return latent

    def unpack(self, latent: Tensor) -> Tensor:
        """Undo `pack`."""
        return latent

    def latent_shape(self, space: str) -> tuple[int, ...]:
        """Return the shape of a latent for one image.

        Raises ValueError for a space that the generator does not have.
        """
        if space not in self.spaces:
            raise ValueError(f"this generator has no {space}, only {', '.join(self.spaces)}")
        return (self.z_dim,)


class StyleGenerator(Generator):
    """A generator that maps Z to style codes: W [B, w_dim] and W+ [B, num_ws, w_dim].

    A subclass that declares `filters` also takes W++ [B, num_ws, num_filters, w_dim]; a layer of n
    filters uses the first n codes. Weights are frozen and float32. Statistics of W are computed
    once and follow the generator to another device or dtype.
    """

    config: dict  # the constructor's arguments
    mapping: Mapping
    num_ws: int
    filters: tuple[int, ...] = ()  # per layer, how many filters have a code of their own in W++
    spaces: tuple[str, ...] = ("W", "W+")
    read_discriminator: Callable[[], Discriminator | None] | None = None  # set by load_generator

    @cached_property
    def _file_discriminator(self) -> Discriminator | None:
        if self.read_discriminator is None:
            return None
        return self.read_discriminator()

    def discriminator(self) -> Discriminator | None:
        discriminator = self._file_discriminator
        return None if discriminator is None else discriminator.to(self.w_avg)

    def save(self, path: str | Path) -> None:
        """Write the generator as .safetensors, as `save_generator` does."""
        from .checkpoint import save_generator

        save_generator(self, path)

    def tunable(self, blocks: int | None = None) -> list[str]:
        names = super().tunable(blocks)
        return [name for name in names if not name.startswith("mapping.")]

    @property
    def num_filters(self) -> int:
        return max(self.filters, default=0)

    @property
    def w_dim(self) -> int:
        return self.mapping.w_dim

    @property
    def w_avg(self) -> Tensor:
        """Mean of W, [w_dim]; [c_dim, w_dim] if every class has its own mean."""
        return self.mapping.w_avg

    @cached_property
    def w_spread(self) -> float:
        """Mean distance ‖w - w_avg‖ over W, from 4096 draws."""
        distances = self._offsets(4096).norm(dim=1)
        return float(distances.mean())

    @cached_property
    def w_std(self) -> float:
        """√(mean ‖w - w_avg‖²) from 10 000 draws, which the projectors call the deviation of W."""
        square_distances = self._offsets(10_000).square().sum(1)
        return float(square_distances.mean().sqrt())

    @property
    def w_axes(self) -> Axes:
        """The principal axes of W, from 10 000 draws."""
        axes = self._w_axes
        return Axes(axes.directions.to(self.w_avg), axes.variances.to(self.w_avg))

    @cached_property
    def _w_axes(self) -> Axes:
        with torch.inference_mode(False):  # as below
            w, _ = self.some_w(10_000)
            return Axes.of(w)

    @property
    def w_gaussian(self) -> tuple[Tensor, Tensor]:
        """(mean, deviation), each [w_dim], of W before its last leaky ReLU.

        There W is nearly Gaussian. Estimated from 10 000 draws.
        Source: Menon et al. 2020 (PULSE), §3.2.
        """
        mean, deviation = self._w_gaussian
        mean = mean.to(self.w_avg)
        deviation = deviation.to(self.w_avg)
        return mean, deviation

    @cached_property
    def _w_gaussian(self) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False):  # a cached inference tensor could not enter autograd
            w, _ = self.some_w(10_000)
            before = F.leaky_relu(w, 5)
            return before.mean(0), before.std(0)

    def _offsets(self, count: int) -> Tensor:
        """w - w_avg of `count` draws, [count, w_dim]."""
        w, label = self.some_w(count)
        return w - self.mapping.center(label, count)

    @torch.no_grad()
    def some_w(self, count: int, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return W [count, w_dim] of z ~ N(0, I), and the labels that were used.

        The draws are always the same. label: [1, c_dim]; without it, a conditional generator draws
        every class with equal probability.
        """
        draws = torch.Generator().manual_seed(0)
        z = normal((count, self.z_dim), draws)
        z = z.to(self.w_avg.device)
        if label is not None:
            label = label.expand(count, -1)
        elif self.c_dim:
            label = integers(self.c_dim, (count,), draws)
        return self.mapping(z, label), label

    def latent_shape(self, space: str) -> tuple[int, ...]:
        super().latent_shape(space)
        shapes = {
            "W": (self.w_dim,),
            "W+": (self.num_ws, self.w_dim),
            "W++": (self.num_ws, self.num_filters, self.w_dim),
        }
        return shapes[space]

    def pack(self, latent: Tensor) -> Tensor:
        """Drop the codes of a W++ that belong to no filter: [B, sum(filters), w_dim].

        `synthesize` takes this form, too. A latent of another space is returned unchanged.
        """
        if latent.ndim < 4:
            return latent
        return torch.cat(self._codes_of_filters(latent), 1)

    def unpack(self, latent: Tensor) -> Tensor:
        """Undo `pack`. Missing codes are filled with the first code of their layer."""
        if not self._is_packed(latent):
            return latent
        layers = []
        for codes in latent.split(self.filters, 1):
            missing = self.num_filters - codes.shape[1]
            first = codes[:, :1]
            filling = first.expand(-1, missing, -1)
            layers.append(torch.cat([codes, filling], 1))
        return torch.stack(layers, 1)

    def codes(self, latent: Tensor, noise_mode: str) -> Sequence[Tensor]:
        """Return the codes of every layer, each [B, 1 or number of filters, w_dim].

        Raises ValueError for a latent of another shape, or an unknown noise mode.
        """
        latent = latent.to(self.w_avg.dtype)
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode={noise_mode!r} must be one of {', '.join(NOISE_MODES)}")
        if self._is_packed(latent):
            packed: Sequence[Tensor] = latent.split(self.filters, 1)
            return packed
        self._check_shape(latent)
        if latent.ndim == 2:
            return [latent[:, None]] * self.num_ws
        if latent.ndim == 4:
            return self._codes_of_filters(latent)
        # unbind, because the gradient of a slice would fill the whole tensor each time
        return [codes[:, None] for codes in latent.unbind(1)]

    def _check_shape(self, latent: Tensor) -> None:
        """Raise ValueError unless the latent belongs to one of `spaces`."""
        shapes = [self.latent_shape(space) for space in self.spaces]
        if tuple(latent.shape[1:]) in shapes:
            return
        expected = []
        for shape in shapes:
            sides = ", ".join(map(str, shape))
            expected.append(f"[B, {sides}]")
        raise ValueError(f"latent has shape {list(latent.shape)}; give {', '.join(expected)}")

    def _codes_of_filters(self, latent: Tensor) -> list[Tensor]:
        """For every layer the codes [B, number of filters, w_dim] that it uses."""
        layers = []
        for codes, count in zip(latent.unbind(1), self.filters, strict=True):
            layers.append(codes[:, :count])
        return layers

    def _is_packed(self, latent: Tensor) -> bool:
        if not self.filters:
            return False
        packed_shape = (sum(self.filters), self.w_dim)
        return tuple(latent.shape[1:]) == packed_shape
