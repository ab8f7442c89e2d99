"""StyleGAN3 (T and R) and StyleGAN-XL: synthesis in plain torch, with the published tensor names.

Every layer has its own parameters (`Layer`), as the checkpoints store them, so that the
progressively grown heads of StyleGAN-XL need no extra code. Source: Karras et al. 2021, "Alias-Free
Generative Adversarial Networks"; Sauer et al. 2022, "StyleGAN-XL".

One difference: the published code normalises styles over the batch, this code per image, so that an
image does not depend on the rest of its batch. Demodulation removes that factor again, except for
the 1e-8 that it adds.
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
from .mapping import Linear, Mapping, check_clamp, clamped, leaky_relu

MARGIN = 10  # samples around the image in all but the last two layers


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer: a convolution, then a leaky ReLU at a higher sampling rate.

    name: as in the checkpoint. features, out: channels. kernel: side of the convolution. up, down:
    factors of the sampling rate before and after the non-linearity. padding: left, right, top,
    bottom, before the upsampling filter. up_taps, down_taps: the shapes of the filters, empty if
    there is none. clamp: limit of the values. torgb: whether it is the last layer, which is linear.
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
    """The generator: `input` feeds a sequence of `layers`.

    input: the arguments of `Input`. layers: the arguments of each `Layer`. output_scale: factor of
    the image. The spaces are W and W+. The layers have no noise, so noise_mode has no effect.
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
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.resolution = img_resolution
        self.channels = img_channels
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
        arguments = {"num_layers": 2} | self.config["mapping"]
        self.mapping = Mapping(z_dim, w_dim, c_dim=c_dim, **arguments)
        all_layers = [Layer(**layer) for layer in layers]
        self.synthesis = Synthesis(w_dim, input, all_layers, output_scale)
        self.num_ws = len(layers) + 1
        self.eval().requires_grad_(False)

    def synthesize(
        self, latent: Tensor, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the image of a W or W+. Raises ValueError for another shape or mode."""
        codes = []
        for layer_codes in self.codes(latent, noise_mode):
            codes.append(layer_codes[:, 0])
        image: Tensor = self.synthesis(codes)
        return (image + 1) / 2


class Synthesis(nn.Module):
    """Map the codes of every layer, [B, w_dim], to an image [B, C, R, R], roughly in [-1, 1]."""

    def __init__(self, w_dim: int, input: dict, layers: Sequence[Layer], output_scale: float):
        super().__init__()
        self.input = Input(w_dim, **input)
        self.output_scale = output_scale
        self.layer_names = [layer.name for layer in layers]
        for layer in layers:
            self.add_module(layer.name, FilteredConv(w_dim, layer))

    def forward(self, codes: Sequence[Tensor]) -> Tensor:
        first, *rest = codes
        x = self.input(first)
        for name, w in zip(self.layer_names, rest, strict=True):
            layer = self.get_submodule(name)
            x = layer(x, w)
        image: Tensor = x * self.output_scale
        return image


class Input(nn.Module):
    """Fourier features that w translates and rotates: [B, w_dim] → [B, channels, size, size].

    sampling_rate: samples per unit of length. The image is one unit wide, the rest is margin.
    bandwidth: frequencies fade out between it and half the sampling rate.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(
        self, w_dim: int, channels: int, size: int, sampling_rate: float, bandwidth: float
    ):
        super().__init__()
        self.size = size
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.affine = Linear(w_dim, 4)
        # The user may set the transform; usually it is the identity.
        self.register_buffer("transform", torch.zeros(3, 3))
        self.register_buffer("freqs", torch.zeros(channels, 2))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, w: Tensor) -> Tensor:
        transform = self._transform(w)
        linear = transform[:, :2, :2]
        shift = transform[:, :2, 2:]
        freqs = self.freqs @ linear  # [B, C, (x, y)]
        change = self.freqs @ shift
        phases = self.phases + change[:, :, 0]  # [B, C]
        waves = self._waves(freqs, phases)
        amplitudes = self._amplitudes(freqs)
        x = waves * amplitudes[..., None, None]
        channels = len(self.weight)
        gain = math.sqrt(channels)
        weight = self.weight / gain
        return torch.einsum("oc,bchw->bohw", weight, x)

    def _transform(self, w: Tensor) -> Tensor:
        """The transform of the coordinates, [B, 3, 3]. The image gets its inverse."""
        parameters = self.affine(w)
        direction = parameters[:, :2]
        length = direction.norm(dim=1, keepdim=True)
        unit = parameters / length
        cos, sin, right, down = unit.unbind(1)
        rotated = rotation(cos, sin) @ translation(right, down)
        return rotated @ self.transform

    def _waves(self, freqs: Tensor, phases: Tensor) -> Tensor:
        """A sine wave for every channel, [B, C, size, size]."""
        index = torch.arange(self.size, dtype=freqs.dtype, device=freqs.device)
        offset = index + 0.5 - self.size / 2
        position = offset / self.sampling_rate
        along_x = position * freqs[..., :1]  # [B, C, size]
        along_y = position * freqs[..., 1:]
        turns = along_x[:, :, None] + along_y[..., None]
        turns = turns + phases[..., None, None]
        angles = 2 * math.pi * turns
        return torch.sin(angles)

    def _amplitudes(self, freqs: Tensor) -> Tensor:
        """1 up to the bandwidth, then falling to 0 at half the sampling rate: [B, C]."""
        nyquist = self.sampling_rate / 2
        beyond_bandwidth = freqs.norm(dim=2) - self.bandwidth
        fading = beyond_bandwidth / (nyquist - self.bandwidth)
        amplitudes: Tensor = 1 - fading
        return amplitudes.clamp(0, 1)


