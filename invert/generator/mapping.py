"""From noise to style codes, for every StyleGAN; and the layer they all share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Label = int | Sequence[int] | Tensor | None


class Linear(nn.Module):
    """Fully connected layer with the equalised learning rate of StyleGAN."""

    def __init__(self, features: int, out: int, lr_multiplier: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out, features))
        self.bias = nn.Parameter(torch.zeros(out))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class Mapping(nn.Module):
    """z [B, z_dim], and a class where there are classes, → w [B, w_dim].

    Labels pass through a linear layer (StyleGAN2 and 3) or, with `pretrained` = (rows, columns),
    choose a row of a table that is then projected to z_dim (StyleGAN-XL). There each class has a
    mean code of its own if `means_per_class`.
    """

    __call__: Callable[..., Tensor]  # for type checkers; torch says Any

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        num_layers: int = 8,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        c_dim: int = 0,
        embed_features: int | None = None,
        pretrained: Sequence[int] | None = None,
        means_per_class: bool = False,
    ):
        super().__init__()
        self.z_dim, self.w_dim, self.c_dim, self.num_layers = z_dim, w_dim, c_dim, num_layers
        label_features = 0
        if c_dim and pretrained and c_dim > pretrained[0]:
            raise ValueError(f"{c_dim} classes, and a table of {pretrained[0]} rows")
        if c_dim and pretrained:
            self.embed, label_features = nn.Embedding(*pretrained), z_dim
            self.embed_proj = Linear(pretrained[1], z_dim)
        elif c_dim:
            label_features = embed_features or w_dim
            self.embed = Linear(c_dim, label_features)
        widths = [z_dim + label_features] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            self.add_module(f"fc{i}", Linear(widths[i], widths[i + 1], lr_multiplier))
        self.register_buffer(
            "w_avg", torch.zeros(c_dim, w_dim) if means_per_class else torch.zeros(w_dim)
        )

    def forward(self, z: Tensor, class_label: Label = None, truncation_psi: float = 1.0) -> Tensor:
        """class_label: for conditional generators, one class, one for each image, or features [B, c_dim].

        truncation_psi: 1 keeps w, less draws it towards the mean, 0 is the mean.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {list(z.shape)}; give [B, {self.z_dim}]")
        x = normalized(z.to(self.fc0.weight))
        label = labels(class_label, len(z), self.c_dim, z.device)
        if label is not None:
            if isinstance(self.embed, nn.Embedding):
                y = leaky_relu(self.embed_proj(self.embed(label.argmax(1))))
            else:
                y = self.embed(label)
            x = torch.cat([x, normalized(y)], 1)
        for i in range(self.num_layers):
            x = leaky_relu(getattr(self, f"fc{i}")(x))
        return (
            x
            if truncation_psi == 1
            else torch.lerp(self.center(class_label, len(z)), x, truncation_psi)
        )

    def center(self, class_label: Label, batch: int) -> Tensor:
        """The mean of W, [B, w_dim]; of the class, where each has its own."""
        if self.w_avg.ndim == 1:
            return self.w_avg.expand(batch, -1)
        return self.w_avg[labels(class_label, batch, self.c_dim, self.w_avg.device).argmax(1)]


def labels(class_label: Label, batch: int, c_dim: int, device: torch.device) -> Tensor | None:
    """Labels as features [B, c_dim], one-hot for classes; None for a generator without any."""
    if c_dim == 0:
        if class_label is not None:
            raise ValueError("class_label: this generator has no classes; leave it out")
        return None
    if class_label is None:
        raise ValueError(f"class_label is missing; give one of 0 to {c_dim - 1}, or one per image")
    try:
        label = torch.as_tensor(class_label, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"class_label={class_label!r} is no class; give integers, or [B, {c_dim}]"
        ) from error
    if label.shape == (batch, c_dim) and label.ndim == 2:
        return label.float()
    if label.is_floating_point() or label.ndim > 1 or not ((label >= 0) & (label < c_dim)).all():
        raise ValueError(
            f"class_label={class_label!r} must be integers from 0 to {c_dim - 1}, or [B, {c_dim}]"
        )
    if label.ndim == 1 and len(label) != batch:
        raise ValueError(
            f"class_label has {len(label)} values for {batch} images; give one, or one per image"
        )
    return F.one_hot(label.long().expand(batch), c_dim).float()


def normalized(x: Tensor) -> Tensor:
    """Every row at unit mean square."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def check_clamp(limit: object) -> None:
    if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < math.inf):
        raise ValueError("conv_clamp must be None or a number above 0")


def clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)
