"""LPIPS: how different two images look, through the `lpips` package's network and bundled weights.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .bundled import bundled
from .frozen import freeze

NETS = {"vgg": 17, "alex": 32}  # name: the shortest side the network can take in a loss


class Perceptual(nn.Module):
    """The frozen network of one LPIPS flavour; `features` of two images are LPIPS-far `distance` apart.

    The convolutions run in `dtype`, all else in float32.
    """

    def __init__(self, net: str = "vgg", dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype = dtype
        self.min_side = NETS[check(net)]
        import lpips
        from safetensors.torch import load_file

        with (
            warnings.catch_warnings(),
            torch.device("meta"),
        ):  # built without weights, then given ours
            warnings.simplefilter("ignore")  # torchvision's notes on arguments that lpips passes
            model = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
        weights = {k: v.float() for k, v in load_file(bundled(f"lpips-{net}")).items()}
        names = {
            f"features.{k.split('.', 1)[1]}": k for k in model.net.state_dict()
        }  # slice2.5.bias ← features.5.bias
        trunk = {ours: weights[theirs] for theirs, ours in names.items()}
        model.net.load_state_dict(trunk, assign=True)
        self.trunk = model.net.to(dtype, memory_format=torch.channels_last)
        for i in range(
            model.L
        ):  # a head is a non-negative weight per channel; its root goes into the features
            self.register_buffer(f"head{i}", weights[f"lin{i}"].sqrt().view(1, -1, 1, 1))
        # the scaling layer of lpips, for inputs in [0, 1] instead of [-1, 1]
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        self.register_buffer("mean", ((shift + 1) / 2).view(1, 3, 1, 1))
        self.register_buffer("std", (scale / 2).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [B, 3, H, W] in [0, 1] → the network's own features in its `dtype`, one map per layer."""
        x = ((x - self.mean) / self.std).to(self.dtype)
        return self.trunk(
            x.contiguous(memory_format=torch.channels_last)
        )  # the faster layout on CPU and GPU

    def features(self, x: Tensor) -> list[Tensor]:
        """x [B, 3, H, W] in [0, 1] → one map per layer, each pixel's channels normalised and weighted."""
        maps = (F.normalize(m.float(), dim=1, eps=1e-10) for m in self.maps(x))
        return [m * head for m, head in zip(maps, self.heads, strict=True)]

    @property
    def heads(self) -> list[Tensor]:
        """The root of each layer's weights, [1, C, 1, 1]."""
        return [getattr(self, f"head{i}") for i in range(5)]

    @staticmethod
    def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS [B] between images with these features."""
        return sum((p - q).square().sum(1).mean((1, 2)) for p, q in zip(a, b, strict=True))

    def distance_to(self, maps: tuple[Tensor, ...], x: Tensor) -> Tensor:
        """LPIPS [B] from x to images with these `maps`, in a fraction of the time; its gradient goes to x alone."""
        return sum(map(_Distance.apply, self.maps(x), maps, self.heads))


_TILE = 1 << 18  # so many numbers at a time stay in a core's cache


class _Distance(torch.autograd.Function):
    """One layer of LPIPS: with u = m / |m| at each pixel, and w of the other map, the mean of Σ (head (u - w))².

    Its gradient to m is 2 (v - u (u·v)) / |m| with v = head² (u - w). It is made along with the value,
    a part of the map at a time; step after step over whole maps took half as long as the convolutions.
    """

    @staticmethod
    def forward(ctx, maps: Tensor, others: Tensor, head: Tensor) -> Tensor:
        batch, channels = maps.shape[:2]
        m, n = (x.permute(0, 2, 3, 1).reshape(-1, channels) for x in (maps, others.expand_as(maps)))
        pixels, weight = len(m) // batch, head.flatten().square()
        grad, away = torch.empty_like(m), torch.empty(len(m), device=m.device)
        rows = max(1, _TILE // channels) if m.device.type == "cpu" else len(m)
        for part in (slice(i, i + rows) for i in range(0, len(m), rows)):
            (u, over), (w, _) = (_directions(x[part]) for x in (m, n))
            torch.sub(u, w, out=w)
            v = w * weight
            torch.sum(w.mul_(v), 1, out=away[part])
            v.addcmul_(u, torch.mul(u, v, out=w).sum(1, keepdim=True), value=-1)
            grad[part] = v.mul_(over.mul_(2 / pixels))
        ctx.save_for_backward(grad)
        ctx.shape = batch, *maps.shape[2:], channels
        return away.view(batch, -1).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (own,) = ctx.saved_tensors
        return (
            (own.view(ctx.shape) * grad.view(-1, 1, 1, 1).to(own)).permute(0, 3, 1, 2),
            None,
            None,
        )


def _directions(m: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of m at length 1, and what they were multiplied by for it."""
    m = m.float() if m.dtype != torch.float32 else m.clone()
    over = torch.linalg.vector_norm(m, dim=1, keepdim=True).clamp_min_(1e-10).reciprocal_()
    return m.mul_(over), over


def enlarged(x: Tensor, shortest: int) -> Tensor:
    """x [B, C, H, W], each pixel made a square of them, just so large that no side is below `shortest`."""
    scale = -(-shortest // min(x.shape[2:]))
    return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3) if scale > 1 else x


def check(net: str) -> str:
    if net not in NETS:
        raise ValueError(f"perceptual={net!r} must be one of {', '.join(NETS)}")
    return net


@lru_cache(maxsize=4)
def load(net: str = "vgg", device: str = "cpu", dtype: torch.dtype = torch.float32) -> Perceptual:
    """The frozen network, loaded once for each device and type."""
    return Perceptual(net, dtype).to(device)


@lru_cache(maxsize=4)
def for_losses(net: str, device: str, dtype: torch.dtype) -> Perceptual:
    """A network for the losses of a solve: as fast as the device allows, without second derivatives."""
    network = Perceptual(net, dtype).to(device)
    if device == "cpu":
        freeze(network.trunk)
    return network


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What a solve's loss runs in: bfloat16 where the hardware multiplies it (LPIPS changes by < 1 %)."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if native else torch.float32


def lpips(a: Tensor, b: Tensor, net: str = "vgg") -> Tensor:
    """LPIPS between images a and b, [B, 3, H, W] in [0, 1]; returns [B], float32.

    net: "vgg" or "alex". Equals the `lpips` package's value with version 0.1 heads. Raises
    ValueError when a side is shorter than the network can take (vgg 16, alex 31).
    """
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(
            f"a is {list(a.shape)}, b is {list(b.shape)}; give two batches [B, 3, H, W]"
        )
    network = load(net, str(a.device))
    shortest = min(a.shape[2:])
    if shortest < network.min_side - 1:
        raise ValueError(
            f"{net} needs a side of at least {network.min_side - 1}, the images have {shortest}"
        )
    return network.distance(network.features(a.float()), network.features(b.float()))
