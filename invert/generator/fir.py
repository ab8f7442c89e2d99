"""StyleGAN2's resampling: a symmetric 4×4 filter from the checkpoint, applied to every channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fir(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel with a 4×4 kernel and padding 1, so that each side shrinks by 1."""
    channels = x.shape[1]
    weight = _per_channel(kernel, channels)
    return F.conv2d(x, weight, padding=1, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size: insert zeros, then filter."""
    channels = x.shape[1]
    gain = 4  # three quarters of the filtered pixels are zeros
    weight = _per_channel(kernel * gain, channels)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def halved(x: Tensor, kernel: Tensor) -> Tensor:
    """Halve the size: filter, then keep every second pixel."""
    channels = x.shape[1]
    weight = _per_channel(kernel, channels)
    return F.conv2d(x, weight, padding=1, stride=2, groups=channels)


def _per_channel(kernel: Tensor, channels: int) -> Tensor:
    """The weight of a grouped convolution that applies the same kernel to every channel."""
    return kernel.expand(channels, 1, 4, 4)