def rotation(cos: Tensor, sin: Tensor) -> Tensor:
    """Matrices [B, 3, 3] that rotate points (x, y, 1)."""
    one = torch.ones_like(cos)
    zero = torch.zeros_like(cos)
    return matrices([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])


def translation(right: Tensor, down: Tensor) -> Tensor:
    """Matrices [B, 3, 3] that move points (x, y, 1) to the left and up."""
    one = torch.ones_like(right)
    zero = torch.zeros_like(right)
    return matrices([[one, zero, -right], [zero, one, -down], [zero, zero, one]])


def matrices(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Stack tensors [B], given row by row, to matrices [B, rows, columns]."""
    stacked = []
    for row in rows:
        stacked.append(torch.stack(tuple(row), 1))
    return torch.stack(stacked, 1)


class FilteredConv(nn.Module):
    """A modulated convolution, then the non-linearity between two low-pass filters."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, w_dim: int, layer: Layer):
        super().__init__()
        self.layer = layer
        self.affine = Linear(w_dim, layer.features)
        shape = (layer.out, layer.features, layer.kernel, layer.kernel)
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(layer.out))
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.register_buffer("up_filter", empty_filter(layer.up_taps))
        self.register_buffer("down_filter", empty_filter(layer.down_taps))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        layer = self.layer
        styles: Tensor = self.affine(w)
        if layer.torgb:
            fan_in = self.weight[0].numel()
            styles = styles / math.sqrt(fan_in)
            x = self._modulated(x, styles, self.weight)
        else:
            x = self._demodulated(x, styles)
        x = x + self.bias[:, None, None]
        x = resampled(x, self.up_filter, layer.up, 1, layer.padding)
        if not layer.torgb:
            x = leaky_relu(x)
        x = clamped(x, layer.clamp)
        return resampled(x, self.down_filter, 1, layer.down)

    def _demodulated(self, x: Tensor, styles: Tensor) -> Tensor:
        """Convolve with normalised weights and styles, then divide by the norm of each filter."""
        weight = normalised(self.weight, (1, 2, 3))
        styles = normalised(styles, (1,))
        x = self._modulated(x, styles, weight)
        power = weight.square().sum((2, 3))  # [O, I]
        squares = styles.square() @ power.T
        demodulation = (squares + 1e-8).rsqrt()
        return x * demodulation[:, :, None, None]

    def _modulated(self, x: Tensor, styles: Tensor, weight: Tensor) -> Tensor:
        """Scale the channels by styles [B, I], then convolve."""
        x = x * styles[:, :, None, None]
        weight = weight * self.magnitude_ema.rsqrt()
        margin = self.layer.kernel - 1
        return F.conv2d(x, weight, padding=margin)


