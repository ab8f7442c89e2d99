"""Filters and colour: blur, ringing, grey and gamma.

Convolutions go through the FFT in float64: as exact on every device and as fast for every kernel.
The image is mirrored at its edges without repeating them (d c b | a b c d | c b a), however small
it is; a bright point becomes the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .constants import cached_constant
from .images import check_channels
from .mask import distance_to_segment
from .operator import Operator, Shape
from .params import Integer, Numbers, check_choice, check_numbers, checked, integer, number
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare

BLACK = 1e-3  # a quarter of an 8-bit level: where Gamma's slope stops growing


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """x [1, C, H, W] convolved with a kernel [k, k] of odd k, mirrored at the edges."""
    reach = len(kernel) // 2
    rows, cols = (_mirrored(n, reach).to(x.device) for n in x.shape[2:])
    padded = x.double().index_select(2, rows).index_select(3, cols)
    size = padded.shape[2:]
    y = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.to(padded), size), size)
    return y[..., 2 * reach :, 2 * reach :].to(x)


def _mirrored(n: int, reach: int) -> Tensor:
    """Indices -reach … n - 1 + reach, folded back at 0 and n - 1."""
    period = max(2 * (n - 1), 1)
    at = torch.arange(-reach, n + reach, device="cpu").remainder(period)
    return torch.minimum(at, period - at)


KERNEL_WORDS = "gaussian, motion or defocus; or k² numbers, or a matrix, of odd sides"


def _check_kernel(given: object) -> str | tuple[float, ...]:
    if not isinstance(given, str):
        return _flat_kernel(given)
    check_choice("kernel", given, KERNELS)
    return given


def _flat_kernel(given: object) -> tuple[float, ...]:
    """A kernel's k² numbers in rows, from a number, a sequence of k² or a matrix of odd sides."""
    mend = "give gaussian, motion, defocus, or k² or [h, w] numbers up to 10⁶ with odd sides below 1002"
    try:
        kernel = torch.as_tensor(given, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"kernel={str(given).splitlines()[0][:60]} is no kernel; {mend}"
        ) from error
    side = math.isqrt(kernel.numel())
    if kernel.ndim < 2 and side * side == kernel.numel():
        kernel = kernel.view(side, side)
    if (
        kernel.ndim != 2
        or not all(n % 2 and n < 1002 for n in kernel.shape)
        or not (kernel.abs() <= 1e6).all()
    ):
        raise ValueError(f"kernel has shape {list(kernel.shape)} or values that do not fit; {mend}")
    (h, w), side = kernel.shape, max(kernel.shape)
    square = kernel.new_zeros(side, side)
    square[(side - h) // 2 :, (side - w) // 2 :][:h, :w] = kernel.detach()
    return tuple(square.flatten().tolist())


@register("blur", exact="scipy.ndimage", gradient="adjoint")
class Blur(Operator):
    """Convolve with a kernel, mirrored at the edges.

    kernel: "gaussian", size its standard deviation, cut off at four of them, 0 to 100; "motion", a
    straight line, size its length, 1 to 1000; "defocus", a disc, size its radius, 0 to 500; all in
    pixels, anti-aliased, with sum 1, size a number or one per image. Or k² numbers, or a tensor
    [h, w] of odd sides, zero-padded to a square: taken as it is, so that its sum scales the image.
    angle: of the motion, in degrees from the x axis, counterclockwise; a number, or one per image.
    Gradient: its own, the adjoint.
    """

    kernel: str | Sequence[float] | Tensor = checked(_check_kernel, KERNEL_WORDS)
    size: Numbers | None = number(default=None, low=0, high=1000)
    angle: Numbers = number(default=0, low=-360, high=360)
    linear = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.kernel, str):
            low, high, _ = KERNELS[self.kernel]
            check_numbers("size", self.size, low, high)
        elif self.size is not None:
            raise ValueError(f"size={self.size} belongs to a kernel with a name; leave it out")
        if self.kernel != "motion" and self.angle != 0:
            raise ValueError(f"angle={self.angle} belongs to motion; leave it out")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        if isinstance(self.kernel, str):
            kernel = KERNELS[self.kernel][2]
            return row_by_row(
                lambda x, *at: convolve(x, kernel(*at)), x, size=self.size, angle=self.angle
            )
        side = math.isqrt(len(self.kernel))
        kernel = torch.tensor(self.kernel, dtype=torch.float64, device="cpu").view(side, side)
        return row_by_row(lambda row: convolve(row, kernel), x)

    def reach(self, shape: Shape) -> float:
        if not isinstance(self.kernel, str):
            return math.isqrt(len(self.kernel)) // 2
        return 4 * self.size + 1 if isinstance(self.size, (int, float)) else math.inf


