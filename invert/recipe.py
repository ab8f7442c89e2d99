"""The constants of a denoiser's training, declared in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from degrade.spec import parse

LPIPS_SIDE = 32  # pixels: AlexNet takes no smaller patches that are multiples of 8
MULTIPLE = 8  # sides of a patch: the network halves them three times


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, besides the pictures. The defaults are for photos.

    The network is a DRUNet whose output is added to the noisy image. It learns by the loss
    mean |D(x + σ n, σ) - x| / √σ, with σ drawn log-uniformly from `sigma`. With `sigma_data` it is
    scaled as `UNetRes` says, and learns by mean (D(x + σ n, σ) - x)² (1/σ² + 1/σ_data²), the factor
    at most 2500. This is the loss of diffusion models: the best estimate is the mean of all images
    that could be in the noise. With `damage`, LPIPS / √σ of the damaged patches is added.

    The hidden kernels are trained by Muon, the first and the last layer by Adam. The learning rate
    rises for `warmup` steps, stays, and then falls in a straight line. The result is a moving
    average of the weights.

    Raises ValueError for values out of range.
    """

    channels: int = 3  # 3 for colour, 1 for grey
    widths: tuple[int, int, int, int] = (32, 64, 112, 192)  # at full size, 1/2, 1/4 and 1/8
    blocks: int = 2  # residual blocks at each size
    branch_scale: float = 0.3  # factor of a block's last kernel at the start
    tail_scale: float = 0.1  # factor of the last layer's kernel at the start

    # Pixels: a picture is seen reduced to each of these, or as it is if it is smaller than all.
    longest_sides: tuple[int, ...] = (2000, 1300, 800)
    steps: int = 40_000
    batch: int = 8  # patches in a step
    patch: int = 64  # side in pixels
    sigma: tuple[float, float] = (0.005, 1.0)  # lowest and highest, in [0, 1] units
    sigma_data: float | None = None  # of clean pixels; for noise far above 1
    # An operator whose errors a share of the patches has instead of noise, for a variant of a
    # denoiser. It is drawn anew for each patch. The network is told the root mean square of the
    # error as sigma, times a random factor, since restoration tries several levels.
    damage: str | None = None
    damaged: float = 0.75
    factors: tuple[float, float] = (0.74, 2.0)
    perceptual: float = 0.12  # weight of their LPIPS in the loss, beside the absolute error
    turned: bool = True  # whether patches are rotated and reflected
    synthetic: float = 0.2  # share of the patches that are dead leaves in the colours of a picture
    maps: float = 0.0  # share of the patches whose noise level varies smoothly
    map_grid: int = 3  # noise levels along each side of such a patch; bilinear in between

    learning_rate: float = 2e-3
    warmup: int = 100  # steps
    constant: float = 0.3  # share of the steps before the rate falls
    final: float = 0.01  # factor of the rate at the end
    momentum: float = 0.95  # of Muon
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam
    clip: float = 0.5  # largest norm of the gradient
    average: float = 0.999  # decay of the moving average of the weights
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.sigma
        if not 0 < low <= high < math.inf:
            raise ValueError(f"sigma={low:g}..{high:g} must be above 0, the lower one first")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels} must be 1 (grey) or 3 (colour)")
        if self.patch < MULTIPLE or self.patch % MULTIPLE:
            raise ValueError(f"patch={self.patch} must be a multiple of {MULTIPLE}")
        for name in ("steps", "batch", "blocks", "map_grid"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate:g} must be above 0")
        if self.sigma_data is not None and not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data={self.sigma_data:g} must be above 0")
        if self.damage is not None:
            self._check_damage()
        for name in ("synthetic", "maps", "damaged", "constant", "final", "average"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share:g} must be between 0 and 1")

    def _check_damage(self) -> None:
        """Raise ValueError unless the damage is an operator that keeps the shape of a patch."""
        assert self.damage is not None
        shape = (1, self.channels, self.patch, self.patch)
        if self.patch < LPIPS_SIDE:
            raise ValueError(
                f"patch={self.patch} must be {LPIPS_SIDE} or more with damage, for LPIPS"
            )
        if self.sigma_data is not None:
            raise ValueError("damage cannot be combined with sigma_data (--aligned); leave one out")
        if tuple(parse(self.damage).output_shape(shape)) != shape:
            raise ValueError(f"damage={self.damage} must be an operator that keeps the size")

    @property
    def damaged_patches(self) -> int:
        """How many patches of a batch are damaged: the last ones."""
        return 0 if self.damage is None else round(self.damaged * self.batch)

    @classmethod
    def aligned(cls, patch: int, **changes: Any) -> Recipe:
        """The recipe for square pictures with one framing, such as portraits.

        They are learned whole and upright, reduced to patch × patch, with noise up to far above 1,
        so that a sampler can begin at nothing but noise. changes: of the other constants.
        """
        constants: dict[str, Any] = {
            "patch": patch,
            "longest_sides": (patch,),
            "widths": (16, 32, 80, 160),
            "sigma": (0.005, 10.0),
            "sigma_data": 0.25,
            "synthetic": 0.0,
            "turned": False,
            "clip": 1.0,
        }
        return cls(**{**constants, **changes})

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warmup = max(self.warmup, 1)
        rising = min(1.0, (step + 1) / warmup)
        remaining = 1 - step / self.steps
        falling = 1.0
        if self.constant < 1:
            falling = min(1.0, remaining / (1 - self.constant))
        factor = self.final + (1 - self.final) * falling
        return self.learning_rate * rising * factor

    def decay(self, step: int) -> float:
        """The decay of the moving average at a step: less at first, to forget the start."""
        return min(self.average, (step + 1) / (step + 10))
