"""Noise of sensors, which is drawn at every call.

Parameters are a number, or one per image; sigma and width are in units of [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .color import luma, recolored
from .images import check_channels
from .levels import Clamp
from .operator import Operator, Shape
from .params import Numbers, check_numbers, checked, number, option, per_image, show
from .registry import register
from .rng import Rng
from .surrogate import declare, with_gradient_of
from .transforms import is_transformed

DARKEST = 1e-6  # smallest peak: counts divided by it are finite in float32
BRIGHTEST = 1e9  # largest peak: counts up to it are exact integers in float64
_LARGEST_MIX = 9  # largest covariance of `Correlated`
_NEVER_ZERO = 1e-3  # photons added to a variance, so that its root and quotient are finite at 0


class _GrayOrColor(Operator):
    """Base of noise that is the same in all channels of an image with probability `gray`."""

    gray: float

    @property
    def varies(self) -> bool:
        return self.gray not in (0, 1) or super().varies

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.gray in (0, 1):
            return self
        is_gray = rng.share() < self.gray
        return self.with_values({"gray": int(is_gray)})

    def channels(self, x: Tensor) -> Tensor:
        """The first channel of x, or all: one element for each number that is drawn."""
        return x[:, :1] if self.gray else x


@register("gaussian", exact="N(x, σ²)", gradient="identity")
class Gaussian(_GrayOrColor):
    """Add Gaussian noise to every channel of every pixel.

    y = x + sigma·ε, ε ~ N(0, 1). Gradient: identity.

    sigma: standard deviation in units of [0, 1], 0 to 1; a number, or one per image.
    gray: the probability that an image gets the same ε in all its channels; 0 if left out.
    """

    sigma: Numbers = number(low=0, high=1, levels=True, learnable=True)
    gray: float = number(default=0, low=0, high=1, per_image=False, drawn=False)
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        sigma = per_image(self.sigma, x, "sigma")
        normal = rng.normal(self.channels(x))
        if not isinstance(sigma, float):
            return x + sigma * normal
        noise = normal.mul_(sigma)  # in place, which takes half the time of a new tensor
        is_writable = noise.shape == x.shape and not is_transformed(x)
        return noise.add_(x) if is_writable else x + noise


@register("poisson", exact="Poisson's law", gradient="at the draw")
class Poisson(Operator):
    """Photon noise: count photons in every channel of every pixel; x < 0 counts as 0.

    y = n / peak, n ~ Poisson(peak·x). Gradient at the drawn y: 1 + (y - x) / (2(x + 10⁻³/peak)),
    the derivative of the Gaussian reparameterisation, finite at x = 0; that of the peak is
    -(y - x) / (2·peak).

    peak: expected count at x = 1, 10⁻⁶ to 10⁹; a number, or one per image.
    model: "exact" draws counts. "gaussian" is the model of a solver, (λ - ½ + √(λ + 10⁻³)·ε) / peak
        with λ = peak·x and ε ~ N(0, 1), differentiated as written; `approx()` is a clamp and then
        this model.

    Source: Poirier-Ginter & Lalonde 2023, eq. 10, with the constants of its published code.
    """

    peak: Numbers = number(low=DARKEST, high=BRIGHTEST, learnable=True)
    model: str = option("exact", "gaussian", default="exact")
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        peak = per_image(self.peak, x, "peak")
        if self.model == "gaussian":
            return self._gaussian_model(x, peak, rng)
        rate = _rate(x, peak)
        counts = rng.poisson(rate)
        return _photons(x, counts, peak)

    def _gaussian_model(self, x: Tensor, peak: float | Tensor, rng: Rng) -> Tensor:
        rate = peak * x
        rate = rate.clamp(min=0)
        variance = rate + _NEVER_ZERO
        deviation = variance.sqrt()
        noise = deviation * rng.normal(x)
        counts = rate - 0.5 + noise
        return counts / peak

    def approx(self) -> Operator:
        if self.model == "gaussian":
            return self
        return Clamp() >> Poisson(self.peak, "gaussian")


def _rate(x: Tensor, peak: float | Tensor) -> Tensor:
    """The expected counts."""
    brightness = x.detach().clamp(min=0)
    fixed_peak = peak.detach() if isinstance(peak, Tensor) else peak
    return fixed_peak * brightness


def _photons(x: Tensor, counts: Tensor, peak: float | Tensor) -> Tensor:
    """counts / peak, with the gradient that `Poisson` declares."""
    fixed_peak = peak.detach() if isinstance(peak, Tensor) else peak
    y = counts / fixed_peak
    brightness = x.detach().clamp(min=0)
    variance = brightness + _NEVER_ZERO / fixed_peak  # times the peak
    noise = y - brightness
    gradient = 1 + noise / (2 * variance)
    declared = declare(x, y, gradient)
    if not isinstance(peak, Tensor):
        return declared
    gradient_of_peak = -noise / (2 * fixed_peak)
    return with_gradient_of(declared, peak * gradient_of_peak)


@register("poissongaussian", exact="Poisson's law + N(0, σ²)", gradient="at the draw")
class PoissonGaussian(Operator):
    """Photon noise and read noise in every channel of every pixel; x < 0 counts as 0.

    y = n / peak + sigma·ε, n ~ Poisson(peak·x), ε ~ N(0, 1). Gradient: that of `poisson` at the
    drawn n; that of sigma is ε. `approx()` is the operator itself, with new draws.

    peak: expected count at x = 1, 10⁻⁶ to 10⁹; a number, or one per image.
    sigma: standard deviation of the read noise, 0 to 1; a number, or one per image.

    Source: Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling".
    """

    peak: Numbers = number(low=DARKEST, high=BRIGHTEST, learnable=True)
    sigma: Numbers = number(low=0, high=1, levels=True, learnable=True)
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        peak = per_image(self.peak, x, "peak")
        sigma = per_image(self.sigma, x, "sigma")

        def counts_and_normal(rate: Tensor) -> Tensor:
            counts = rng.poisson(rate)
            normal = rng.normal(rate)
            return torch.cat([counts, normal], 1)

        rate = _rate(x, peak)
        draws = rng.draw(counts_and_normal, rate)
        counts, normal = draws.chunk(2, 1)
        photon_noise = _photons(x, counts, peak)
        return photon_noise + sigma * normal


@register("scaledpoisson", exact="Poisson's law", gradient="identity")
class ScaledPoisson(_GrayOrColor):
    """Photon noise as BasicSR draws it: its peak is the number of levels in the image.

    y = x + scale·(n / v - q), n ~ Poisson(v·q), with q = x rounded to 8 bits, clamped, and v the
    peak. Gradient: identity; the noise counts as constant. That of a given peak is that of Gaussian
    noise of the same variance, -(y - x) / (2·peak).

    scale: the factor of the noise, 0 to 100; a number, or one per image.
    gray: the probability that an image gets the same noise in all its channels: that of the luma
        0.2989 R + 0.587 G + 0.114 B. 0 if left out.
    peak: 10⁻⁶ to 10⁹; a number, or one per image. If left out, the number of different values in
        q, rounded up to a power of 2.

    Source: `random_add_poisson_noise_pt` of BasicSR, as Real-ESRGAN uses it; with a peak,
    `add_Poisson_noise` of BSRGAN.
    """

    scale: Numbers = number(low=0, high=100, learnable=True)
    gray: float = number(default=0, low=0, high=1, per_image=False, drawn=False)
    peak: Numbers | None = number(default=None, low=DARKEST, high=BRIGHTEST, learnable=True)
    local = False  # the peak depends on the whole image
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        scale = per_image(self.scale, x, "scale")
        peak = None if self.peak is None else per_image(self.peak, x, "peak")
        fixed_peak = peak.detach() if isinstance(peak, Tensor) else peak

        def draw_noise(x: Tensor) -> Tensor:
            scaled = self._source(x) * 255
            levels = scaled.round().clamp(0, 255)
            photons = _power_of_two(levels) if fixed_peak is None else fixed_peak
            brightness = levels / 255
            counts = rng.poisson(brightness * photons)
            return counts / photons - brightness

        noise = rng.draw(draw_noise, x)
        y = x + scale * noise
        if not isinstance(peak, Tensor) or fixed_peak is None:
            return y
        slope = -noise / (2 * fixed_peak)
        fixed_scale = scale.detach() if isinstance(scale, Tensor) else scale
        change = peak * slope * fixed_scale
        return with_gradient_of(y, change.expand_as(y))

    def _source(self, x: Tensor) -> Tensor:
        """The image whose noise is added: x, or its luma."""
        return luma(x) if self.gray else x


def _power_of_two(levels: Tensor) -> Tensor:
    """The number of different levels of each image, rounded up to a power of 2, [B, 1, 1, 1]."""
    batch = len(levels)
    index = levels.flatten(1).long()
    nothing = torch.zeros(batch, 256, dtype=torch.float64, device=levels.device)
    occurs = nothing.scatter(1, index, 1.0)
    count = occurs.sum(1)
    exponent = count.log2().ceil()
    peak = torch.exp2(exponent).to(levels)
    return peak.view(-1, 1, 1, 1)


def _check_mix(given: object) -> tuple[float, ...]:
    """The upper triangle of a positive semidefinite matrix as six numbers."""
    wrong = f"mix={show(given)} must be six numbers from -9 to 9: rr, rg, rb, gg, gb, bb"
    try:
        values = check_numbers("mix", given, -_LARGEST_MIX, _LARGEST_MIX)
    except ValueError as error:
        raise ValueError(wrong) from error
    if not isinstance(values, tuple) or len(values) != 6:
        raise ValueError(wrong)
    numbers = tuple(map(float, values))
    eigenvalues = torch.linalg.eigvalsh(_symmetric(numbers))
    if float(eigenvalues.min()) < -1e-9:
        raise ValueError(
            f"mix={show(given)} is no covariance, since an eigenvalue of its matrix is negative; "
            "give rr, rg, rb, gg, gb, bb of a positive semidefinite one"
        )
    return numbers


def _symmetric(values: Sequence[float]) -> Tensor:
    """The matrix with the upper triangle rr, rg, rb, gg, gb, bb."""
    rr, rg, rb, gg, gb, bb = values
    rows = [[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]]
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


@register("correlated", exact="N(x, level²·mix)", gradient="identity, or at the draw")
class Correlated(Operator):
    """Add Gaussian noise whose three channels are correlated, or multiply by it.

    y = x + level·e, or y = x·(1 + level·e), with e ~ N(0, mix) at each pixel. Gradient: identity,
    or 1 + level·e. A grey image gets noise with the mean of the three variances.

    level: 0 to 1, in units of [0, 1]; a number, or one per image.
    mix: the covariance of the channels as six numbers, rr, rg, rb, gg, gb and bb. If left out,
        `sample` draws the absolute values of Uᵀ D U, for a diagonal D with entries from U[0, 1) and
        an orthogonal U that spans a matrix of such entries.
    form: "added" or "multiplied".

    Source: the third kind of noise in `add_Gaussian_noise` and `add_speckle_noise` of BSRGAN.
    """

    level: Numbers = number(low=0, high=1, levels=True, learnable=True)
    mix: Sequence[float] | None = checked(
        _check_mix, "six numbers: rr, rg, rb, gg, gb, bb", default=None
    )
    form: str = option("added", "multiplied", default="added")
    local = True
    noisy = True

    @property
    def varies(self) -> bool:
        return self.mix is None or super().varies

    def draw(self, shape: Shape, rng: Rng) -> Operator:
        if self.mix is not None:
            return self
        uniforms = []
        for _ in range(12):
            uniforms.append(rng.share())
        numbers = torch.tensor(uniforms, dtype=torch.float64, device="cpu")
        diagonal = numbers[:3].diag()
        basis, _, _ = torch.linalg.svd(numbers[3:].view(3, 3))
        mix = (basis.mT @ diagonal @ basis).abs()
        (rr, rg, rb), (_, gg, gb), (_, _, bb) = mix.tolist()
        return self.with_values({"mix": (rr, rg, rb, gg, gb, bb)})

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        check_channels(x)
        level = per_image(self.level, x, "level")
        assert self.mix is not None  # drawn
        mix = _symmetric(self.mix)
        normal = rng.normal(x)
        if x.shape[1] == 1:
            variance = mix.trace() / 3
            deviation = variance.sqrt().to(x)
            return self._with_noise(x, level * deviation * normal)
        eigenvalues, eigenvectors = torch.linalg.eigh(mix)
        deviations = eigenvalues.clamp(min=0).sqrt()
        # the symmetric root: it is the only one that does not depend on the signs of eigenvectors
        root = eigenvectors * deviations @ eigenvectors.mT
        mixed = recolored(normal, root.to(x))
        return self._with_noise(x, level * mixed)

    def _with_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        if self.form == "added":
            return x + noise
        return x * (1 + noise)


@register("speckle", exact="N(x, σ²x²)", gradient="at the draw")
class Speckle(_GrayOrColor):
    """Multiplicative Gaussian noise in every channel of every pixel.

    y = x + sigma·x·ε, ε ~ N(0, 1). Gradient: 1 + sigma·ε at the drawn ε.

    sigma: standard deviation relative to the pixel, 0 to 1; a number, or one per image.
    gray: the probability that an image gets the same ε in all its channels; 0 if left out.

    Source: the multiplicative noise of Lee 1980, with Gaussian ε.
    """

    sigma: Numbers = number(low=0, high=1, learnable=True)
    gray: float = number(default=0, low=0, high=1, per_image=False, drawn=False)
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        sigma = per_image(self.sigma, x, "sigma")
        factor = 1 + sigma * rng.normal(self.channels(x))
        return x * factor


@register("uniform", exact="U of its width", gradient="identity")
class Uniform(Operator):
    """Add uniform noise to every channel of every pixel.

    y = x + width·(u - ½), u ~ U[0, 1). Gradient: identity.

    width: width of the interval in units of [0, 1], 0 to 1; a number, or one per image. The
        standard deviation is width/√12. Width 1/255 is the usual model of rounding to 8 bits
        (Bennett 1948).
    """

    width: Numbers = number(low=0, high=1, levels=True, learnable=True)
    local = True
    noisy = True

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        width = per_image(self.width, x, "width")
        centred = rng.uniform(x) - 0.5
        return x + width * centred
