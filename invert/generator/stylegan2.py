"""StyleGAN2(-ADA): mapping and synthesis in plain torch, tensor names as in the published checkpoints.

A convolution's style may come from one code for the layer (W, W+) or from one code for each of its
output filters (W++). Both are the same line here: the styles are [B, 1 or O, I].
Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"; W++ is from
Poirier-Ginter & Lalonde 2023, §3.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOISE_MODES = ("const", "random", "none")


class StyleGAN2(nn.Module):
    """The generator. Weights are frozen; images are [B, 3, R, R] in [0, 1] units, unclamped.

    Arguments are those of the published checkpoints. `num_ws` codes of `w_dim` make a W+ latent;
    `num_filters` is the width of the widest layer, the number of codes per layer in W++.
    """

    def __init__(self, z_dim: int, w_dim: int, img_resolution: int, *, img_channels: int = 3, c_dim: int = 0,
                 mapping: dict | None = None, synthesis: dict | None = None):  # fmt: skip
        super().__init__()
        if c_dim:
            raise ValueError(f"c_dim={c_dim}: class-conditional generators are not supported yet")
        self.z_dim, self.w_dim, self.resolution = z_dim, w_dim, img_resolution
        self.mapping = Mapping(z_dim, w_dim, **(mapping or {}))
        self.synthesis = Synthesis(w_dim, img_resolution, img_channels, **(synthesis or {}))
        self.num_ws, self.num_filters = self.synthesis.num_ws, self.synthesis.num_filters
        self.eval().requires_grad_(False)

    @property
    def w_avg(self) -> Tensor:
        """Mean of W, [w_dim]."""
        return self.mapping.w_avg

    @cached_property
    def w_spread(self) -> float:
        """Mean distance ‖w - w_avg‖ of W, from 4096 fixed draws of z."""
        z = torch.randn(4096, self.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            w = self.mapping(z.to(self.w_avg.device))
        return float((w - self.w_avg).norm(dim=1).mean())

    def synthesize(self, latent: Tensor, noise_mode: str = "const",
                   generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
        """The image of a latent.

        latent: W [B, w_dim], W+ [B, num_ws, w_dim] or W++ [B, num_ws, num_filters, w_dim]; a layer
        of O filters uses the first O codes. noise_mode: "const" (the checkpoint's noise maps),
        "random" (drawn from `generator`) or "none". Raises ValueError for another shape or mode.
        """
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode={noise_mode!r} must be one of {', '.join(NOISE_MODES)}")
        tail = (self.num_ws, self.num_filters, self.w_dim)
        shapes = {2: (tail[2],), 3: (tail[0], tail[2]), 4: tail}
        if latent.ndim not in shapes or latent.shape[1:] != shapes[latent.ndim]:
            wanted = ", ".join(str(["B", *s]).replace("'", "") for s in shapes.values())
            raise ValueError(f"latent has shape {list(latent.shape)}; give {wanted}")
        codes = latent[:, None, None] if latent.ndim == 2 else latent[:, :, None] if latent.ndim == 3 else latent
        codes = codes.expand(-1, self.num_ws, -1, -1)  # [B, num_ws, 1 or N, w_dim]
        return (self.synthesis(codes, noise_mode, generator) + 1) / 2


class Linear(nn.Module):
    """Fully connected layer with the equalised learning rate of StyleGAN."""

    def __init__(self, features: int, out: int, lr_multiplier: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out, features))
        self.bias = nn.Parameter(torch.zeros(out))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class Mapping(nn.Module):
    """z [B, z_dim] → w [B, w_dim]."""

    def __init__(self, z_dim: int, w_dim: int, num_layers: int = 8, layer_features: int | None = None,
                 lr_multiplier: float = 0.01):  # fmt: skip
        super().__init__()
        self.num_layers = num_layers
        widths = [z_dim] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            self.add_module(f"fc{i}", Linear(widths[i], widths[i + 1], lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.num_layers):
            x = leaky_relu(getattr(self, f"fc{i}")(x))
        return x


class Synthesis(nn.Module):
    """Codes [B, num_ws, 1 or N, w_dim] → image [B, C, R, R], about in [-1, 1]. Skip architecture."""

    def __init__(self, w_dim: int, resolution: int, channels: int, channel_base: int = 32768, channel_max: int = 512,
                 architecture: str = "skip", conv_clamp: float | None = None, num_fp16_res: int = 0):  # fmt: skip
        super().__init__()
        if architecture != "skip":
            raise ValueError(f"architecture={architecture!r} is not supported yet; only 'skip' is")
        if resolution < 4 or resolution & (resolution - 1):
            raise ValueError(f"img_resolution={resolution} must be a power of two from 4 on")
        self.resolutions = [2**k for k in range(2, resolution.bit_length())]
        width = {r: min(channel_base // r, channel_max) for r in self.resolutions}
        for r in self.resolutions:
            block = Block(r, width.get(r // 2), width[r], w_dim, channels, conv_clamp)
            self.add_module(f"b{r}", block)
        self.num_ws = 2 * len(self.resolutions)  # one for every convolution and the last ToRGB
        self.num_filters = max(*width.values(), channels)

    def forward(self, codes: Tensor, noise_mode: str, generator: torch.Generator | None) -> Tensor:
        x = image = None
        layer, codes = 0, codes.unbind(1)  # a slice's gradient would fill the whole tensor each time
        for r in self.resolutions:
            block = getattr(self, f"b{r}")
            x, image = block(x, image, codes[layer:], noise_mode, generator)
            layer += block.num_convs
        return image


class Block(nn.Module):
    """One resolution: one or two convolutions, and what it adds to the image."""

    def __init__(self, resolution: int, features: int | None, width: int, w_dim: int, channels: int, clamp):
        super().__init__()
        self.num_convs = 1 if features is None else 2
        if features is None:
            self.const = nn.Parameter(torch.zeros(width, resolution, resolution))
        else:
            self.conv0 = StyledConv(features, width, w_dim, resolution, clamp, up=True)
        self.conv1 = StyledConv(width, width, w_dim, resolution, clamp)
        self.torgb = ToRGB(width, channels, w_dim, clamp)
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def forward(self, x: Tensor | None, image: Tensor | None, codes: tuple[Tensor, ...], noise_mode: str, generator):
        if x is None:
            x = self.const.expand(len(codes[0]), -1, -1, -1)
        else:
            x = self.conv0(x, codes[0], noise_mode, generator)
        x = self.conv1(x, codes[self.num_convs - 1], noise_mode, generator)
        rgb = self.torgb(x, codes[self.num_convs])  # the code of the next block's first convolution
        return x, rgb if image is None else upsample(image, self.resample_filter) + rgb


class StyledConv(nn.Module):
    """3×3 convolution modulated by codes, then noise, bias and leaky ReLU."""

    def __init__(self, features: int, out: int, w_dim: int, resolution: int, clamp: float | None, up: bool = False):
        super().__init__()
        self.up, self.clamp, self.out = up, clamp, out
        self.affine = Linear(w_dim, features)
        self.weight = nn.Parameter(torch.zeros(out, features, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.zeros(resolution, resolution))
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def forward(self, x: Tensor, codes: Tensor, noise_mode: str, generator: torch.Generator | None) -> Tensor:
        styles = self.affine(codes[:, : self.out])  # [B, 1 or O, I]
        power = self.weight.square().sum((2, 3))  # [O, I]; demodulation needs no more of the weights
        styles = styles * ((styles.square() * power).sum(2, keepdim=True) + 1e-8).rsqrt()
        x = convolve(x, self.weight * styles[:, :, :, None, None], self.up)
        if self.up:
            x = fir(x, self.resample_filter * 4)
        if noise_mode == "const":
            x = x + self.noise_const * self.noise_strength
        elif noise_mode == "random":
            size = (len(x), 1, *x.shape[2:])
            device = x.device if generator is None else generator.device
            noise = torch.randn(size, generator=generator, device=device).to(x)
            x = x + noise * self.noise_strength
        return clamped(leaky_relu(x + self.bias[:, None, None]), self.clamp)


class ToRGB(nn.Module):
    """1×1 convolution modulated by codes, without demodulation."""

    def __init__(self, features: int, channels: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.clamp, self.channels, self.gain = clamp, channels, 1 / math.sqrt(features)
        self.affine = Linear(w_dim, features)
        self.weight = nn.Parameter(torch.zeros(channels, features, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        styles = self.affine(codes[:, : self.channels]) * self.gain
        x = convolve(x, self.weight * styles[:, :, :, None, None])
        return clamped(x + self.bias[:, None, None], self.clamp)


def convolve(x: Tensor, weight: Tensor, up: bool = False) -> Tensor:
    """x [B, I, H, W] with a weight of its own for each image [B, O, I, k, k], as one grouped convolution.

    `up` makes the output about twice as large, [B, O, 2H + 1, 2W + 1]; the filter that follows trims it.
    """
    batch, out, features, k, _ = weight.shape
    x = x.reshape(1, batch * features, *x.shape[2:])
    if up:
        weight = weight.transpose(1, 2).reshape(batch * features, out, k, k)
        y = F.conv_transpose2d(x, weight, stride=2, groups=batch)
    else:
        y = F.conv2d(x, weight.reshape(batch * out, features, k, k), padding=k // 2, groups=batch)
    return y.view(batch, out, *y.shape[2:])


def fir(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel through the same symmetric 4×4 filter, padding 1: sides shrink by one."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=1, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size by zero insertion and the symmetric 4×4 filter."""
    channels = x.shape[1]
    return F.conv_transpose2d(x, (kernel * 4).expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)
