"""A denoiser as a prior: it estimates the image in one with Gaussian noise of a known level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from .generator.mapping import Label, labels
from .hub import HubPrior
from .module_call import check_choices, dtype_of, padded, wide
from .noise_table import Betas, NoiseTable, Values

Sigma = Tensor | float
DEFAULT_RANGE = (0.01, 1.0)
_LEAST_VARIANCE = 1e-6  # of x0, in the network's own units


@dataclass(frozen=True)
class Level:
    """A noise level that a sampler visits.

    sigma: the standard deviation in [-1, 1] units. time: the network's own step, an integer, if it
    was trained at numbered steps.
    """

    sigma: float
    time: int | None = None


class Denoiser(HubPrior):
    """Estimate the image x0 in x = x0 + σ·n with n ~ N(0, I), by any torch module.

    module: by default (x, sigma) → x0, with x [B, C, H, W] and x0 in [0, 1] units, unclamped, and
    sigma [B] in the same units. Keywords say where a module is of another kind:

    * predicts: "x0", "epsilon" (the noise n) or "v" (below).
    * betas or alpha_bar: the module is called with (x_t, t), where t [B] is the step of its
      training at which the noise level is σ. Give the variances β of all its steps, or the
      products ᾱ of 1 − β, or a published table of 1000 steps by name: "linear" (1e-4 to 0.02),
      "scaled_linear" or "cosine".
    * signed: the module works in [-1, 1] units.
    * learned_variance: the module has 2C output channels. The first C are the prediction, the
      others interpolate between two variances (see `variance`).
    * classes: how many classes there are. The module is called with labels [B] as a third argument.
    * upright: it was trained on upright pictures alone, so that it is not shown turned ones;
      those of one resolution always are.
    * takes_map: sigma may be a map [B, 1, H, W] of noise levels.
    * channels: C. resolution: the side of the only images the module takes; None for any size.
      multiple: sides that are no multiple of it are padded at the right and at the bottom by
      repeating the last row and column, and the result is cropped.
    * sigma_range: the lowest and highest noise level it was trained on, in [0, 1] units. By default
      that of the table, or 0.01 to 1.
    * variants: denoisers of the same images that were trained on errors of another kind, such as
      those of JPEG, with sigma as their standard deviation. `pnp` finds by trial where to take one.

    With z and σ in the module's own units (z = 2x − 1 and twice the σ if signed), s = 1/√(1 + σ²),
    and t interpolated linearly in log σ between the steps, the output o of the module is
    o = module(z, σ), or o = module(s z, t) with a table. Then

        x0 = o                 if it predicts x0
        x0 = z − σ o           if it predicts epsilon
        x0 = s² z − s σ o      if it predicts v = s n − s σ x0

    The module is put into eval mode and frozen. The result is differentiable in x. Raises
    ValueError for arguments that contradict each other.
    """

    prior_kind = "denoiser"
    __call__: Callable[..., Tensor]

    def __init__(
        self,
        module: nn.Module,
        *,
        channels: int = 3,
        resolution: int | None = None,
        multiple: int = 1,
        predicts: str = "x0",
        betas: Betas | None = None,
        alpha_bar: Values | None = None,
        signed: bool = False,
        learned_variance: bool = False,
        classes: int = 0,
        upright: bool = False,
        takes_map: bool = False,
        sigma_range: tuple[float, float] | None = None,
        variants: Iterable[Denoiser] = (),
    ):
        super().__init__()
        check_choices(module, predicts, channels, multiple)
        self.module = module
        self.channels = channels
        self.resolution = resolution
        self.multiple = multiple
        self.predicts = predicts
        self.signed = signed
        self.learned_variance = learned_variance
        self.c_dim = classes
        self.upright = upright or resolution is not None
        self.takes_map = takes_map
        self.table: NoiseTable | None = None
        if betas is not None or alpha_bar is not None:
            self.table = NoiseTable(betas, alpha_bar)
        if self.table is None and learned_variance:
            raise ValueError("learned_variance needs the variances of the steps; give betas")
        if self.table is not None and takes_map:
            raise ValueError("takes_map: a network with a table of steps takes one t per image")
        self.sigma_range = sigma_range or self._default_range()
        low, high = self.sigma_range
        if not 0 < low < high < math.inf:
            raise ValueError(f"sigma_range={self.sigma_range} must be (low, high), above 0")
        self.variants = nn.ModuleList([self._checked_variant(variant) for variant in variants])
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, sigma: Sigma, label: Label = None) -> Tensor:
        return self.denoise(x, sigma, label)

    def denoise(self, x: Tensor, sigma: Sigma, label: Label = None) -> Tensor:
        """Estimate the image without its noise, in the type of x, not clamped.

        x: [B, C, H, W] in [0, 1] units, not clamped. sigma: the standard deviation of its noise in
        the same units: a number, a tensor [B], or a map [B, 1, H, W] if `takes_map`. label: for a
        network with classes, one class, one per image, or [B, c_dim].
        Raises ValueError for shapes that the network does not take.
        """
        z, level = self._own_units(x, sigma)
        times = self._times(level)
        output, _ = self._output(z, level, times, label)
        x0 = self._x0(output, z, level)
        if self.signed:
            x0 = (x0 + 1) / 2
        return x0.to(x.dtype)

    def _checked_variant(self, variant: object) -> Denoiser:
        """A variant. Raises ValueError unless it takes what this denoiser takes."""
        if not isinstance(variant, Denoiser):
            kind = type(variant).__name__
            raise ValueError(f"variants: one is a {kind}; give denoisers, as load_prior returns")
        for name in ("channels", "takes_map", "resolution", "c_dim"):
            theirs, ours = getattr(variant, name), getattr(self, name)
            if theirs != ours:
                raise ValueError(
                    f"variants: one has {name}={theirs}, and the denoiser {ours}; "
                    "give variants of the same images"
                )
        return variant

    @property
    def alternatives(self) -> tuple[Denoiser, ...]:
        """The denoiser itself and its variants."""
        variants = cast(Iterable[Denoiser], self.variants)
        return (self, *variants)

    def facts(self) -> dict[str, str]:
        """What the denoiser declares of itself, for a model card."""
        low, high = self.sigma_range
        levels = f"σ from {low:g} to {high:g}, for images in [0, 1]"
        return super().facts() | {"noise levels": levels}

    def save(self, path: str | Path) -> None:
        """Write the denoiser, without its variants, as `save_denoiser` does."""
        from .load import save_denoiser

        save_denoiser(self, path)

    def suited_to(self, images: Tensor) -> Denoiser:
        """The denoiser for images [B, C, h, w]: for grey ones, if this one knows three colours.

        A denoiser of one size, or with classes, stays as it is.
        """
        wants_grey = images.shape[1] == 1 and self.channels == 3
        if not wants_grey or self.resolution is not None or self.c_dim:
            return self
        low, high = self.sigma_range
        scale = math.sqrt(self.channels)
        return Denoiser(
            GreyModule(self),
            channels=1,
            upright=self.upright,
            takes_map=self.takes_map,
            sigma_range=(low / scale, high / scale),
            variants=[variant.suited_to(images) for variant in self.alternatives[1:]],
        )

    def variance(self, x: Tensor, sigma: Sigma, label: Label = None) -> Tensor:
        """Estimate the variance of each pixel of x0, given x: [B, C, H, W], in squares of x's unit.

        It needs a network with `learned_variance`; `NoiseTable.variance` has the equations. It is
        at least 1e-6 in the network's own units. Raises ValueError for other networks.
        """
        if self.table is None or not self.learned_variance:
            raise ValueError("this denoiser has learned no variance; its MSE must be measured")
        z, level = self._own_units(x, sigma)
        times = self._times(level)
        _, share = self._output(z, level, times, label)
        times = times.view_as(level)
        variance = self.table.variance(share, level, times)
        variance = variance.clamp_min(_LEAST_VARIANCE)
        variance = variance.to(x.dtype)
        return variance / 4 if self.signed else variance

    def schedule(self, steps: int) -> list[Level]:
        """Return noise levels for a sampler, falling.

        A network with a table gets every k-th of its own steps, down to the first. Any other
        network gets a geometric series from one end of `sigma_range` to the other.
        Raises ValueError for more steps than the table has, or less than one.
        """
        if self.table is None:
            return self._geometric(steps)
        largest = len(self.table)
        if not 1 <= steps <= largest:
            raise ValueError(f"steps={steps} must be 1 to {largest} for this denoiser")
        stride = largest // steps
        unit = 1 if self.signed else 2
        levels = []
        for time in range(0, stride * steps, stride):
            sigma = float(self.table.sigmas[time])
            levels.append(Level(unit * sigma, time))
        return levels[::-1]

    def _geometric(self, steps: int) -> list[Level]:
        """Noise levels from one end of the range to the other, each the same factor lower."""
        if steps < 1:
            raise ValueError(f"steps={steps} must be 1 or more")
        low, high = self.sigma_range
        ratio = low / high
        gaps = max(steps - 1, 1)
        levels = []
        for step in range(steps):
            share = step / gaps
            sigma = high * ratio**share
            levels.append(Level(2 * sigma))
        return levels

    def noise_in(self, x: Tensor, level: Level, label: Label = None) -> Tensor:
        """Estimate n in x = x0 + σ·n, where x, x0 and σ are in [-1, 1] units."""
        z = x
        sigma = level.sigma
        if not self.signed:
            z = (x + 1) / 2
            sigma = sigma / 2
        batch = len(z)
        sigmas = z.new_full((batch, 1, 1, 1), sigma)
        if self.table is None or level.time is None:
            times = self._times(sigmas)
            output, _ = self._output(z, sigmas, times, label)
        else:
            times = torch.full((batch,), level.time, device=z.device)
            scale = self.table.alpha_bar[level.time].sqrt()
            scaled = z * scale.to(z)
            output, _ = self._call(scaled, times, label)
        if self.predicts == "epsilon":
            return output
        x0 = self._x0(output, z, sigmas)
        return (z - x0) / sigmas

    def _x0(self, output: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """The image, from the network's output. All in its own units."""
        if self.predicts == "x0":
            return output
        if self.predicts == "epsilon":
            return z - level * output
        squared_scale = 1 / (1 + level.square())
        return squared_scale * z - squared_scale.sqrt() * level * output

    def _own_units(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """The image, and the noise level as [B, 1, 1, 1] or a map, in the network's own units.

        Half precision is converted to float32.
        """
        self._check_image(x)
        x = x.to(wide(x.dtype))
        level = self._level(x, sigma)
        if self.signed:
            return 2 * x - 1, 2 * level
        return x, level

    def _level(self, x: Tensor, sigma: Sigma) -> Tensor:
        """The noise level as [B, 1, 1, 1] or a map [B, 1, H, W].

        Raises ValueError for another shape, and for a map unless the network takes maps.
        """
        batch = len(x)
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if level.ndim == 0:
            level = level.expand(batch)
        if level.shape == (batch,):
            return level.view(batch, 1, 1, 1)
        map_shape = (batch, 1, *x.shape[2:])
        if self.takes_map and level.shape == map_shape:
            return level
        accepted = f"a number or [{batch}]"
        if self.takes_map:
            accepted = f"{accepted} or a map {list(map_shape)}"
        raise ValueError(f"sigma has shape {list(level.shape)}; this denoiser takes {accepted}")

    def _check_image(self, x: Tensor) -> None:
        """Raise ValueError for an image that the network does not take."""
        side = self.resolution
        size = "any size" if side is None else f"{side}×{side}"
        has_channels = x.ndim == 4 and x.shape[1] == self.channels
        if not has_channels or not x.is_floating_point():
            raise ValueError(
                f"x is {list(x.shape)} of {x.dtype}; this denoiser takes floats "
                f"[B, {self.channels}, H, W] of {size}"
            )
        if side is None:
            return
        if tuple(x.shape[2:]) != (side, side):
            raise ValueError(f"x is {list(x.shape)}; this denoiser takes images of {size}")

    def _times(self, level: Tensor) -> Tensor:
        """The network's steps [B] at these noise levels; without a table the levels themselves."""
        if self.table is not None:
            times = self.table.time(level.flatten())
            return times.to(level)
        is_map = level.shape[2:] != (1, 1)
        return level if is_map else level.flatten()

    def _output(
        self, z: Tensor, level: Tensor, times: Tensor, label: Label
    ) -> tuple[Tensor, Tensor]:
        """The network's prediction for z, and its learned variance (or an empty tensor)."""
        if self.table is None:
            return self._call(z, times, label)
        square = level.square()
        scale = (1 + square).rsqrt()
        return self._call(z * scale, times, label)

    def _call(self, z: Tensor, times: Tensor, label: Label) -> tuple[Tensor, Tensor]:
        """Call the network in its own type, on sides that it takes, and check what it returns."""
        batch, _, height, width = z.shape
        dtype = dtype_of(self.module, z)
        image = padded(z, self.multiple).to(dtype)
        arguments = [image, self._padded_times(times, dtype)]
        features = labels(label, batch, self.c_dim, z.device)
        if features is not None:
            classes = features.argmax(1)
            arguments.append(classes)
        output: Tensor = self.module(*arguments)
        channels = self.channels
        if self.learned_variance:
            channels = 2 * self.channels
        if output.ndim != 4 or output.shape[:2] != (batch, channels):
            raise ValueError(
                f"the denoiser's module returned {list(output.shape)} instead of "
                f"{[batch, channels, 'H', 'W']}; check channels and learned_variance"
            )
        cropped = output[:, :, :height, :width].to(z.dtype)
        prediction = cropped[:, : self.channels]
        variance = cropped[:, self.channels :]
        return prediction, variance

    def _padded_times(self, times: Tensor, dtype: torch.dtype) -> Tensor:
        """The times in the type that the network takes. A map is padded like an image."""
        if times.ndim == 4:
            times = padded(times, self.multiple)
        if not times.is_floating_point():
            return times
        if self.table is not None:
            dtype = wide(dtype)
        return times.to(dtype)

    def _default_range(self) -> tuple[float, float]:
        """The range of the table in [0, 1] units."""
        if self.table is None:
            return DEFAULT_RANGE
        unit = 2 if self.signed else 1
        lowest = float(self.table.sigmas[0])
        highest = float(self.table.sigmas[-1])
        return lowest / unit, highest / unit


class GreyModule(nn.Module):
    """A denoiser of three colours as a network of one channel.

    Noise in grey is the same in all three colours. So its deviation along the grey axis is √3 times
    that of noise which differs in every colour, and this is what the denoiser is told.
    """

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        in_colour = x.expand(-1, self.denoiser.channels, -1, -1)
        told_sigma = sigma * math.sqrt(self.denoiser.channels)
        estimate = self.denoiser.denoise(in_colour, told_sigma)
        return estimate.mean(1, keepdim=True)
