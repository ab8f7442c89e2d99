"""StyleGAN3 (T and R) and StyleGAN-XL: synthesis in plain torch, tensor names as in the published checkpoints.

Every layer says itself what it does (`Layer`), as the checkpoints store it, so that StyleGAN-XL's
progressively grown heads need nothing of their own. Source: Karras et al. 2021, "Alias-Free
Generative Adversarial Networks"; Sauer et al. 2022, "StyleGAN-XL".

One departure: styles are normalised for each image, where the published code normalises them over
the batch, so that an image does not depend on its batch mates. Demodulation takes that factor out
again; what remains is the 1e-8 that it adds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import StyleGenerator
from .mapping import Linear, Mapping, check_clamp, leaky_relu

MARGIN = 10  # samples around the image in all but the last two layers


@dataclass(frozen=True)
class Layer:
    """One layer of the synthesis: convolution, then a leaky ReLU at a higher sampling rate.

    name: as in the checkpoint. features, out: channels. kernel: side of the convolution. up, down:
    factors of the sampling rate before and after the non-linearity. padding: left, right, top,
    bottom, before the filter that enlarges. up_taps, down_taps: the shape of the filters, empty
    where there is none. clamp: limit of the values. torgb: the last one, linear.
    """

    name: str
    features: int
    out: int
    kernel: int
    up: int
    down: int
    padding: Sequence[int]
    up_taps: Sequence[int] = ()
    down_taps: Sequence[int] = ()
    clamp: float | None = 256.0
    torgb: bool = False

    def __post_init__(self):
        check_clamp(self.clamp)


class StyleGAN3(StyleGenerator):
    """The generator: `input` feeds `layers`, one after another.

    input: the arguments of `Input`. layers: those of each `Layer`. output_scale: of the image.
    W and W+ only: the layers have no noise, and noise_mode changes nothing.
    """

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        img_resolution: int,
        *,
        input: dict,
        layers: Sequence[dict],
        img_channels: int = 3,
        c_dim: int = 0,
        mapping: dict | None = None,
        output_scale: float = 0.25,
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.resolution, self.channels = (
            z_dim,
            c_dim,
            img_resolution,
            img_channels,
        )
        self.config = {
            "family": "stylegan3",
            "z_dim": z_dim,
            "w_dim": w_dim,
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "c_dim": c_dim,
            "mapping": mapping or {},
            "input": input,
            "layers": [*layers],
            "output_scale": output_scale,
        }
        self.mapping = Mapping(
            z_dim, w_dim, c_dim=c_dim, **{"num_layers": 2, **self.config["mapping"]}
        )
        self.synthesis = Synthesis(w_dim, input, [Layer(**layer) for layer in layers], output_scale)
        self.num_ws = len(layers) + 1
        self.eval().requires_grad_(False)

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """The image of a W or W+. Raises ValueError for another shape or mode."""
        return (self.synthesis([codes[:, 0] for codes in self.codes(latent, noise_mode)]) + 1) / 2


class Synthesis(nn.Module):
    """Codes, for each layer [B, w_dim] → image [B, C, R, R], about in [-1, 1]."""

    def __init__(self, w_dim: int, input: dict, layers: Sequence[Layer], output_scale: float):
        super().__init__()
        self.input, self.output_scale = Input(w_dim, **input), output_scale
        self.layer_names = [layer.name for layer in layers]
        for layer in layers:
            self.add_module(layer.name, FilteredConv(w_dim, layer))

    def forward(self, codes: Sequence[Tensor]) -> Tensor:
        first, *rest = codes
        x = self.input(first)
        for name, w in zip(self.layer_names, rest, strict=True):
            x = getattr(self, name)(x, w)
        return x * self.output_scale


class Input(nn.Module):
    """Fourier features, moved and turned as w says: [B, w_dim] → [B, channels, size, size].

    sampling_rate: samples per unit of length; the image is one unit wide, the rest is margin.
    bandwidth: frequencies fade out between it and half the sampling rate.
    """

    def __init__(
        self, w_dim: int, channels: int, size: int, sampling_rate: float, bandwidth: float
    ):
        super().__init__()
        self.size, self.sampling_rate, self.bandwidth = size, sampling_rate, bandwidth
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.affine = Linear(w_dim, 4)
        self.register_buffer("transform", torch.zeros(3, 3))  # the user's, usually nothing
        self.register_buffer("freqs", torch.zeros(channels, 2))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, w: Tensor) -> Tensor:
        t = self.affine(w)
        cos, sin, right, down = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        one, none = torch.ones_like(cos), torch.zeros_like(cos)
        turn = torch.stack([cos, -sin, none, sin, cos, none, none, none, one], 1).view(-1, 3, 3)
        move = torch.stack([one, none, -right, none, one, -down, none, none, one], 1).view(-1, 3, 3)
        transform = (
            turn @ move @ self.transform
        )  # of coordinates, so the inverse of what it does to the image
        phases = self.phases + (self.freqs @ transform[:, :2, 2:])[:, :, 0]  # [B, C]
        freqs = self.freqs @ transform[:, :2, :2]  # [B, C, (x, y)]
        nyquist = self.sampling_rate / 2
        amplitudes = (1 - (freqs.norm(dim=2) - self.bandwidth) / (nyquist - self.bandwidth)).clamp(
            0, 1
        )
        at = (torch.arange(self.size, device=w.device) + 0.5 - self.size / 2) / self.sampling_rate
        along = at * freqs[..., :1], at * freqs[..., 1:]  # [B, C, size] each: x and y
        x = torch.sin(
            2 * math.pi * (along[0][:, :, None] + along[1][..., None] + phases[..., None, None])
        )
        x = x * amplitudes[..., None, None]
        return torch.einsum("oc,bchw->bohw", self.weight / math.sqrt(len(self.weight)), x)


class FilteredConv(nn.Module):
    """A modulated convolution, then the non-linearity between two low-pass filters."""

    def __init__(self, w_dim: int, layer: Layer):
        super().__init__()
        self.layer = layer
        self.affine = Linear(w_dim, layer.features)
        self.weight = nn.Parameter(
            torch.zeros(layer.out, layer.features, layer.kernel, layer.kernel)
        )
        self.bias = nn.Parameter(torch.zeros(layer.out))
        self.register_buffer("magnitude_ema", torch.ones(()))
        for name, taps in (("up_filter", layer.up_taps), ("down_filter", layer.down_taps)):
            self.register_buffer(name, torch.zeros(*taps) if taps else None)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        layer, styles, weight = self.layer, self.affine(w), self.weight
        if layer.torgb:
            styles = styles / math.sqrt(weight[0].numel())
        else:
            weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
            styles = styles * styles.square().mean(1, keepdim=True).rsqrt()
        x = x * styles[:, :, None, None]
        x = F.conv2d(x, weight * self.magnitude_ema.rsqrt(), padding=layer.kernel - 1)
        if not layer.torgb:
            power = weight.square().sum((2, 3))  # [O, I]
            x = x * (styles.square() @ power.T + 1e-8).rsqrt()[:, :, None, None]
        x = resampled(x + self.bias[:, None, None], self.up_filter, layer.up, 1, layer.padding)
        x = x if layer.torgb else leaky_relu(x)
        if layer.clamp is not None:
            x = x.clamp(-layer.clamp, layer.clamp)
        return resampled(x, self.down_filter, 1, layer.down)


def resampled(
    x: Tensor, kernel: Tensor | None, up: int, down: int, padding: Sequence[int] = (0, 0, 0, 0)
) -> Tensor:
    """`up` times enlarged by zero insertion, padded or (negative) cropped, filtered, every `down`-th kept.

    kernel: [taps] for both directions, [taps, taps], or None for no filter. The gain makes up for
    the inserted zeros.
    """
    if up > 1:  # a column of samples, then up - 1 of zeros
        batch, channels, height, width = x.shape
        x = F.pad(x[:, :, :, None, :, None], (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(batch, channels, height * up, width * up)
    x = F.pad(x, list(padding))
    if kernel is None:
        return (x * up**2)[:, :, ::down, ::down]
    channels, kernel = x.shape[1], kernel.flip(tuple(range(kernel.ndim))) * up**kernel.ndim
    if kernel.ndim == 2:
        return F.conv2d(x, kernel.expand(channels, 1, -1, -1), stride=down, groups=channels)
    x = F.conv2d(x, kernel[None, :].expand(channels, 1, 1, -1), stride=(1, down), groups=channels)
    return F.conv2d(
        x, kernel[:, None].expand(channels, 1, -1, 1), stride=(down, 1), groups=channels
    )


def layers_of(state: Dictionary[str, Tensor]) -> tuple[dict, list[dict]]:
    """`StyleGAN3`'s `input` and `layers` for tensors that come without their constructor's arguments.

    Names and shapes say nearly all: L12_276_128 is 276 pixels wide, with a margin of 10 on each side
    except in the last two layers, and there are 2^n samples to the image's width. What they do not
    say is the published default: a non-linearity at twice the sampling rate, first cutoff 2, clamp 256.
    """
    names = {
        key.split(".")[1] for key in state if re.fullmatch(r"synthesis\.L\d+_\d+_\d+\.weight", key)
    }
    names = sorted(names, key=lambda name: int(name[1:].split("_")[0]))
    sizes = [int(name.split("_")[1]) for name in names]
    rates = [size if size == sizes[-1] else size - 2 * MARGIN for size in sizes]
    layers = []
    for i, name in enumerate(names):
        before, torgb = max(i - 1, 0), i == len(names) - 1
        out, features, kernel, _ = state[f"synthesis.{name}.weight"].shape
        between = max(rates[before], rates[i]) * (1 if torgb else 2)
        up, down = between // rates[before], between // rates[i]
        taps = [
            list(state.get(f"synthesis.{name}.{way}_filter", torch.ones(())).shape)
            for way in ("up", "down")
        ]
        # so that sizes[i] samples are left after both filters
        longer = (
            sum(t[0] - 1 for t in taps if t)
            + (sizes[i] - 1) * down
            + 1
            - (sizes[before] + kernel - 1) * up
        )
        low = (longer + up) // 2
        layer = Layer(
            name, features, out, kernel, up, down, [low, longer - low] * 2, *taps, torgb=torgb
        )
        layers.append(asdict(layer))
    start = {
        "channels": layers[0]["features"],
        "size": sizes[0],
        "sampling_rate": rates[0],
        "bandwidth": 2.0,
    }
    return start, layers
