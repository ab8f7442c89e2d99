"""StyleGAN2(-ADA): synthesis in plain torch, tensor names as in the published checkpoints.

The style of a convolution comes from one code per layer (W, W+) or from one code per output filter
(W++). The same code handles both: styles are [B, 1 or O, I].
Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"; W++ is from
Poirier-Ginter & Lalonde 2023, §3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Features, StyleGenerator
from .fir import fir, upsample
from .mapping import Linear, Mapping, check_clamp, clamped, leaky_relu
from .modulated import convolve

ARCHITECTURES = ("skip", "resnet", "orig")


class StyleGAN2(StyleGenerator):
    """The generator. Its arguments are those of the published checkpoints (see `Synthesis`)."""

    spaces = ("W", "W+", "W++")

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        img_resolution: int,
        *,
        img_channels: int = 3,
        c_dim: int = 0,
        mapping: dict | None = None,
        synthesis: dict | None = None,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.resolution = img_resolution
        self.channels = img_channels
        self.config = {
            "family": "stylegan2",
            "z_dim": z_dim,
            "w_dim": w_dim,
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "c_dim": c_dim,
            "mapping": mapping or {},
            "synthesis": synthesis or {},
        }
        self.mapping = Mapping(z_dim, w_dim, c_dim=c_dim, **self.config["mapping"])
        self.synthesis = Synthesis(w_dim, img_resolution, img_channels, **self.config["synthesis"])
        self.filters = self.synthesis.filters
        self.num_ws = len(self.filters)
        self.blocks = len(self.synthesis.resolutions)
        sides = []
        for conv in self.synthesis.convs:
            if conv.noise:
                sides.append(conv.noise_const.shape[-1])
        self.noise_sides = tuple(sides)
        self.eval().requires_grad_(False)

    def tunable(self, blocks: int | None = None) -> list[str]:
        names = super().tunable()
        if blocks is None:
            return names
        sides = self.synthesis.resolutions[:blocks]
        prefixes = tuple(f"synthesis.b{side}." for side in sides)
        of_blocks = []
        for name in names:
            if name.startswith(prefixes) and ".torgb." not in name:
                of_blocks.append(name)
        return of_blocks

    def synthesize(
        self,
        latent: Tensor,
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
        *,
        noises: Sequence[Tensor] | None = None,
        start: Features | None = None,
    ) -> Tensor:
        """Return the image of a W, W+ or W++.

        noise_mode: "const" (the checkpoint's noise maps), "random" (drawn from `generator`) or
        "none". noises: maps [B or 1, 1, r, r] that replace them, one per entry of `noise_sides`.
        start: features that replace those of the first blocks. Raises ValueError for another shape
        or mode.
        """
        codes, maps = self._inputs(latent, noise_mode, generator, noises)
        _, image = self.synthesis.run(codes, maps, start)
        assert image is not None, "the last block adds to the image"
        return (image + 1) / 2

    def features(
        self,
        latent: Tensor,
        block: int,
        noises: Sequence[Tensor] | None = None,
        start: Features | None = None,
    ) -> Features:
        """Return what enters block 1 … `blocks` - 1, those of side 8, 16, …

        `synthesize(…, start=features)` continues there.
        """
        if not 0 < block < self.blocks:
            raise ValueError(f"block={block} must be 1 to {self.blocks - 1}")
        codes, maps = self._inputs(latent, "const", None, noises)
        x, image = self.synthesis.run(codes, maps, start, stop=block)
        return Features(block, x, image)

    def _inputs(
        self,
        latent: Tensor,
        noise_mode: str,
        generator: torch.Generator | None,
        noises: Sequence[Tensor] | None,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        """The codes and the noise map of every layer."""
        codes = self.codes(latent, noise_mode)
        maps: list[Tensor | None] = []
        if noises is None:
            for conv in self.synthesis.convs:
                maps.append(conv.noise_map(noise_mode, latent, generator))
            return codes, maps
        sides = [noise.shape[-1] for noise in noises]
        if tuple(sides) != self.noise_sides:
            raise ValueError(f"noises have the sides {sides}; give {self.noise_sides}")
        remaining = iter(noises)
        for conv in self.synthesis.convs:
            maps.append(next(remaining) if conv.noise else None)
        return codes, maps


class Synthesis(nn.Module):
    """Map the codes of every layer to an image [B, C, R, R], roughly in [-1, 1].

    Codes are [B, 1 or number of filters, w_dim]. widths: channels at 4, 8, …, R; by default
    min(channel_base / r, channel_max). architecture: "skip" sums up images of every resolution;
    "resnet" has a second path around each block; "orig" has neither. num_fp16_res matters for
    training and has no effect here.
    """

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "skip",
        conv_clamp: float | None = None,
        use_noise: bool = True,
        widths: Sequence[int] | None = None,
        num_fp16_res: int = 0,
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture={architecture!r} must be one of {', '.join(ARCHITECTURES)}"
            )
        power_of_two = resolution & (resolution - 1) == 0
        if not 4 <= resolution <= 65536 or not power_of_two:
            raise ValueError(f"img_resolution={resolution} must be a power of two from 4 to 65536")
        check_clamp(conv_clamp)
        self.architecture = architecture
        self.resolutions = [2**k for k in range(2, resolution.bit_length())]
        if widths is None:
            widths = [min(channel_base // side, channel_max) for side in self.resolutions]
        count = len(self.resolutions)
        if len(widths) != count:
            raise ValueError(
                f"widths={widths} must be {count} numbers, for sides 4 to {resolution}"
            )
        features: int | None = None
        for side, width in zip(self.resolutions, widths, strict=True):
            paints = architecture == "skip" or side == resolution
            block = Block(
                side,
                features,
                width,
                w_dim,
                channels if paints else 0,
                architecture,
                conv_clamp,
                use_noise,
            )
            self.add_module(f"b{side}", block)
            features = width
        self.filters = self._filters(channels)

    @property
    def convs(self) -> list[StyledConv]:
        return [module for module in self.modules() if isinstance(module, StyledConv)]

    def _filters(self, channels: int) -> tuple[int, ...]:
        """How many filters each layer has: the convolutions, and the ToRGB of the last block.

        The ToRGB of any other block shares its codes with the convolution after it.
        """
        first, *others = self.convs
        filters = [first.out]
        for conv in others:
            filters.append(max(conv.out, channels))
        return (*filters, channels)

    def run(
        self,
        codes: Sequence[Tensor],
        noises: Sequence[Tensor | None],
        start: Features | None = None,
        stop: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (features, image) after the blocks from `start` up to, but without, `stop`.

        By default these are all blocks.
        """
        x: Tensor | None = None
        image: Tensor | None = None
        first = 0
        if start is not None:
            x = start.maps
            image = start.image
            first = start.block
        layer = 0
        for number, side in enumerate(self.resolutions[:stop]):
            block = self.get_submodule(f"b{side}")
            assert isinstance(block, Block)
            if number >= first:
                x = block.features(x, codes[layer:], noises[layer:])
                image = block.paint(image, x, codes[layer:])
            layer += block.num_convs
        assert x is not None, "there is at least one block"
        return x, image


class Block(nn.Module):
    """One resolution: one or two convolutions, and an image of `channels` channels, if any."""

    resample_filter: Tensor

    def __init__(
        self,
        resolution: int,
        features: int | None,
        width: int,
        w_dim: int,
        channels: int,
        architecture: str,
        clamp: float | None,
        noise: bool,
    ):
        super().__init__()
        self.num_convs = 1 if features is None else 2
        self.skip: Skip | None = None
        if features is None:
            const = torch.zeros(width, resolution, resolution)
            self.const = nn.Parameter(const)
        else:
            self.conv0 = StyledConv(features, width, w_dim, resolution, clamp, noise, up=True)
        self.conv1 = StyledConv(width, width, w_dim, resolution, clamp, noise)
        if features is not None and architecture == "resnet":
            self.skip = Skip(features, width)
        self.torgb: ToRGB | None = None
        if channels:
            self.torgb = ToRGB(width, channels, w_dim, clamp)
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def features(
        self, x: Tensor | None, codes: Sequence[Tensor], noises: Sequence[Tensor | None]
    ) -> Tensor:
        """Return the features of this block. x: those of the block before, None for the first."""
        if x is None:
            batch = len(codes[0])
            const = self.const.expand(batch, -1, -1, -1)
            return self.conv1(const, codes[0], noises[0])
        y = self.conv0(x, codes[0], noises[0])
        if self.skip is None:
            return self.conv1(y, codes[1], noises[1])
        gain = math.sqrt(0.5)
        y = self.conv1(y, codes[1], noises[1], gain)
        return self.skip(x) * gain + y

    def paint(self, image: Tensor | None, x: Tensor, codes: Sequence[Tensor]) -> Tensor | None:
        """Return the image so far, enlarged to this resolution, plus what this block adds."""
        if image is not None:
            image = upsample(image, self.resample_filter)
        if self.torgb is None:
            return image
        code = codes[self.num_convs]  # shared with the first layer of the next block
        rgb = self.torgb(x, code)
        return rgb if image is None else image + rgb


class StyledConv(nn.Module):
    """3×3 convolution modulated by codes, then noise, bias and leaky ReLU."""

    __call__: Callable[..., Tensor]
    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        features: int,
        out: int,
        w_dim: int,
        resolution: int,
        clamp: float | None,
        noise: bool,
        up: bool = False,
    ):
        super().__init__()
        self.up = up
        self.clamp = clamp
        self.out = out
        self.noise = noise
        self.affine = Linear(w_dim, features)
        weight = torch.zeros(out, features, 3, 3)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(out))
        if noise:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.zeros(resolution, resolution))
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def noise_map(
        self, mode: str, like: Tensor, generator: torch.Generator | None
    ) -> Tensor | None:
        """Return the noise map of `mode`, for a batch like `like`. It is not scaled yet."""
        if not self.noise or mode == "none":
            return None
        if mode == "const":
            return self.noise_const
        device = like.device if generator is None else generator.device
        shape = (len(like), 1, *self.noise_const.shape)
        noise = torch.randn(shape, generator=generator, dtype=torch.float32, device=device)
        return noise.to(like)

    def forward(self, x: Tensor, codes: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        styles = self.affine(codes[:, : self.out])  # [B, 1 or O, I]
        x = convolve(x, self.weight, styles, self.up, demodulate=True)
        if self.up:
            x = fir(x, self.resample_filter * 4)
        if noise is not None:
            x = x + noise * self.noise_strength
        x = leaky_relu(x + self.bias[:, None, None])
        if gain == 1:
            return clamped(x, self.clamp)
        limit = None if self.clamp is None else self.clamp * gain
        return clamped(x * gain, limit)


class ToRGB(nn.Module):
    """1×1 convolution modulated by codes, without demodulation."""

    __call__: Callable[..., Tensor]

    def __init__(self, features: int, channels: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.clamp = clamp
        self.channels = channels
        self.gain = 1 / math.sqrt(features)
        self.affine = Linear(w_dim, features)
        weight = torch.zeros(channels, features, 1, 1)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        styles = self.affine(codes[:, : self.channels])
        x = convolve(x, self.weight, styles * self.gain)
        return clamped(x + self.bias[:, None, None], self.clamp)


class Skip(nn.Module):
    """The second path of a resnet block: a 1×1 convolution, enlarged."""

    __call__: Callable[..., Tensor]
    resample_filter: Tensor

    def __init__(self, features: int, out: int):
        super().__init__()
        self.gain = 1 / math.sqrt(features)
        weight = torch.zeros(out, features, 1, 1)
        self.weight = nn.Parameter(weight)
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight * self.gain)
        return upsample(x, self.resample_filter)
