"""LPIPS: how different two images look, through the `lpips` package's network and bundled weights.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NETS = {"vgg": 17, "alex": 32}  # name: the shortest side the network can take in a loss
_WEIGHTS = Path(__file__).parent / "weights"


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

        with warnings.catch_warnings(), torch.device("meta"):  # built without weights, then given ours
            warnings.simplefilter("ignore")  # torchvision's notes on arguments that lpips passes
            model = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
        weights = {k: v.float() for k, v in load_file(_WEIGHTS / f"lpips-{net}.safetensors").items()}
        names = {f"features.{k.split('.', 1)[1]}": k for k in model.net.state_dict()}  # slice2.5.bias ← features.5.bias
        trunk = {ours: weights[theirs] for theirs, ours in names.items()}
        model.net.load_state_dict(trunk, assign=True)
        self.trunk = model.net.to(dtype, memory_format=torch.channels_last)
        for i in range(model.L):  # a head is a non-negative weight per channel; its root goes into the features
            self.register_buffer(f"head{i}", weights[f"lin{i}"].sqrt().view(1, -1, 1, 1))
        # the scaling layer of lpips, for inputs in [0, 1] instead of [-1, 1]
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        self.register_buffer("mean", ((shift + 1) / 2).view(1, 3, 1, 1))
        self.register_buffer("std", (scale / 2).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def maps(self, x: Tensor) -> list[Tensor]:
        """x [B, 3, H, W] in [0, 1] → the network's own features, one map per layer."""
        x = ((x - self.mean) / self.std).to(self.dtype)
        maps = self.trunk(x.contiguous(memory_format=torch.channels_last))  # the faster layout on CPU and GPU
        return [m.float() for m in maps]

    def features(self, x: Tensor) -> list[Tensor]:
        """x [B, 3, H, W] in [0, 1] → one map per layer, each pixel's channels normalised and weighted."""
        return [F.normalize(m, dim=1, eps=1e-10) * getattr(self, f"head{i}") for i, m in enumerate(self.maps(x))]

    @staticmethod
    def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS [B] between images with these features."""
        return sum((p - q).square().sum(1).mean((1, 2)) for p, q in zip(a, b, strict=True))


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
        raise ValueError(f"a is {list(a.shape)}, b is {list(b.shape)}; give two batches [B, 3, H, W]")
    network = load(net, str(a.device))
    shortest = min(a.shape[2:])
    if shortest < network.min_side - 1:
        raise ValueError(f"{net} needs a side of at least {network.min_side - 1}, the images have {shortest}")
    return network.distance(network.features(a.float()), network.features(b.float()))
