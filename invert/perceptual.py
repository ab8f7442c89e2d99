"""LPIPS, the perceptual distance of two images: the `lpips` package's network, bundled weights.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .bundled import bundled
from .frozen import freeze

NETS = {"vgg": 17, "alex": 32}  # the shortest side that each network accepts in a loss


class Perceptual(nn.Module):
    """The frozen LPIPS network. LPIPS is the `distance` between the `features` of two images.

    The convolutions run in `dtype`, everything else in float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: str = "vgg", dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype = dtype
        self.min_side = NETS[check(net)]
        from safetensors.torch import load_file

        file = load_file(bundled(f"lpips-{net}"), device="cpu")
        model = empty_model(net)
        self.trunk = self._loaded_trunk(model.net, file)
        self.layers: int = model.L
        for i in range(self.layers):
            # A head is a non-negative weight per channel. Features are scaled by its square root.
            weights = file[f"lin{i}"].float()
            head = weights.sqrt().view(1, -1, 1, 1)
            self.register_buffer(f"head{i}", head)
        # The scaling layer of lpips, for inputs in [0, 1] instead of [-1, 1].
        shift = _constant(-0.030, -0.088, -0.188)
        scale = _constant(0.458, 0.448, 0.450)
        self.register_buffer("mean", (shift + 1) / 2)
        self.register_buffer("std", scale / 2)
        self.eval().requires_grad_(False)

    def _loaded_trunk(self, trunk: nn.Module, file: dict[str, Tensor]) -> nn.Module:
        """Give the trunk its weights from the file, in the type of the convolutions."""
        weights = {}
        for name in trunk.state_dict():  # slice2.5.bias is features.5.bias in the file
            _, rest = name.split(".", 1)
            weights[name] = file[f"features.{rest}"].float()
        trunk.load_state_dict(weights, assign=True)
        trunk.to(self.dtype)
        return trunk.to(memory_format=torch.channels_last)

    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the network's feature maps of x [B, 3, H, W] in [0, 1], one per layer."""
        standardised = (x - self.mean) / self.std
        x = standardised.to(self.dtype)
        x = x.contiguous(memory_format=torch.channels_last)  # the faster layout on CPU and GPU
        return tuple(self.trunk(x))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of x [B, 3, H, W] in [0, 1], normalised per pixel and weighted."""
        features = []
        for feature_map, head in zip(self.maps(x), self.heads, strict=True):
            float_map = feature_map.float()
            direction = F.normalize(float_map, dim=1, eps=1e-10)
            features.append(direction * head)
        return features

    @property
    def heads(self) -> list[Tensor]:
        """The square root of each layer's weights, [1, C, 1, 1]."""
        return [self.get_buffer(f"head{i}") for i in range(self.layers)]

    @staticmethod
    def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Return LPIPS [B] between images with the features `a` and `b`."""
        distances = []
        for layer_a, layer_b in zip(a, b, strict=True):
            difference = layer_a - layer_b
            squares = difference.square().sum(1)  # [B, h, w]
            distances.append(squares.mean((1, 2)))
        return _summed(distances)

    def distance_to(self, maps: tuple[Tensor, ...], x: Tensor) -> Tensor:
        """Return LPIPS [B] from x to images with these `maps`.

        It is faster than `distance`. The gradient reaches x only.
        """
        distances = []
        maps_of_x = self.maps(x)
        for layer, head in enumerate(self.heads):
            distance = _Distance.apply(maps_of_x[layer], maps[layer], head)
            distances.append(distance)
        return _summed(distances)


def _constant(*values: float) -> Tensor:
    """One value per colour, [1, 3, 1, 1]."""
    colours = torch.tensor(values, dtype=torch.float32, device="cpu")
    return colours.view(1, 3, 1, 1)


def _summed(distances: list[Tensor]) -> Tensor:
    """The sum over layers, from the first to the last."""
    total = distances[0]
    for distance in distances[1:]:
        total = total + distance
    return total


_TILE = 1 << 18  # this many numbers at a time stay in the cache of a core


class _Distance(torch.autograd.Function):
    """One layer of LPIPS: the mean over pixels of Σ (head (u - v))².

    At a pixel, u = m / |m| is the direction of the map m, and v the direction of the other map.
    With g = head² (u - v), the gradient to m is 2 (g - u (u·g)) / |m|. The value and the gradient
    are computed together, for one tile of the map at a time, because elementwise operations over
    whole maps would take half as long as the convolutions.
    """

    @staticmethod
    def forward(ctx, maps: Tensor, others: Tensor, head: Tensor) -> Tensor:
        batch, channels, height, width = maps.shape
        m = _rows(maps)
        n = _rows(others.expand_as(maps))
        pixels = height * width
        weight = head.flatten().square()
        grad = torch.empty_like(m)
        rows = len(m)
        values = torch.empty(rows, dtype=torch.float32, device=m.device)
        tile = rows
        if m.device.type == "cpu":
            tile = max(1, _TILE // channels)
        for start in range(0, rows, tile):
            part = slice(start, start + tile)
            tile_values, tile_grad = _distances(m[part], n[part], weight, pixels)
            values[part] = tile_values
            grad[part] = tile_grad
        ctx.save_for_backward(grad)
        ctx.shape = batch, height, width, channels
        return values.view(batch, -1).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        grad = grad.view(ctx.shape)
        factors = upstream.view(-1, 1, 1, 1)
        scaled = grad * factors.to(grad)
        channels_second = scaled.permute(0, 3, 1, 2)
        return channels_second, None, None


def _distances(m: Tensor, n: Tensor, weight: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Return Σ weight (u - v)² for each row, and the gradient to m of its mean over `pixels`.

    m, n: [rows, C]. Results overwrite intermediates, so that all of them stay in the cache.
    """
    u, inverse_norm = _directions(m)
    v, _ = _directions(n)
    difference = torch.sub(u, v, out=v)
    g = difference * weight
    weighted_squares = difference.mul_(g)
    values = weighted_squares.sum(1)
    product = torch.mul(u, g, out=difference)
    along = product.sum(1, keepdim=True)
    g.addcmul_(u, along, value=-1)
    scale = inverse_norm.mul_(2 / pixels)
    return values, g.mul_(scale)


