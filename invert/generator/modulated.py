"""Convolution with weights that are multiplied by styles, as StyleGAN2's layers compute it.

Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", §2.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(
    x: Tensor, weight: Tensor, styles: Tensor, up: bool = False, demodulate: bool = False
) -> Tensor:
    """Convolve x [B, I, H, W] with weight [O, I, k, k] times styles [B, 1 or O, I].

    One style per layer scales the activations, and all images share the weight. Styles per filter
    need a weight per image, in one grouped convolution. demodulate: divide by the norm of each
    filter. up: enlarge the output to [B, O, 2H + 1, 2W + 1]; the filter after it trims the margin.
    """
    power = weight.square().sum((2, 3))  # [O, I], enough for the norm
    if styles.shape[1] == 1:
        modulated = x * _per_channel(styles)
        y = _ungrouped(modulated, weight, up)
        if not demodulate:
            return y
        squares = styles.square() @ power.T  # [B, 1, O]
        demodulation = (squares + 1e-8).rsqrt()
        return y * _per_channel(demodulation)
    if demodulate:
        squares = (styles.square() * power).sum(2, keepdim=True)
        styles = styles * (squares + 1e-8).rsqrt()
    weights = weight * styles[..., None, None]
    if len(x) == 1:
        return _ungrouped(x, weights[0], up)
    return _grouped(x, weights, up)


def _grouped(x: Tensor, weights: Tensor, up: bool) -> Tensor:
    """Convolve each image with its own weight: weights [B, O, I, k, k]."""
    batch, out, features, side, _ = weights.shape
    _, _, height, width = x.shape
    x = x.reshape(1, batch * features, height, width)
    if up:
        swapped = weights.transpose(1, 2)
        kernels = swapped.reshape(batch * features, out, side, side)
        y = F.conv_transpose2d(x, kernels, stride=2, groups=batch)
    else:
        kernels = weights.reshape(batch * out, features, side, side)
        y = F.conv2d(x, kernels, padding=side // 2, groups=batch)
    return y.view(batch, out, *y.shape[2:])


def _per_channel(factors: Tensor) -> Tensor:
    """[B, 1, C] → [B, C, 1, 1], factors of the channels of an image."""
    return factors.transpose(1, 2)[..., None]


def _ungrouped(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    """Convolve with one weight for all images."""
    # channels_last is faster here, but not for grouped convolutions
    x = x.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous(memory_format=torch.channels_last)
    if up:
        swapped = weight.transpose(0, 1)
        return F.conv_transpose2d(x, swapped, stride=2)
    margin = weight.shape[-1] // 2
    return F.conv2d(x, weight, padding=margin)
