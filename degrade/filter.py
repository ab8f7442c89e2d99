"""Filters and colour: blur, ringing, grey and gamma.

The image is mirrored at its edges without repeating them (d c b | a b c d | c b a), however small
it is; a bright point becomes the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from .constants import cached_constant
from .convolution import EDGES, convolve
from .images import LARGEST_VALUE, check_channels
from .kernels import KERNELS, with_gradient
from .operator import Operator, Shape
from .params import (
    Integer,
    Numbers,
    check_choice,
    check_numbers,
    checked,
    decided,
    integer,
    number,
    option,
    show,
    single,
    tensor_of,
)
from .registry import register
from .rng import Rng
from .rows import row_by_row
from .surrogate import declare, with_gradient_of
from .tracked import tracked
from .transforms import is_differentiated

_NEVER_ZERO = 1e-30  # whose logarithm is finite; its powers are 0 for every purpose
BLACK = 1e-3  # a quarter of an 8-bit level: where Gamma's slope stops growing


KERNEL_WORDS = f"{', '.join(KERNELS)}; or k² numbers, or a matrix, of odd sides"
_MEND = f"give {', '.join(KERNELS)}, or k² or [h, w] numbers up to 10⁶ with odd sides below 1002"


def _check_kernel(given: object) -> str | tuple[float, ...]:
    if not isinstance(given, str):
        return _flat_kernel(given)
    check_choice("kernel", given, KERNELS)
    return given


def _flat_kernel(given: object) -> tuple[float, ...]:
    """A kernel's k² numbers in rows, from a sequence of k² numbers or a matrix of odd sides."""
    kernel = _as_matrix(_as_tensor(given))
    if not _is_kernel(kernel):
        shape = list(kernel.shape)
        raise ValueError(f"kernel has shape {shape} or values that do not fit; {_MEND}")
    square = _padded_to_square(kernel)
    values = square.flatten()
    if is_differentiated(values):
        return cast(tuple[float, ...], tracked(values))
    return tuple(values.tolist())