def _rows(maps: Tensor) -> Tensor:
    """[B, C, H, W] → [B·H·W, C]."""
    channels_last = maps.permute(0, 2, 3, 1)
    return channels_last.reshape(-1, maps.shape[1])


def _directions(m: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the rows of m to length 1; also return the factors [rows, 1]."""
    m = m.to(torch.float32, copy=True)
    norm = torch.linalg.vector_norm(m, dim=1, keepdim=True)
    scale = norm.clamp_min_(1e-10).reciprocal_()
    return m.mul_(scale), scale


def enlarged(x: Tensor, shortest: int) -> Tensor:
    """Repeat the pixels of x [B, C, H, W] until no side is below `shortest`."""
    current = min(x.shape[2:])
    scale = math.ceil(shortest / current)
    if scale <= 1:
        return x
    taller = x.repeat_interleave(scale, 2)
    return taller.repeat_interleave(scale, 3)


def empty_model(net: str) -> Any:
    """The network of the `lpips` package without memory for its weights."""
    import lpips

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision warns of arguments that lpips passes
        return lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)


def check(net: str) -> str:
    """Return the network's name. Raises ValueError for one that does not exist."""
    if net not in NETS:
        raise ValueError(f"perceptual={net!r} must be one of {', '.join(NETS)}")
    return net


@lru_cache(maxsize=4)
def load(net: str = "vgg", device: str = "cpu", dtype: torch.dtype = torch.float32) -> Perceptual:
    """Return the frozen network. It is loaded once per device and dtype."""
    return _built(net, device, dtype)


@lru_cache(maxsize=4)
def for_losses(net: str, device: str, dtype: torch.dtype) -> Perceptual:
    """Return the fastest network for the losses of a solve; it has no second derivatives."""
    network = _built(net, device, dtype)
    if device == "cpu":
        with torch.inference_mode(False):
            freeze(network.trunk)
    return network


def _built(net: str, device: str, dtype: torch.dtype) -> Perceptual:
    """Build a network that stays usable when the first call runs in inference mode."""
    with torch.inference_mode(False):
        return Perceptual(net, dtype).to(device)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device multiplies it, else float32. LPIPS changes by less than 1 %."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    elif device.type == "cpu":
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def lpips(a: Tensor, b: Tensor, net: str = "vgg") -> Tensor:
    """Return LPIPS [B], float32, between images a and b, [B, 3, H, W] in [0, 1].

    net: "vgg" or "alex". The value equals that of the `lpips` package with version 0.1 heads.
    Raises ValueError if a side is too short for the network (vgg 16, alex 31).
    """
    in_colour = a.ndim == 4 and a.shape[1] == 3
    if a.shape != b.shape or not in_colour:
        raise ValueError(
            f"a is {list(a.shape)}, b is {list(b.shape)}; give two batches [B, 3, H, W]"
        )
    network = load(net, str(a.device))
    shortest = min(a.shape[2:])
    needed = network.min_side - 1
    if shortest < needed:
        raise ValueError(f"{net} needs a side of at least {needed}, the images have {shortest}")
    features_a = network.features(a.float())
    features_b = network.features(b.float())
    return network.distance(features_a, features_b)
