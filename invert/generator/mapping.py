"""The mapping network from noise to style codes, and the linear layer that all StyleGANs share."""

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
        self.weight_gain = lr_multiplier / math.sqrt(features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_gain
        bias = self.bias * self.bias_gain
        return F.linear(x, weight, bias)


class Mapping(nn.Module):
    """Map z [B, z_dim], and a class if the generator has classes, to w [B, w_dim].

    A label passes through a linear layer (StyleGAN2 and 3). With `pretrained` = (rows, columns), it
    selects a row of a table instead, which is projected to z_dim (StyleGAN-XL). With
    `means_per_class`, every class has its own mean code.
    """

    __call__: Callable[..., Tensor]  # for type checkers, since torch declares Any
    w_avg: Tensor

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
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.c_dim = c_dim
        self.num_layers = num_layers
        self.embed: nn.Module
        label_features = 0
        if c_dim and pretrained:
            rows, columns = pretrained
            if c_dim > rows:
                raise ValueError(f"{c_dim} classes, and a table of {rows} rows")
            label_features = z_dim
            self.embed = nn.Embedding(rows, columns)
            self.embed_proj = Linear(columns, z_dim)
        elif c_dim:
            label_features = embed_features or w_dim
            self.embed = Linear(c_dim, label_features)
        features = z_dim + label_features
        for i in range(num_layers):
            is_last = i == num_layers - 1
            out = w_dim if is_last else layer_features or w_dim
            layer = Linear(features, out, lr_multiplier)
            self.add_module(f"fc{i}", layer)
            features = out
        means = (c_dim, w_dim) if means_per_class else (w_dim,)
        self.register_buffer("w_avg", torch.zeros(means))

    def forward(self, z: Tensor, class_label: Label = None, truncation_psi: float = 1.0) -> Tensor:
        """Return w [B, w_dim] for z [B, z_dim].

        class_label: for a conditional generator, one class, one class per image, or label features
        [B, c_dim]. truncation_psi: 1 returns w, 0 the mean of W, a number between them a mixture.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {list(z.shape)}; give [B, {self.z_dim}]")
        x = normalized(z.to(self.w_avg))
        label = labels(class_label, len(z), self.c_dim, z.device)
        if label is not None:
            embedded = self._embedded(label.to(x))
            x = torch.cat([x, normalized(embedded)], 1)
        for i in range(self.num_layers):
            layer = self.get_submodule(f"fc{i}")
            x = leaky_relu(layer(x))
        if truncation_psi == 1:
            return x
        center = self.center(class_label, len(z))
        return torch.lerp(center, x, truncation_psi)

    def _embedded(self, label: Tensor) -> Tensor:
        if isinstance(self.embed, nn.Embedding):
            row = self.embed(label.argmax(1))
            return leaky_relu(self.embed_proj(row))
        features: Tensor = self.embed(label)
        return features

    def center(self, class_label: Label, batch: int) -> Tensor:
        """Return the mean of W, or of each image's class if every class has its own: [B, w_dim]."""
        means = self.w_avg
        if means.ndim == 1:
            return means.expand(batch, -1)
        label = labels(class_label, batch, self.c_dim, means.device)
        if label is None:
            raise ValueError("w_avg has a mean per class, but the generator has no classes")
        classes = label.argmax(1)
        return means[classes]


def labels(class_label: Label, batch: int, c_dim: int, device: torch.device) -> Tensor | None:
    """Return label features [B, c_dim], one-hot for classes; None for a generator without classes.

    class_label: one class for all images, a class for each image, or label features [B, c_dim].
    Raises ValueError for a label that is none of these.
    """
    if c_dim == 0:
        if class_label is not None:
            raise ValueError("class_label: this prior has no classes; leave it out")
        return None
    if class_label is None:
        raise ValueError(f"class_label is missing; give one of 0 to {c_dim - 1}, or one per image")
    try:
        label = torch.as_tensor(class_label, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"class_label={class_label!r} is no class; give integers, or [B, {c_dim}]"
        ) from error
    if label.shape == (batch, c_dim):
        if not torch.isfinite(label).all():
            raise ValueError("class_label holds NaN or infinity; give finite features")
        return label.float()
    if not _is_class(label, c_dim):
        raise ValueError(
            f"class_label={class_label!r} must be integers from 0 to {c_dim - 1}, or [B, {c_dim}]"
        )
    if label.ndim == 1 and len(label) != batch:
        raise ValueError(
            f"class_label has {len(label)} values for {batch} images; give one, or one per image"
        )
    classes = label.long().expand(batch)
    return F.one_hot(classes, c_dim).float()


def _is_class(label: Tensor, c_dim: int) -> bool:
    """Whether a label holds classes: integers from 0 to c_dim - 1, one or a row of them."""
    if label.is_floating_point() or label.dtype == torch.bool or label.ndim > 1:
        return False
    in_range = (label >= 0) & (label < c_dim)
    return bool(in_range.all())


def normalized(x: Tensor) -> Tensor:
    """Scale every row to unit mean square."""
    mean_square = x.square().mean(1, keepdim=True)
    return x * (mean_square + 1e-8).rsqrt()


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def check_clamp(limit: object) -> None:
    if limit is None:
        return
    if not isinstance(limit, (int, float)) or not 0 < limit < math.inf:
        raise ValueError("conv_clamp must be None or a number above 0")


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """Clamp values to [-limit, limit]; None leaves them as they are."""
    return x if limit is None else x.clamp(-limit, limit)
