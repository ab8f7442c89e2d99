"""DDRM: restoration by a diffusion model, for linear operators with Gaussian noise.

Every step is a function of the operator's singular values, applied to images. So all that is needed
of an operator H = U S Vᵀ is V f(S) Vᵀ x and V f(S) Uᵀ y for any f: see `spectrum`.
Source: Kawar et al. 2022, "Denoising Diffusion Restoration Models", eqs. 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor, nn

from degrade import Gaussian
from degrade.operator import Operator, compose
from degrade.rng import Rng

LARGEST = 2048  # values of an image (or of a channel) whose dense SVD is computed
SMALLEST_SINGULAR_VALUE = 1e-3  # of the largest; what is below tells nothing
Function = Callable[[Tensor], Tensor]  # of singular values


class Denoiser(nn.Module):
    """A diffusion model as DDRM asks for it.

    module: (x [B, C, R, R] in [-1, 1] units, t [B] integers) → the noise in x. betas: the variances
    of its steps; by default 1000 from 1e-4 to 0.02 in a straight line.
    """

    def __init__(
        self, module: nn.Module, resolution: int, channels: int = 3, betas: Tensor | None = None
    ):
        super().__init__()
        betas = (
            torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
            if betas is None
            else betas.double()
        )
        if betas.ndim != 1 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas must be variances between 0 and 1, one for each step")
        self.module, self.resolution, self.channels = module, resolution, channels
        self.register_buffer("alpha_bar", (1 - betas).cumprod(0))
        self.eval().requires_grad_(False)

    def unpack(self, latent: Tensor) -> Tensor:
        return latent

    def forward(self, x: Tensor, t: int) -> Tensor:
        return self.module(x, torch.full((len(x),), t, device=x.device))


@dataclass(frozen=True)
class DDRM:
    """steps: of the model's, evenly chosen. eta: how much noise is new. eta_b: how much the observation counts."""

    name = "diffusion"
    steps: int = 20  # evenly chosen, the last one is 0
    eta: float = 0.85
    eta_b: float = 1.0
    source: str = "Kawar et al. 2022, Denoising Diffusion Restoration Models, eqs. 7 and 8"
    departures: str = "no classifier guidance"

    def __post_init__(self):
        for name in ("eta", "eta_b"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to 1")

    @torch.no_grad()
    def solve(
        self,
        observation: Tensor,
        operator: Operator,
        denoiser: Denoiser,
        streams: tuple[torch.Generator, ...],
        report: Callable[[int, Tensor], None] = lambda step, x: None,
    ) -> Tensor:
        """Images [B, C, R, R] in [0, 1], unclamped. Raises ValueError for an operator that is not linear."""
        if self.steps < 1 or self.steps > len(denoiser.alpha_bar):
            raise ValueError(
                f"steps={self.steps} must be 1 to {len(denoiser.alpha_bar)} for method='ddrm'"
            )
        rows = [parts(operator.row(i, len(observation))) for i in range(len(observation))]
        sigma = rows[0][1]
        if any(other != sigma for _, other in rows):
            raise ValueError("method='ddrm' takes one deviation of noise for all images of a batch")
        shape = (len(observation), denoiser.channels, denoiser.resolution, denoiser.resolution)
        like = observation.new_zeros(shape)
        # in [-1, 1]: x = (x' + 1) / 2, so that 2y - H·1 = H x' + 2·noise
        ones = torch.cat(
            [
                torch.ones_like(like[:1]) if h is None else h(torch.ones_like(like[:1]))
                for h, _ in rows
            ]
        )
        y, sigma = 2 * observation - ones, 2 * sigma
        svd = spectra([h for h, _ in rows], (1, *shape[1:]), observation.device)
        alpha = denoiser.alpha_bar
        stride = len(alpha) // self.steps
        times = list(range(0, stride * self.steps, stride))[::-1]
        noise_of = lambda t: float(((1 - alpha[t]) / alpha[t]).sqrt()) if t is not None else 0.0  # noqa: E731
        draw = Rng.of(streams, len(observation))

        top = noise_of(times[0])
        n = draw.child("start").normal(like)
        seen = lambda s: (s * top > sigma) & (s > 0)  # noqa: E731
        x = svd.of_image(
            lambda s: torch.where(
                seen(s), (top**2 - (sigma / _safe(s)) ** 2).clamp_min(0).sqrt(), top
            ),
            n,
        )
        x = x + svd.of_observation(
            lambda s: seen(s) / _safe(s), y
        )  # in units where the image's own scale is 1

        broken = torch.zeros(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
        for step, t in enumerate(times):
            noise = denoiser(x * alpha[t].sqrt().to(x), t)
            broken |= ~torch.isfinite(noise).flatten(1).all(1).view(
                -1, 1, 1, 1
            )  # ends here, not for its batch mates
            noise = torch.where(broken, 0.0, noise)
            x0 = x - noise_of(t) * noise
            spread = noise_of(times[step + 1] if step + 1 < len(times) else None)
            fresh = draw.child(f"step{step}").normal(like)
            share = partial(self._share, spread=spread, sigma=sigma)
            x = svd.of_image(partial(share, "x0"), x0) + svd.of_image(
                partial(share, "noise"), noise
            )
            x = (
                x
                + svd.of_observation(partial(share, "y"), y)
                + svd.of_image(partial(share, "fresh"), fresh)
            )
            image = torch.where(broken, torch.nan, (x + 1) / 2)
            report(step + 1, image)
        return image

    def _share(self, part: str, s: Tensor, spread: float, sigma: float) -> Tensor:
        """How much of one part goes into a coordinate of singular value s, at the next noise level `spread` (eq. 8)."""
        above = (s > 0) & (s * spread > sigma)  # the observation knows better than the model
        below = (s > 0) & (s * spread < sigma)
        hidden = ~(above | below)
        kept = (1 - self.eta**2) ** 0.5 * spread
        pull = kept / sigma if sigma else 0.0
        if part == "x0":
            return hidden * 1.0 + below * (1 - pull * s) + above * (1 - self.eta_b)
        if part == "noise":
            return hidden * kept
        if part == "y":
            return below * pull + above * self.eta_b / _safe(s)
        left = (spread**2 - (self.eta_b * sigma / _safe(s)) ** 2).clamp_min(0).sqrt()
        return torch.where(above, left, self.eta * spread)


def parts(operator: Operator) -> tuple[Operator | None, float]:
    """The linear part of H x + noise (None: the identity), and the noise's deviation."""
    *first, last = operator
    sigma = 0.0
    if isinstance(last, Gaussian):
        if not isinstance(last.sigma, (int, float)):
            raise ValueError(f"method='ddrm' takes one deviation for all images, not {last}")
        sigma = float(last.sigma)
    else:
        first.append(last)
    for stage in first:
        if not stage.linear and stage.sample((1, 3, 64, 64)).linear:
            raise ValueError(
                f"method='ddrm' needs to know what happened: {stage} is still to be drawn; sample it"
            )
        if not stage.linear:
            raise ValueError(
                f"method='ddrm' needs a linear operator, and Gaussian noise at the end; {stage} is neither"
            )
    return (compose(first) if first else None), sigma


# The operator's singular values ---------------------------------------------------------------------


class Spectrum:
    """V f(S) Vᵀ of images, and V f(S) Uᵀ of observations."""

    def to(self, device: torch.device) -> Spectrum:
        moved = {
            f.name: v.to(device)
            for f in fields(self)
            if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        raise NotImplementedError

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Diagonal(Spectrum):
    """Every pixel is multiplied by its own number, as by a mask."""

    values: Tensor  # [1, C, H, W], any sign

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        return f(self.values.abs()) * x

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        return f(self.values.abs()) * self.values.sign() * y


@dataclass(frozen=True)
class Tight(Spectrum):
    """H Hᵀ = s²·I: one singular value, and 0 for all that H does not see (means of blocks, gray, orthogonal rows)."""

    operator: Operator
    value: float

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        seen = self.operator.adjoint(self.operator(x), x.shape) / self.value**2
        some, none = f(torch.tensor([self.value, 0.0], dtype=x.dtype, device=x.device))
        return some * seen + none * (x - seen)

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        (some,) = f(torch.tensor([self.value], dtype=y.dtype, device=y.device))
        return (
            some
            / self.value
            * self.operator.adjoint(y, (len(y), *self.operator.input_shape(y.shape)[1:]))
        )


@dataclass(frozen=True)
class Dense(Spectrum):
    """A matrix, of the whole image or of each channel alike."""

    u: Tensor
    s: Tensor  # with a 0 for every column of v beyond u's
    v: Tensor
    shape: tuple[int, ...]  # of an image
    per_channel: bool

    def _rows(self, x: Tensor) -> Tensor:
        return x.flatten(2) if self.per_channel else x.flatten(1)

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        return ((self._rows(x) @ self.v * f(self.s)) @ self.v.T).view_as(x)

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        rank = self.u.shape[1]
        coordinates = self._rows(y) @ self.u * f(self.s)[:rank]
        return (coordinates @ self.v[:, :rank].T).view(len(y), *self.shape[1:])


@dataclass(frozen=True)
class Each(Spectrum):
    """A spectrum for each image."""

    rows: tuple[Spectrum, ...]

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        return torch.cat([row.of_image(f, x[i : i + 1]) for i, row in enumerate(self.rows)])

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        return torch.cat([row.of_observation(f, y[i : i + 1]) for i, row in enumerate(self.rows)])


def spectra(
    operators: list[Operator | None], shape: tuple[int, ...], device: torch.device
) -> Spectrum:
    """Of the operator of each image; one that several images share is taken apart once."""
    found: dict[str, Spectrum] = {}
    rows = []
    for operator in operators:
        text = str(operator)
        if text not in found or any(
            stage.files for stage in operator or ()
        ):  # text does not tell tensors apart
            found[text] = spectrum(operator, shape).to(device)
        rows.append(found[text])
    return rows[0] if len(set(map(id, rows))) == 1 else Each(tuple(rows))


def spectrum(operator: Operator | None, shape: tuple[int, ...]) -> Spectrum:
    """The singular values of a linear operator on images [1, C, H, W]; raises ValueError for one too large to find."""
    if operator is None:
        return Diagonal(torch.ones(shape))
    draws = torch.Generator().manual_seed(0)
    output = tuple(operator.output_shape(shape))

    def some(size: tuple[int, ...]) -> Tensor:
        return torch.randn(size, generator=draws)

    def alike(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a, b, rtol=1e-4, atol=1e-5)

    if output == shape:
        values = operator(torch.ones(shape))
        if all(alike(operator(x), values * x) for x in (some(shape), some(shape))):
            return Diagonal(values)
    probe = some(output)
    back = operator(operator.adjoint(probe, shape))
    square = float((back * probe).sum() / probe.square().sum())
    if square > 0 and all(
        alike(operator(operator.adjoint(y, shape)), square * y) for y in (probe, some(output))
    ):
        return Tight(operator, square**0.5)

    _, channels, height, width = shape
    x = some(shape)
    apart = torch.cat(
        [operator(x * (torch.arange(channels) == c).view(1, -1, 1, 1)) for c in range(channels)]
    )
    same = some((1, 1, height, width)).expand(shape)
    per_channel = (
        output[1] == channels
        and alike(operator(same), operator(same)[:, :1].expand(output))
        and all(
            apart[c, d].abs().max() < 1e-6
            for c in range(channels)
            for d in range(channels)
            if c != d
        )
    )
    size = height * width * (1 if per_channel else channels)
    if size > LARGEST:
        raise ValueError(
            f"method='ddrm' finds no closed form for {operator}, and {size} values are too many for a dense "
            f"decomposition (at most {LARGEST}); use a mask, a mean of blocks, or smaller images"
        )
    basis = torch.eye(size).view(size, -1, height, width)
    if per_channel:
        basis = basis.expand(-1, channels, -1, -1)
    columns = torch.cat([operator(some_of) for some_of in basis.split(64)])
    matrix = (columns[:, 0] if per_channel else columns).flatten(1).T.double()
    u, s, vh = torch.linalg.svd(matrix, full_matrices=True)
    rank = min(matrix.shape)
    full = torch.zeros(size, dtype=torch.float64)
    full[:rank] = torch.where(s > SMALLEST_SINGULAR_VALUE * s[0], s, 0)
    return Dense(u[:, :rank].float(), full.float(), vh.T.float(), shape, per_channel)


def _safe(s: Tensor) -> Tensor:
    return torch.where(s > 0, s, 1.0)
