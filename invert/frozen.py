"""Convolutions of networks that are never trained: weights laid out once, and a gradient to the input alone."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SAME = [1, 1]


class FrozenConv(nn.Module):
    """A convolution of stride 1 and the ReLU after it, in oneDNN's own layout of the weights.

    PyTorch lays weights out afresh in every call, which for small images takes longer than the
    convolution. Raises RuntimeError or AttributeError where this PyTorch or its CPU cannot.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = conv.weight.detach()
        self.bias, self.padding = conv.bias.detach(), list(conv.padding)
        # the gradient to the input is the convolution by the turned weights, input and output swapped
        self.padding_back = [k - 1 - p for k, p in zip(conv.kernel_size, self.padding, strict=True)]
        self.weight = _laid_out(weight, self.padding)
        self.weight_back = _laid_out(
            weight.transpose(0, 1).flip(2, 3).contiguous(), self.padding_back
        )

    def forward(self, x: Tensor) -> Tensor:
        return _ConvRelu.apply(x, self)


class _ConvRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, conv: FrozenConv) -> Tensor:
        y = _convolve(x, conv.weight, conv.bias, conv.padding, "relu")
        ctx.conv = conv
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        return _convolve(grad, ctx.conv.weight_back, None, ctx.conv.padding_back, "none"), None


def freeze(network: nn.Module) -> None:
    """Give the network's convolutions followed by a ReLU the form above, where this CPU gains by it."""
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        layers = list(sequence.named_children())
        for (name, conv), (after, relu) in zip(layers, layers[1:], strict=False):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(relu, nn.ReLU)
                and _plain(conv)
                and _even(conv)
            ):
                x = torch.zeros(
                    1, conv.in_channels, 8, 8, dtype=conv.weight.dtype, requires_grad=True
                )
                try:
                    fast = FrozenConv(conv)
                    fits = _seconds(fast, x) < 4 * _seconds(nn.Sequential(conv, relu), x)
                except (RuntimeError, AttributeError):  # another build of PyTorch: as it was
                    return
                if fits:
                    setattr(sequence, name, fast)
                    setattr(sequence, after, nn.Identity())


def _even(conv: nn.Conv2d) -> bool:
    """Whether one layout fits images of all sizes.

    It does for powers of two from 64 on. For 192 or 384 channels it fits large images only, and each
    call on a small one lays the weights out anew, twenty times slower: should another CPU do so for
    ours, a time will tell. The two are so far apart that no noise makes one run differ from the next.
    """
    return all(c >= 64 and c & (c - 1) == 0 for c in (conv.in_channels, conv.out_channels))


@torch.enable_grad()
def _seconds(layer: nn.Module, x: Tensor) -> float:
    """Forward and backward, the fastest of a few runs."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        torch.autograd.grad(layer(x).sum(), x)
        times.append(time.perf_counter() - started)
    return min(times)


def _plain(conv: nn.Conv2d) -> bool:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    ordinary = conv.stride == conv.dilation == (1, 1) and conv.groups == 1 and conv.bias is not None
    return ordinary and all(p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True))


def _laid_out(weight: Tensor, padding: list[int]) -> Tensor:
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, _SAME, _SAME, 1)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], then: str
) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, _SAME, _SAME, 1, then, [], ""
    )
