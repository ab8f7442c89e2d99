"""Convolution of an image with a kernel, continued at its edges.

It goes through the FFT in float64: as exact on every device and as fast for every kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(x: Tensor, kernel: Tensor, edge: str = "mirror") -> Tensor:
    """x [1, C, H, W] convolved with a kernel [k, k] of odd k; edge: one of EDGES."""
    reach = len(kernel) // 2
    padded = _continued(x.double(), reach, edge)
    size = padded.shape[2:]
    spectrum = torch.fft.rfft2(padded)
    weights = kernel.to(padded)
    kernel_spectrum = torch.fft.rfft2(weights, size)
    product = spectrum * kernel_spectrum
    y: Tensor = torch.fft.irfft2(product, size)
    corner = 2 * reach  # where the convolution no longer wraps around
    without_margins = y[..., corner:, corner:]
    return without_margins.to(x)


def _continued(x: Tensor, reach: int, edge: str) -> Tensor:
    """x with `reach` more pixels on each side."""
    if edge == "black":
        return F.pad(x, [reach] * 4)
    indices = _INDICES[edge]
    *_, height, width = x.shape
    rows = indices(height, reach)
    columns = indices(width, reach)
    taller = x.index_select(2, rows.to(x.device))
    return taller.index_select(3, columns.to(x.device))


def _mirrored(n: int, reach: int) -> Tensor:
    """Indices -reach … n - 1 + reach, folded back at 0 and n - 1: d c b | a b c d | c b a."""
    period = max(2 * (n - 1), 1)
    indices = torch.arange(-reach, n + reach, device="cpu")
    forward = indices.remainder(period)
    backward = period - forward
    return torch.minimum(forward, backward)


def _nearest(n: int, reach: int) -> Tensor:
    """Indices -reach … n - 1 + reach, held at 0 and n - 1: a a a | a b c d | d d d."""
    indices = torch.arange(-reach, n + reach, device="cpu")
    return indices.clamp(0, n - 1)


def repeated(n: int, reach: int) -> Tensor:
    """Indices -reach … n - 1 + reach, folded back before 0 and after n - 1: b a | a b c d | d c."""
    indices = torch.arange(-reach, n + reach, device="cpu")
    forward = indices.remainder(2 * n)
    backward = 2 * n - 1 - forward
    return torch.minimum(forward, backward)


# The pixels with which an image goes on beyond its edges: n pixels, and how many more on each side
_INDICES: dict[str, Callable[[int, int], Tensor]] = {"mirror": _mirrored, "nearest": _nearest}
EDGES = (*_INDICES, "black")
