"""The U-Net of diffusion models: residual blocks, attention, and skips from the inputs to outputs.

Its structure is read off the names and shapes of its tensors. What they do not show is in
`Settings`. `guided` and `diffusers` rename the tensors of two code bases to the names used here.
Source: Ho et al. 2020; Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
Tensors = dict[str, Tensor]
Names = Mapping[str, str]  # old name: new name, both without .weight and .bias
_LONGEST_PERIOD = 10_000
_MOST_HALVINGS = 10


@dataclass(frozen=True)
class Settings:
    """What the shapes of the tensors do not show.

    groups, eps: of the group normalisation. head_width: the channels of one attention head; None:
    `heads` says how many heads there are. cosine_first: whether the embedding of the time has its
    cosines before its sines. frequency_shift: the last frequency is 10000^(-(h-1)/(h-shift)) with h
    frequencies. down_padding: 1 pads all sides before a convolution halves them, 0 pads the right
    and the bottom only.
    """

    groups: int = 32
    eps: float = 1e-5
    head_width: int | None = 64
    heads: int = 1
    cosine_first: bool = True
    frequency_shift: float = 0
    down_padding: int = 1

    def heads_of(self, channels: int) -> int:
        """How many heads attention over so many channels has."""
        divisor = self.heads if self.head_width is None else self.head_width
        quotient, rest = divmod(channels, divisor)
        if rest or not quotient:
            raise ValueError(
                f"{channels} channels cannot be split into attention heads; give the right "
                f"head_width (it is {self.head_width}) or heads (it is {self.heads})"
            )
        return self.heads if self.head_width is None else quotient

    def norm(self, channels: int) -> nn.GroupNorm:
        """The group normalisation of so many channels."""
        return nn.GroupNorm(self.groups, channels, self.eps)


class Conv(nn.Conv2d):
    """A convolution that does not use the embedding."""

    def __init__(self, weights: Weights, settings: Settings):
        inputs, outputs = _convolution(weights, "")
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        return super().forward(x)


class Down(nn.Module):
    """A convolution that halves the sides."""

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        self.padding = settings.down_padding
        inputs, outputs = _convolution(weights, "conv.")
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=self.padding)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.padding == 0:
            x = F.pad(x, (0, 1, 0, 1))
        halved: Tensor = self.conv(x)
        return halved


class Up(nn.Module):
    """Double the sides by repeating pixels, then a convolution."""

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        inputs, outputs = _convolution(weights, "conv.")
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        result: Tensor = self.conv(doubled(x))
        return result


def halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def unchanged(x: Tensor) -> Tensor:
    return x


class ResBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x))) ⊕ embedding))).

    ⊕ adds the embedding before the second norm; if it has twice the channels, it scales and shifts
    the result of the norm instead.
    """

    resize: Callable[[Tensor], Tensor] = staticmethod(unchanged)

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        inputs, outputs = _convolution(weights, "conv1.")
        self.norm1 = settings.norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.emb = _linear(weights, "emb.")
        self.norm2 = settings.norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1)
        self.scales = self.emb.out_features == 2 * outputs

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        change = F.silu(self.norm1(x))
        change = self.conv1(self.resize(change))
        modulation = self.emb(F.silu(embedding))
        modulation = modulation[:, :, None, None]
        if self.scales:
            scale, shift = modulation.chunk(2, 1)
            change = self.norm2(change) * (1 + scale) + shift
        else:
            change = self.norm2(change + modulation)
        change = self.conv2(F.silu(change))
        result: Tensor = self.skip(self.resize(x)) + change
        return result


class Shrink(ResBlock):
    """A residual block that halves the sides."""

    resize = staticmethod(halved)


class Grow(ResBlock):
    """A residual block that doubles the sides."""

    resize = staticmethod(doubled)


class Attention(nn.Module):
    """x + self-attention between all positions.

    The rows of `qkv` are queries, keys and values, each of them head by head.
    """

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        channels = weights["out.weight"].shape[0]
        self.heads = settings.heads_of(channels)
        self.norm: nn.Module = nn.Identity()
        if "norm.weight" in weights:
            self.norm = settings.norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        count = height * width
        positions = self.norm(x).flatten(2)
        positions = positions.transpose(1, 2)  # [B, positions, C]
        parts = self.qkv(positions)
        parts = parts.view(batch, count, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        joined_heads = attended.transpose(1, 2).flatten(2)
        change = self.out(joined_heads)
        result: Tensor = x + change.transpose(1, 2).view(x.shape)
        return result


MakeLayer = Callable[[Weights, Settings], nn.Module]
LAYERS: dict[str, MakeLayer] = {
    "conv": Conv,
    "block": ResBlock,
    "attention": Attention,
    "down": Down,
    "shrink": Shrink,
    "up": Up,
    "grow": Grow,
}


class Step(nn.Module):
    """Some of LAYERS, one after the other."""

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        for name, layer in LAYERS.items():
            part = branch(weights, f"{name}.")
            if part:
                self.add_module(name, layer(part, settings))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x, embedding)
        return x


