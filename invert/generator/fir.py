"""StyleGAN2's resampling: every channel through the same symmetric 4×4 filter, which the checkpoint holds."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fir(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel through the same symmetric 4×4 filter, padding 1: sides shrink by one."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=1, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size by zero insertion and the symmetric 4×4 filter."""
    channels = x.shape[1]
    return F.conv_transpose2d(
        x, (kernel * 4).expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels
    )


def halved(x: Tensor, kernel: Tensor) -> Tensor:
    """Through the symmetric 4×4 filter, and every second pixel."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=1, stride=2, groups=channels)
