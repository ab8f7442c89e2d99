"""DRUNet, a U-Net of residual blocks whose input contains the noise level.

Source: Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior". The scales
that `sigma_data` stands for are those of Karras et al. 2022, "Elucidating the Design Space of
Diffusion-Based Generative Models" (EDM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..checkpoint_file import fill

Weights = Mapping[str, Tensor]
MULTIPLE = 8  # three layers halve the sides
SETTINGS = ("residual", "sigma_data", "sigma_range", "upright")
PUBLISHED_RANGE = (1 / 255, 50 / 255)  # the noise levels that the published weights were trained on
_DEPTH = 3  # how many layers halve the sides


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x)))."""

    __call__: Callable[..., Tensor]

    def __init__(self, channels: int):
        super().__init__()
        first = _conv(channels, channels)
        second = _conv(channels, channels)
        self.res = nn.Sequential(first, nn.ReLU(inplace=True), second)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.res(x)
        return change.add_(x)  # in place, as ReLU: feature maps of a large photo fill the memory


class UNetRes(nn.Module):
    """Estimate the image in a noisy image.

    channels: 3 for colour, 1 for grey. nc: the widths at full size, at 1/2, 1/4 and 1/8. nb: how
    many residual blocks there are at each size. residual: whether the output is added to the noisy
    image. The published weights are used without it. sigma_data: the standard deviation of pixels
    of clean images, for a network F that also removes noise far above 1. With s = σ_data and
    c = 1/√(s² + σ²), the estimate is then

        D(x, σ) = ½ + (cs)² (x − ½) + s F(c (x − ½), cσ)

    so that the input of F always has about unit size. Without `sigma_data` the network has no
    biases and only ReLUs, so it is homogeneous: D(ax, aσ) = a D(x, σ) for a > 0.
    Raises ValueError for widths that are not four, and for `residual` together with `sigma_data`.
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        channels: int = 3,
        nc: Sequence[int] = (64, 128, 256, 512),
        nb: int = 4,
        residual: bool = False,
        sigma_data: float | None = None,
    ):
        super().__init__()
        if len(nc) != _DEPTH + 1:
            raise ValueError(f"nc={tuple(nc)} must be four widths: one for each size")
        if sigma_data is not None and (residual or not 0 < sigma_data < math.inf):
            raise ValueError(
                f"sigma_data={sigma_data} must be above 0, and the network not residual"
            )
        full, half, quarter, eighth = nc
        self.channels = channels
        self.widths = (full, half, quarter, eighth)
        self.blocks = nb
        self.residual = residual
        self.sigma_data = sigma_data
        self.m_head = _conv(channels + 1, full)
        self.m_down1 = _shrinking(full, half, nb)
        self.m_down2 = _shrinking(half, quarter, nb)
        self.m_down3 = _shrinking(quarter, eighth, nb)
        self.m_body = nn.Sequential(*_blocks(eighth, nb))
        self.m_up3 = _growing(eighth, quarter, nb)
        self.m_up2 = _growing(quarter, half, nb)
        self.m_up1 = _growing(half, full, nb)
        self.m_tail = _conv(full, channels)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised image.

        x: [B, C, H, W] in [0, 1] units, with sides that are multiples of 8. sigma: the standard
        deviation of the noise in the same units, [B] or a map [B, 1, H, W].
        """
        level = sigma.to(x)
        if level.ndim == 1:
            level = level.view(-1, 1, 1, 1)
        if self.sigma_data is not None:
            scale = (self.sigma_data**2 + level.square()).rsqrt()
            share = self.sigma_data * scale
            centred = x - 0.5
            change = self._output(scale * centred, scale * level)
            return 0.5 + share.square() * centred + self.sigma_data * change
        output = self._output(x, level)
        return x + output if self.residual else output

    def _output(self, x: Tensor, level: Tensor) -> Tensor:
        """The network itself. level: [B, 1, 1, 1] or [B, 1, H, W]."""
        batch, _, height, width = x.shape
        level_map = level.expand(batch, 1, height, width)
        image_and_level = torch.cat([x, level_map], 1)
        full = self.m_head(image_and_level)
        half = self.m_down1(full)
        quarter = self.m_down2(half)
        eighth = self.m_down3(quarter)
        y = self.m_body(eighth)
        y = self.m_up3(y + eighth)
        y = self.m_up2(y + quarter)
        y = self.m_up1(y + half)
        output: Tensor = self.m_tail(y + full)
        return output


def recognises(tensors: Weights) -> bool:
    """Whether these are the names of a DRUNet."""
    return "m_head.weight" in tensors and "m_tail.weight" in tensors


def read(tensors: Weights, config: Mapping) -> tuple[nn.Module, dict]:
    """Return the network, and the arguments of `Denoiser` for it.

    config: some of SETTINGS: residual and sigma_data, as `UNetRes` takes them, and sigma_range and
    upright, as `Denoiser` does. By default, a network with sigma_data is upright.
    Raises ValueError for widths that do not fit, and KeyError if tensors are missing.
    """
    widths = [_outputs(tensors, "m_head")]
    for depth in range(1, _DEPTH + 1):
        stage = f"m_down{depth}"
        last_layer = _count_blocks(tensors, stage)  # it comes after the residual blocks
        widths.append(_outputs(tensors, f"{stage}.{last_layer}"))
    channels = _outputs(tensors, "m_tail")
    blocks = _count_blocks(tensors, "m_body")
    residual = bool(config.get("residual", False))
    sigma_data = config.get("sigma_data")
    if sigma_data is not None:
        sigma_data = float(sigma_data)
    with torch.device("meta"):
        network = UNetRes(channels, widths, blocks, residual, sigma_data)
    fill(network, tensors)
    low, high = config.get("sigma_range", PUBLISHED_RANGE)
    options = {
        "channels": channels,
        "multiple": MULTIPLE,
        "upright": bool(config.get("upright", sigma_data is not None)),
        "takes_map": True,
        "sigma_range": (float(low), float(high)),
    }
    return network, options


def _outputs(tensors: Weights, layer: str) -> int:
    """How many channels leave a layer."""
    return tensors[f"{layer}.weight"].shape[0]


def _count_blocks(tensors: Weights, stage: str) -> int:
    """How many residual blocks a stage has."""
    count = 0
    while f"{stage}.{count}.res.0.weight" in tensors:
        count += 1
    return count


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResBlock(channels) for _ in range(count)]


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _shrinking(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Residual blocks, then a convolution that halves the sides."""
    down = nn.Conv2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Sequential(*_blocks(inputs, blocks), down)


def _growing(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """A convolution that doubles the sides, then residual blocks."""
    up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Sequential(up, *_blocks(outputs, blocks))
