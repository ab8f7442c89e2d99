"""StyleGAN2's resampling: a symmetric 4×4 filter from the checkpoint, applied to every channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fir(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel with padding 1. The sides shrink by one."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=1, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size: insert zeros, then filter."""
    channels = x.shape[1]
    return F.conv_transpose2d(
        x, (kernel * 4).expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels
    )


def halved(x: Tensor, kernel: Tensor) -> Tensor:
    """Halve the size: filter, then keep every second pixel."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=1, stride=2, groups=channels)
