"""Faster convolutions for networks that are never trained: only their input receives a gradient."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SAME = [1, 1]
# The shortest side that uses the layout, and that `freeze` measures. On smaller images oneDNN may
# want another layout, and then it converts the weights in every call, twenty times slower.
SHORTEST_SIDE = 8


class FrozenConv(nn.Module):
    """A convolution of stride 1 and the ReLU after it, with the weights in oneDNN's own layout.

    PyTorch converts the layout in every call, which takes longer than the convolution for small
    images. Images with a side below `SHORTEST_SIDE` pass through the original layers. Raises
    RuntimeError or AttributeError if this build of PyTorch or its CPU has no such layout.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.ReLU):
        super().__init__()
        self.original = nn.Sequential(conv, activation)
        weight = conv.weight.detach()
        bias = None if conv.bias is None else conv.bias.detach()
        padding = _padding(conv)
        self.convolution = _Convolution(weight, bias, padding, "relu")
        # the gradient of the input is a convolution with the flipped weights, channels swapped
        swapped = weight.transpose(0, 1)
        flipped = swapped.flip(2, 3).contiguous()
        padding_back = []
        for kernel, margin in zip(conv.kernel_size, padding, strict=True):
            padding_back.append(kernel - 1 - margin)
        self.backward_convolution = _Convolution(flipped, None, padding_back, "none")

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < SHORTEST_SIDE:
            small: Tensor = self.original(x)
            return small
        y: Tensor = _ConvRelu.apply(x, self)
        return y


class _ConvRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, conv: FrozenConv) -> Tensor:
        y = conv.convolution(x)
        ctx.conv = conv
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        conv: FrozenConv = ctx.conv
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        return conv.backward_convolution(grad), None


class _Convolution:
    """A convolution whose weight is in oneDNN's layout. activation: "relu" or "none"."""

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: list[int], activation: str):
        reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(weight.to_mkldnn(), padding, _SAME, _SAME, 1)
        self.bias = bias
        self.padding = padding
        self.activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        stride, dilation, groups = _SAME, _SAME, 1
        parameters_of_activation: list[float] = []
        algorithm_of_activation = ""
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self.weight,
            self.bias,
            self.padding,
            stride,
            dilation,
            groups,
            self.activation,
            parameters_of_activation,
            algorithm_of_activation,
        )
        return y


def freeze(network: nn.Module) -> None:
    """Replace the network's convolutions that precede a ReLU, if that is faster on this CPU."""
    modules = list(network.modules())
    try:
        for module in modules:
            if isinstance(module, nn.Sequential):
                _freeze_sequence(module)
    except (RuntimeError, AttributeError):  # this build of PyTorch has no such layout
        return


def _freeze_sequence(sequence: nn.Sequential) -> None:
    layers = list(sequence.named_children())
    for layer, next_layer in pairwise(layers):
        name, conv = layer
        next_name, activation = next_layer
        if not isinstance(conv, nn.Conv2d):
            continue
        if not isinstance(activation, nn.ReLU):
            continue
        if not _is_plain(conv) or not _has_one_layout(conv):
            continue
        frozen = FrozenConv(conv, activation)
        if _is_usable(frozen, conv):
            setattr(sequence, name, frozen)
            setattr(sequence, next_name, nn.Identity())


def _is_usable(frozen: FrozenConv, conv: nn.Conv2d) -> bool:
    """Return whether this CPU uses the layout as it is. If not, it is twenty times slower."""
    shape = (1, conv.in_channels, SHORTEST_SIDE, SHORTEST_SIDE)
    x = torch.zeros(shape, dtype=conv.weight.dtype, device="cpu")
    x.requires_grad_()
    usual = _seconds(frozen.original, x)
    return _seconds(frozen, x) < 4 * usual


def _has_one_layout(conv: nn.Conv2d) -> bool:
    """Return whether one layout suits images of all sizes.

    It does if both channel counts are powers of two from 64 on. For 192 or 384 channels the layout
    suits large images only: a call on a small image converts the weights again, twenty times
    slower. In case another CPU does so for our sizes, `freeze` measures the time. The two times
    are so far apart that noise never changes the result between runs.
    """
    for channels in (conv.in_channels, conv.out_channels):
        power_of_two = channels & (channels - 1) == 0
        if channels < 64 or not power_of_two:
            return False
    return True


@torch.enable_grad()
def _seconds(layer: nn.Module, x: Tensor) -> float:
    """Return the shortest time of four runs, forward and backward."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        total = layer(x).sum()
        torch.autograd.grad(total, x)
        times.append(time.perf_counter() - started)
    return min(times)


def _is_plain(conv: nn.Conv2d) -> bool:
    """Return whether it has a bias and zero padding, but no stride, dilation or groups."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    if conv.bias is None or conv.groups != 1:
        return False
    if conv.stride != (1, 1) or conv.dilation != (1, 1):
        return False
    for padding, kernel in zip(conv.padding, conv.kernel_size, strict=True):
        if padding >= kernel:
            return False
    return True


def _padding(conv: nn.Conv2d) -> list[int]:
    if isinstance(conv.padding, str):
        raise ValueError(f"padding={conv.padding!r} must be numbers")
    return list(conv.padding)