def _as_tensor(given: object) -> Tensor:
    """The numbers of a kernel; refuses one number, which is no kernel."""
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    try:
        kernel = torch.as_tensor(tensor_of(given, like), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        first_line = str(given).splitlines()[0]
        raise ValueError(f"kernel={first_line[:60]} is no kernel; {_MEND}") from error
    if kernel.numel() == 1:
        raise ValueError(
            f"kernel={kernel.item():g} is one number, which only scales the image; "
            f"a Gaussian with this standard deviation is blur:gaussian,{kernel.item():g}"
        )
    return kernel


def _as_matrix(kernel: Tensor) -> Tensor:
    """k² numbers in a row as k rows; every other kernel is returned unchanged."""
    count = kernel.numel()
    side = math.isqrt(count)
    if kernel.ndim < 2 and side * side == count:
        return kernel.view(side, side)
    return kernel


def _padded_to_square(kernel: Tensor) -> Tensor:
    """Pad the shorter side with zeros, so that the centre stays in the middle."""
    height, width = kernel.shape
    side = max(height, width)
    above = (side - height) // 2
    before = (side - width) // 2
    rows = slice(above, above + height)
    columns = slice(before, before + width)
    square = kernel.new_zeros(side, side)
    square[rows, columns] = kernel
    return square


def _is_kernel(kernel: Tensor) -> bool:
    if kernel.ndim != 2:
        return False
    for side in kernel.shape:
        if side % 2 == 0 or side >= 1002:
            return False
    in_range = kernel.abs() <= 1e6
    return bool(in_range.all())


@register("blur", exact="scipy.ndimage", gradient="adjoint")
class Blur(Operator):
    """Convolve with a kernel; the image is mirrored at its edges, or its edge is repeated.

    y = k ∗ x; the adjoint correlates y with k and folds the mirrored edges back.

    kernel: a name, k² numbers, or a tensor [h, w] of odd sides, padded with zeros to a square. A
        named kernel sums to 1 (a disc of 8 or more pixels, as published, to 1 up to a hundredth);
        numbers are used as given, so their sum scales the image.
    size: of a named kernel, in pixels; a number, or one per image. "gaussian" and "plateau": the
        standard deviation, 0 to 100; "motion": the length of a straight line, 1 to 1000; "defocus":
        the radius of a disc, 0 to 500. Motion and defocus are anti-aliased. "trail": the standard
        deviation of ImageMagick's motion blur, half of a Gaussian along a line of whole pixels, 0
        to 100; "disc": the radius of ImageNet-C's defocus, a disc of whole pixels, 0 to 100;
        "line": the standard deviation across a line, 0.05 to 100, of which StegaStamp keeps the
        pixels at most three steps along rows and columns from the centre.
    angle: of the motion, trail or line, or of the direction in which a Gaussian or plateau with
        `across` has the standard deviation `size`; in degrees from the x axis, counterclockwise.
    across: the standard deviation of a Gaussian or plateau at right angles to `angle`, the same as
        `size` if left out; for a disc that of the Gaussian of 3 pixels (5 from a radius of 9 on)
        that smooths it.
    beta: the exponent in exp(-q^β / 2) of a generalised Gaussian, and in 1 / (1 + q^β) of a
        plateau, with q = (u / size)² + (v / across)² at u pixels along the angle and v across it.
    side: the side of the square of pixels that a Gaussian or plateau is cut to, odd, 1 to 501; if
        left out, the kernel ends at four standard deviations. For a trail: its length.
    edge: "mirror"; "nearest", which repeats the pixels at the edge; or "black".

    Output: the same shape. Gradient: its own, the adjoint; every number of the kernel has one too.
    That of a trail's angle and a disc's size is the one of the anti-aliased `motion` or `defocus`.
    Source of `beta` and the plateau: Liu et al. 2020 (generalised Gaussian kernels for
    super-resolution), as drawn by Real-ESRGAN.
    """

    kernel: str | Sequence[float] | Tensor = checked(_check_kernel, KERNEL_WORDS, learnable=True)
    size: Numbers | None = number(default=None, low=0, high=1000, learnable=True)
    angle: Numbers = number(default=0, low=-360, high=360, learnable=True)
    across: Numbers | None = number(default=None, low=0, high=100, learnable=True)
    beta: Numbers = number(default=1, low=0.05, high=20, learnable=True)
    side: Integer | None = integer(default=None, low=1, high=501, odd=True, per_image=False)
    edge: str = option(*EDGES, default="mirror")
    linear = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.kernel, str):
            if self.size is not None:
                raise ValueError(f"size={self.size} belongs to a kernel with a name; leave it out")
            self._refuse_unused("a kernel with a name", ("angle", "across", "beta", "side"))
            return
        named = KERNELS[self.kernel]
        if self.size is None:
            raise ValueError(f"size is missing, as in blur:{self.kernel},2")
        check_numbers("size", self.size, named.smallest, named.largest)
        for name in ("angle", "across", "beta", "side"):
            if name not in named.takes:
                owners = [kernel for kernel, other in KERNELS.items() if name in other.takes]
                self._refuse_unused(", ".join(owners), (name,))
        if "beta" in named.takes and self.across is None:
            self._refuse_unused("motion, or to a kernel with across", ("angle",))

    def _refuse_unused(self, owner: str, names: Sequence[str]) -> None:
        """Raise ValueError if a parameter is given that this kernel does not have."""
        for name, value, _ in self.arguments():
            if name in names:
                raise ValueError(f"{name}={show(value)} belongs to {owner}; leave it out")

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        if not isinstance(self.kernel, str):
            side = math.isqrt(len(self.kernel))
            like = torch.empty(0, dtype=torch.float64, device="cpu")
            values = cast(Tensor, tensor_of(self.kernel, like))
            kernel = values.view(side, side)
            with_edge = partial(convolve, edge=self.edge)
            return row_by_row(with_edge, x, kernel=kernel)
        named = KERNELS[self.kernel]
        cut_to = decided(self.side)

        def blur(row: Tensor, size: float, across: float, angle: float, beta: float) -> Tensor:
            kernel = named.draw(size, across, angle, beta, cut_to)
            return convolve(row, kernel, self.edge)

        across = self.size if self.across is None else self.across
        return row_by_row(blur, x, size=self.size, across=across, angle=self.angle, beta=self.beta)

    def reach(self, shape: Shape) -> float:
        if not isinstance(self.kernel, str):
            side = math.isqrt(len(self.kernel))
            return side // 2
        if isinstance(self.side, int):
            return KERNELS[self.kernel].reach_of(self.side)
        across = self.size if self.across is None else self.across
        if isinstance(self.size, (int, float)) and isinstance(across, (int, float)):
            named = KERNELS[self.kernel]
            return max(4 * max(self.size, across) + 1, named.least_reach)
        return math.inf


@register("sinc", exact="published kernel", gradient="adjoint")
class Sinc(Operator):
    """Ringing: an ideal low-pass filter that keeps frequencies below `cutoff`, cut to a window.

    y = k ∗ x with k(r) = cutoff·J₁(cutoff·r) / (2π r), scaled to sum 1; the adjoint correlates y
    with k.

    cutoff: in radians per pixel, 10⁻³ to π; π rings least. A number, or one per image.
    size: side of the window in pixels, odd, 1 to 101.

    Output: the same shape. Gradient: its own, the adjoint. Source: Wang et al. 2021 (Real-ESRGAN),
    section 3.3, which draws sizes from 7 to 21 and cutoffs from π/3 to π.
    """

    cutoff: Numbers = number(low=1e-3, high=math.pi, learnable=True)
    size: Integer = integer(default=21, low=1, high=101, odd=True, per_image=False)
    linear = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        size = decided(self.size)

        def low_pass(row: Tensor, cutoff: float) -> Tensor:
            exact = _cached_sinc(float(cutoff), size)
            formula = partial(_sinc, size=size)
            kernel = with_gradient(exact, formula, [cutoff])
            return convolve(row, kernel)

        return row_by_row(low_pass, x, cutoff=self.cutoff)

    def reach(self, shape: Shape) -> float:
        if isinstance(self.size, int):
            return self.size // 2
        return math.inf