@cached_constant(maxsize=16)
def _gaussian(sigma: float, _: float) -> Tensor:
    from kornia.filters import get_gaussian_kernel2d

    side = 2 * int(4 * sigma + 0.5) + 1
    if side == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    return get_gaussian_kernel2d((side, side), torch.tensor([[sigma, sigma]], dtype=torch.float64))[
        0
    ]


@cached_constant(maxsize=16)
def _motion(length: float, angle: float) -> Tensor:
    turn = math.radians(angle)
    half = torch.tensor([math.cos(turn), -math.sin(turn)], dtype=torch.float64) * (length - 1) / 2
    return _near(half, 0.5)


@cached_constant(maxsize=16)
def _defocus(radius: float, _: float) -> Tensor:
    return _near(torch.zeros(2, dtype=torch.float64), radius)


def _near(half: Tensor, radius: float) -> Tensor:
    """The share of each pixel within `radius` of the segment from -half to half, (x, y); sum 1."""
    reach = math.ceil(float(half.abs().max()) + radius)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    pixels = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    kernel = (radius + 0.5 - distance_to_segment(pixels, -half, half)).clamp(0, 1)
    return kernel / kernel.sum()


# name: (smallest size, largest, kernel [k, k] of size and angle)
KERNELS = {
    "gaussian": (0, 100, _gaussian),
    "motion": (1, 1000, _motion),
    "defocus": (0, 500, _defocus),
}


@register("sinc", exact="published kernel", gradient="adjoint")
class Sinc(Operator):
    """Ringing: an ideal low-pass filter that keeps the circle of frequencies below cutoff, cut short.

    k(r) = cutoff·J₁(cutoff·r) / (2π r), normalised to sum 1 over size x size pixels. cutoff: in
    radians per pixel, 10⁻³ to π, where π leaves the least ringing; a number, or one per image.
    size: odd, 1 to 101. Gradient: its own, the adjoint. Source: Wang et al. 2021 (Real-ESRGAN),
    section 3.3, which draws sizes from 7 to 21 and cutoffs from π/3 to π.
    """

    cutoff: Numbers = number(low=1e-3, high=math.pi)
    size: Integer = integer(default=21, low=1, high=101, odd=True, per_image=False)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return row_by_row(
            lambda row, cutoff: convolve(row, _sinc(cutoff, self.size)), x, cutoff=self.cutoff
        )

    def reach(self, shape: Shape) -> float:
        return self.size // 2 if isinstance(self.size, int) else math.inf


@cached_constant(maxsize=16)
def _sinc(cutoff: float, size: int) -> Tensor:
    at = torch.arange(size, dtype=torch.float64) - size // 2
    r = torch.hypot(at[:, None], at)
    kernel = torch.where(
        r == 0, cutoff**2 / (4 * math.pi), cutoff * _bessel_j1(cutoff * r) / (2 * math.pi * r)
    )
    return kernel / kernel.sum()


def _bessel_j1(x: Tensor) -> Tensor:
    """J₁ by Bessel's integral, exact to rounding for x < 400; torch.special's has 6 digits."""
    turn = torch.arange(512, dtype=torch.float64) * (2 * math.pi / 512)
    return torch.cos(turn - x[..., None] * torch.sin(turn)).mean(-1)


@register("gray", exact="BT.601 luma", gradient="adjoint")
class Gray(Operator):
    """Luma 0.299 R + 0.587 G + 0.114 B in all three channels; one channel is grey already.

    Output: the same shape. Gradient: its own, the adjoint. Source: ITU-R BT.601; the colourisation
    of CRI (Wang et al. 2023). `project`: the smallest change of R, G and B that gives y.
    """

    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if x.shape[1] == 1:
            return x.clone()
        r, g, b = x.split(1, 1)
        return (0.299 * r + 0.587 * g + 0.114 * b).repeat(1, 3, 1, 1)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] == 1:
            return y
        luma = x.new_tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
        near, target = x.double().clamp(0, 1), y.double().mean(1, keepdim=True)
        for _ in range(3):  # after each round, one more channel at least has come to its end
            away = target - (luma * near).sum(1, keepdim=True)
            share = luma * torch.where(away > 0, near < 1, near > 0)
            near = (
                near + share * away / share.square().sum(1, keepdim=True).clamp(min=1e-12)
            ).clamp(0, 1)
        return near.to(x)


@register("gamma", exact="power law", gradient="finite at black")
class Gamma(Operator):
    """x^gamma; x < 0 counts as 0.

    gamma: 0.01 to 100, below 1 brightens; a number, or one per image. Gradient: gamma·max(x,
    10⁻³)^(gamma - 1), finite at black for every gamma.
    """

    gamma: Numbers = number(low=0.01, high=100)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return row_by_row(_power, x, gamma=self.gamma)


def _power(x: Tensor, gamma: float) -> Tensor:
    p = x.detach().clamp(min=0)
    return declare(x, p**gamma, gamma * p.clamp(min=BLACK) ** (gamma - 1))