class UNet(nn.Module):
    """The network with these tensors (of which only names and shapes are used).

    inputs, middle, outputs: the steps. Each output step gets the result of the step before it and
    that of an input step, the last one first. Raises KeyError for tensors of another network.
    """

    def __init__(self, weights: Weights, settings: Settings):
        super().__init__()
        self.settings = settings
        first = _linear(weights, "time.0.")
        second = _linear(weights, "time.2.")
        self.frequencies = first.in_features
        self.time = nn.Sequential(first, nn.SiLU(), second)
        self.classes: nn.Embedding | None = None
        if "classes.weight" in weights:
            self.classes = nn.Embedding(*weights["classes.weight"].shape)
        self.inputs = _steps(weights, "inputs", settings)
        self.middle = _steps(weights, "middle", settings)
        self.outputs = _steps(weights, "outputs", settings)
        blocks_down = len(self.inputs)
        blocks_up = len(self.outputs)
        if blocks_down == 0 or blocks_down != blocks_up:
            raise ValueError(f"it has {blocks_down} blocks on its way down and {blocks_up} up")
        channels, outputs = _convolution(weights, "out_conv.")
        self.out_norm = settings.norm(channels)
        self.out_conv = nn.Conv2d(channels, outputs, 3, padding=1)

    @property
    def multiple(self) -> int:
        """The sides of the images must be multiples of this."""
        halvings = 0
        for step in self.inputs:
            for name, _ in step.named_children():
                if name in ("down", "shrink"):
                    halvings += 1
        if halvings > _MOST_HALVINGS:
            raise ValueError(f"it halves the sides {halvings} times, more than {_MOST_HALVINGS}")
        return 1 << halvings

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the prediction [B, C or 2C, H, W].

        x: [B, C, H, W]. time: [B], fractions allowed. label: classes [B], if there are any.
        """
        waves = self._waves(time).to(x.dtype)
        embedding = self.time(waves)
        if self.classes is not None:
            embedding = embedding + self.classes(label)
        skips = []
        for step in self.inputs:
            x = step(x, embedding)
            skips.append(x)
        for step in self.middle:
            x = step(x, embedding)
        for step in self.outputs:
            skip = skips.pop()
            x = step(torch.cat([x, skip], 1), embedding)
        x = F.silu(self.out_norm(x))
        output: Tensor = self.out_conv(x)
        return output

    def _waves(self, time: Tensor) -> Tensor:
        """Cosines and sines of the time, [B, frequencies]."""
        half = self.frequencies // 2
        numbers = torch.arange(half, dtype=torch.float32, device=time.device)
        exponents = numbers / (half - self.settings.frequency_shift)
        frequencies = (-math.log(_LONGEST_PERIOD) * exponents).exp()
        angles = time.float()[:, None] * frequencies
        waves = [angles.cos(), angles.sin()]
        if not self.settings.cosine_first:
            waves.reverse()
        missing = self.frequencies % 2
        return F.pad(torch.cat(waves, 1), (0, missing))


def branch(weights: Weights, prefix: str) -> Tensors:
    """Return the tensors whose names begin with the prefix, under the rest of their names."""
    part = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            part[rest] = value
    return part


def move(source: Weights, prefix: str, target: Tensors, names: Names) -> None:
    """Copy the tensors under a prefix into `target`.

    names: what follows the prefix, and the prefix in `target`, both without .weight and .bias.
    """
    for old, new in names.items():
        for end in ("weight", "bias"):
            name = f"{prefix}{old}.{end}"
            if name in source:
                target[f"{new}.{end}"] = source[name]


def check_all_used(tensors: Weights, renamed: Weights) -> None:
    """Raise ValueError if some tensors of a file belong to no layer that was renamed."""
    before = _count_numbers(tensors)
    after = _count_numbers(renamed)
    if before != after:
        raise ValueError(
            f"the layers that are known hold {after:,} numbers of its {before:,}; "
            "it is another network, or tensors are missing"
        )


def _count_numbers(tensors: Weights) -> int:
    return sum(value.numel() for value in tensors.values())


def under(prefix: str, names: Names) -> dict[str, str]:
    """Return the same names for `move`, with the new ones under a prefix."""
    return {old: f"{prefix}.{new}" for old, new in names.items()}


def _steps(weights: Weights, name: str, settings: Settings) -> nn.ModuleList:
    steps = nn.ModuleList()
    part = branch(weights, f"{name}.")
    while True:
        step = branch(part, f"{len(steps)}.")
        if not step:
            return steps
        steps.append(Step(step, settings))


def _convolution(weights: Weights, prefix: str) -> tuple[int, int]:
    """The channels that enter a convolution, and those that leave it."""
    shape = weights[f"{prefix}weight"].shape
    if len(shape) != 4 or tuple(shape[2:]) != (3, 3):
        raise ValueError(f"{prefix}weight is {list(shape)}, not that of a convolution of 3×3")
    outputs, inputs, _, _ = shape
    return inputs, outputs


def _linear(weights: Weights, prefix: str) -> nn.Linear:
    shape = weights[f"{prefix}weight"].shape
    if len(shape) != 2:
        raise ValueError(f"{prefix}weight is {list(shape)}, not that of a linear layer")
    outputs, inputs = shape
    return nn.Linear(inputs, outputs)