@cached_constant(maxsize=16)
def _cached_sinc(cutoff: float, size: int) -> Tensor:
    return _sinc(cutoff, size)


def _sinc(cutoff: float | Tensor, size: int) -> Tensor:
    pixels = torch.arange(size, dtype=torch.float64)
    position = pixels - size // 2
    r = torch.hypot(position[:, None], position)
    centre = cutoff**2 / (4 * math.pi)
    bessel = _bessel_j1(cutoff * r)
    circumference = 2 * math.pi * torch.where(r == 0, 1.0, r)
    around = cutoff * bessel / circumference
    kernel = torch.where(r == 0, centre, around)
    return kernel / kernel.sum()


def _bessel_j1(x: Tensor) -> Tensor:
    """J₁ by Bessel's integral, exact to rounding for x < 400; torch.special's has 6 digits."""
    step = 2 * math.pi / 512
    steps = torch.arange(512, dtype=torch.float64)
    angle = steps * step
    sine = torch.sin(angle)
    phase = angle - x[..., None] * sine
    integrand = torch.cos(phase)
    return integrand.mean(-1)


@register("gray", exact="BT.601 luma", gradient="adjoint")
class Gray(Operator):
    """Set all three channels to the luma 0.299 R + 0.587 G + 0.114 B; grey images stay as they are.

    The adjoint sums the channels of y and multiplies by (0.299, 0.587, 0.114).

    Output: the same shape. Gradient: its own, the adjoint. Source: ITU-R BT.601; colourisation in
    Wang et al. 2023 (CRI). `project`: the smallest change of R, G and B that gives y.
    """

    linear = local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        if x.shape[1] == 1:
            return x.clone()
        red, green, blue = x.split(1, 1)
        luma: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
        return luma.repeat(1, 3, 1, 1)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] == 1:
            return y
        weights = x.new_tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        weights = weights.view(3, 1, 1)
        observed = y.double()
        target = observed.mean(1, keepdim=True)
        image = x.double().clamp(0, 1)
        for _ in range(3):  # each round brings at least one more channel to 0 or 1, or ends
            weighted = weights * image
            luma = weighted.sum(1, keepdim=True)
            residual = target - luma
            can_move = torch.where(residual > 0, image < 1, image > 0)
            free_weights = weights * can_move
            squares = free_weights.square()
            norm = squares.sum(1, keepdim=True)
            divisor = norm.clamp(min=1e-12)
            step = free_weights * residual / divisor
            moved = image + step
            image = moved.clamp(0, 1)
        return image.to(x)


@register("gamma", exact="power law", gradient="finite at black")
class Gamma(Operator):
    """Raise every value to the power gamma; x < 0 counts as 0.

    y = x^gamma. Gradient: gamma·max(x, 10⁻³)^(gamma - 1), finite at black for every gamma. Both are
    at most 10⁹, which only values far above 1 reach. The gradient of gamma is y·ln x.

    gamma: 0.01 to 100; below 1 brightens; a number, or one per image.

    `inverse` is the power 1/gamma. `project`: y^(1/gamma).
    """

    gamma: Numbers = number(low=0.01, high=100, learnable=True)
    local = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return row_by_row(_power, x, gamma=self.gamma)

    @property
    def inverse(self) -> Gamma:
        """The operator that undoes this one. Raises ValueError for a gamma still to be drawn."""
        like = torch.empty(0, dtype=torch.float64, device="cpu")
        if isinstance(self.gamma, tuple):
            gammas = cast(Tensor, tensor_of(self.gamma, like))
            return Gamma(1 / gammas)
        return Gamma(1 / tensor_of(single(self.gamma), like))

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        y_double = y.double().clamp(min=0)
        image: Tensor = y_double ** (1 / single(self.gamma))
        return image.to(x)


def _power(x: Tensor, gamma: float) -> Tensor:
    brightness = x.detach().clamp(min=0)
    value = brightness**gamma
    lifted = brightness.clamp(min=BLACK)
    power = lifted ** (gamma - 1)
    slope = gamma * power
    finite_value = value.clamp(max=LARGEST_VALUE)
    finite_slope = slope.clamp(max=LARGEST_VALUE)
    declared = declare(x, finite_value, finite_slope)
    exponent = tensor_of(gamma, x)
    if not isinstance(exponent, Tensor):
        return declared
    slope_of_gamma = finite_value * brightness.clamp(min=_NEVER_ZERO).log()
    return with_gradient_of(declared, exponent * slope_of_gamma)