def normalised(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Scale the values to a mean square of 1 over some axes."""
    mean_square = values.square().mean(axes, keepdim=True)
    return values * mean_square.rsqrt()


def empty_filter(taps: Sequence[int]) -> Tensor | None:
    """A filter of this shape, whose values are loaded later; None if there is none."""
    return torch.zeros(*taps) if taps else None


def resampled(
    x: Tensor, kernel: Tensor | None, up: int, down: int, padding: Sequence[int] = (0, 0, 0, 0)
) -> Tensor:
    """Insert zeros, pad or crop (negative padding), filter, and keep every `down`-th sample.

    up: the factor of the enlargement by zeros; the gain compensates for them. kernel: [taps] for
    both directions, [taps, taps], or None for no filter.
    """
    if up > 1:
        x = with_zeros(x, up)
    x = F.pad(x, list(padding))
    if kernel is None:
        x = x * up**2
        return x[:, :, ::down, ::down]
    channels = x.shape[1]
    axes = tuple(range(kernel.ndim))
    gain = up**kernel.ndim
    kernel = kernel.flip(axes) * gain
    if kernel.ndim == 2:
        weight = kernel.expand(channels, 1, -1, -1)
        return F.conv2d(x, weight, stride=down, groups=channels)
    row = kernel.view(1, -1).expand(channels, 1, -1, -1)
    column = kernel.view(-1, 1).expand(channels, 1, -1, -1)
    x = F.conv2d(x, row, stride=(1, down), groups=channels)
    return F.conv2d(x, column, stride=(down, 1), groups=channels)


def with_zeros(x: Tensor, up: int) -> Tensor:
    """Insert up - 1 zeros after every sample of x [B, C, H, W], in both directions."""
    batch, channels, height, width = x.shape
    zeros = up - 1
    spaced = x[:, :, :, None, :, None]
    spaced = F.pad(spaced, (0, zeros, 0, 0, 0, zeros))
    return spaced.reshape(batch, channels, height * up, width * up)


def layers_of(state: Dictionary[str, Tensor]) -> tuple[dict, list[dict]]:
    """Return the `input` and `layers` of `StyleGAN3` for tensors whose arguments are not stored.

    The names and shapes give nearly all of them: L12_276_128 is 276 pixels wide, with a margin of
    10 on each side except in the last two layers. The others have the published defaults: a
    non-linearity at twice the sampling rate, a first cutoff of 2, a clamp of 256.
    """
    names = _layer_names(state)
    sizes = [_layer_size(name) for name in names]
    rates = _sampling_rates(sizes)
    layers = []
    for i, name in enumerate(names):
        before = max(i - 1, 0)
        torgb = i == len(names) - 1
        out, features, kernel, _ = state[f"synthesis.{name}.weight"].shape
        highest_rate = max(rates[before], rates[i])
        rate_between = highest_rate if torgb else 2 * highest_rate
        up = rate_between // rates[before]
        down = rate_between // rates[i]
        up_taps = _taps(state, f"synthesis.{name}.up_filter")
        down_taps = _taps(state, f"synthesis.{name}.down_filter")
        # The padding is such that sizes[i] samples remain after both filters.
        trimmed = _trimmed(up_taps) + _trimmed(down_taps)
        span = (sizes[i] - 1) * down + 1
        needed = span + trimmed
        samples = (sizes[before] + kernel - 1) * up
        padding = needed - samples
        low = (padding + up) // 2
        high = padding - low
        layer = Layer(
            name=name,
            features=features,
            out=out,
            kernel=kernel,
            up=up,
            down=down,
            padding=[low, high, low, high],
            up_taps=up_taps,
            down_taps=down_taps,
            torgb=torgb,
        )
        layers.append(asdict(layer))
    start = {
        "channels": layers[0]["features"],
        "size": sizes[0],
        "sampling_rate": rates[0],
        "bandwidth": 2.0,
    }
    return start, layers


def _sampling_rates(sizes: list[int]) -> list[int]:
    """How many samples of each layer are one image wide: its size without the margins."""
    rates = []
    for size in sizes:
        has_margin = size != sizes[-1]  # the last two layers have the same size, and no margin
        rate = size - 2 * MARGIN if has_margin else size
        rates.append(rate)
    return rates


def _layer_names(state: Dictionary[str, Tensor]) -> list[str]:
    """Return the names of the layers, L0_36_512 and so on, in order."""
    names = set()
    for key in state:
        match = re.fullmatch(r"synthesis\.(L\d+_\d+_\d+)\.weight", key)
        if match:
            names.add(match[1])
    return sorted(names, key=_layer_number)


def _layer_number(name: str) -> int:
    """The 12 of L12_276_128."""
    number, _, _ = name.removeprefix("L").split("_")
    return int(number)


def _layer_size(name: str) -> int:
    """The 276 of L12_276_128."""
    _, size, _ = name.split("_")
    return int(size)


def _trimmed(taps: list[int]) -> int:
    """How many samples a filter of this shape removes on each axis."""
    return taps[0] - 1 if taps else 0


def _taps(state: Dictionary[str, Tensor], name: str) -> list[int]:
    """Return the shape of a filter, or [] if there is none."""
    taps = state.get(name)
    if taps is None:
        return []
    return list(taps.shape)
