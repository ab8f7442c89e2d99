"""DRUNet, a U-Net of residual blocks that is told the noise level.

Source: Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..checkpoint_file import fill

MULTIPLE = 8  # three layers halve the sides
SETTINGS = ("residual", "sigma_range")
PUBLISHED_RANGE = (1 / 255, 50 / 255)  # the noise levels that the published weights were trained on
_DEPTH = 3  # how many layers halve the sides


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x)))."""

    __call__: Callable[..., Tensor]

    def __init__(self, channels: int):
        super().__init__()
        first = _conv(channels, channels)
        second = _conv(channels, channels)
        self.res = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.res(x)
        return x + change


class UNetRes(nn.Module):
    """Estimate the image in a noisy image.

    channels: 3 for colour, 1 for grey. nc: the widths at full size, at 1/2, 1/4 and 1/8. nb: how
    many residual blocks there are at each size. residual: whether the output is added to the noisy
    image; the published weights do without.

    The network has no biases and only ReLUs, so it is homogeneous: D(cx, cσ) = c D(x, σ) for c > 0.
    Raises ValueError for widths that are not four.
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        channels: int = 3,
        nc: Sequence[int] = (64, 128, 256, 512),
        nb: int = 4,
        residual: bool = False,
    ):
        super().__init__()
        if len(nc) != _DEPTH + 1:
            raise ValueError(f"nc={tuple(nc)} must be four widths: one for each size")
        self.channels = channels
        self.residual = residual
        full, half, quarter, eighth = nc
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
        levels = sigma.to(x)
        if levels.ndim == 1:
            levels = levels.view(-1, 1, 1, 1)
        level_map = levels.expand(len(x), 1, *x.shape[2:])
        x1 = self.m_head(torch.cat([x, level_map], 1))
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        y = self.m_body(x4)
        y = self.m_up3(y + x4)
        y = self.m_up2(y + x3)
        y = self.m_up1(y + x2)
        output: Tensor = self.m_tail(y + x1)
        return x + output if self.residual else output


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of a DRUNet."""
    return "m_head.weight" in tensors and "m_tail.weight" in tensors


def read(tensors: Mapping[str, Tensor], config: Mapping) -> tuple[nn.Module, dict]:
    """Return the network, and the arguments of `Denoiser` for it.

    config: some of SETTINGS: residual, as `UNetRes` takes it, and sigma_range, as `Denoiser` does.
    Raises ValueError for widths that do not fit, and KeyError if tensors are missing.
    """
    widths = [tensors["m_head.weight"].shape[0]]
    for depth in range(1, _DEPTH + 1):
        widths.append(_last(tensors, f"m_down{depth}").shape[0])
    blocks = 0
    while f"m_body.{blocks}.res.0.weight" in tensors:
        blocks += 1
    channels = tensors["m_tail.weight"].shape[0]
    with torch.device("meta"):
        network = UNetRes(channels, widths, blocks, bool(config.get("residual", False)))
    fill(network, tensors)
    low, high = config.get("sigma_range", PUBLISHED_RANGE)
    options = {
        "channels": channels,
        "multiple": MULTIPLE,
        "takes_map": True,
        "sigma_range": (float(low), float(high)),
    }
    return network, options


def _last(tensors: Mapping[str, Tensor], prefix: str) -> Tensor:
    """The weight of the layer that ends a sequence: the only one that is no residual block."""
    number = 0
    while f"{prefix}.{number}.res.0.weight" in tensors:
        number += 1
    return tensors[f"{prefix}.{number}.weight"]


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResBlock(channels) for _ in range(count)]


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _shrinking(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Residual blocks, then a convolution that halves the sides."""
    layers = _blocks(inputs, blocks)
    layers.append(nn.Conv2d(inputs, outputs, 2, stride=2, bias=False))
    return nn.Sequential(*layers)


def _growing(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """A convolution that doubles the sides, then residual blocks."""
    up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Sequential(up, *_blocks(outputs, blocks))
