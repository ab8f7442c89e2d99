"""DDRM: restoration by a diffusion model, for linear operators with Gaussian noise.

Every step is a function of the operator's singular values, applied to images. So all that is needed
of an operator H = U S Vᵀ is V f(S) Vᵀ x and V f(S) Uᵀ y for any f: see spectrum.py.
Source: Kawar et al. 2022, "Denoising Diffusion Restoration Models", eqs. 7 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from degrade import Gaussian
from degrade.operator import Operator, compose
from degrade.rng import Rng

from .method import Knob, RestorationMethod
from .problem import Problem, streams
from .result import Report, Restoration
from .sampling import Sampling, finite_rows, report_step, restoration
from .spectrum import Function, Spectrum, nonzero, spectra


@dataclass(frozen=True)
class DDRM(RestorationMethod):
    """Sample a diffusion model, held to the observation in the operator's singular vectors.

    steps: of the model's, evenly chosen; the last one is 0. eta: the share of new noise, 0 to 1.
    eta_b: how much the observation counts, 0 to 1. The operator must be linear, with Gaussian noise
    at its end, one deviation for all images of a batch.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    source: str = "Kawar et al. 2022, Denoising Diffusion Restoration Models, eqs. 7 and 8"
    departures: str = "no classifier guidance"

    prior_kind = "denoiser"
    options = frozenset({"class_label"})
    knobs: tuple[Knob, ...] = ()

    def __post_init__(self) -> None:
        for name in ("eta", "eta_b"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be from 0 to 1")

    def stages(self) -> tuple[Sampling]:
        return (Sampling(self.steps),)

    def with_steps(self, steps: int) -> DDRM:
        return replace(self, steps=steps)

    def check(self, problem: Problem) -> None:
        problem.denoiser.schedule(self.steps)

    @torch.no_grad()
    def solve(self, problem: Problem, report: Report) -> Restoration:
        denoiser = problem.denoiser
        observed = Observed.of(problem)
        draws = Rng.of(streams(problem.seeds, "ddrm"), problem.batch)
        levels = denoiser.schedule(self.steps)
        x = observed.start(levels[0].sigma, draws.child("start"))
        finite = finite_rows(x)
        (phase,) = self.stages()
        image, losses = x, []
        for step, level in enumerate(levels, 1):
            noise = denoiser.noise_in(x, level, problem.label)
            # an image that is not finite ends here, and leaves the others of its batch alone
            finite = finite & finite_rows(noise)
            noise = torch.where(finite, noise, 0.0)
            x0 = x - level.sigma * noise
            next_sigma = levels[step].sigma if step < len(levels) else 0.0
            fresh = draws.child(f"step{step - 1}").normal(x)
            x = observed.move(self, next_sigma, x0, noise, fresh)
            image = torch.where(finite, (x + 1) / 2, torch.nan)
            losses.append(report_step(phase, problem, step, self.steps, image, report))
        return restoration(phase, image, torch.stack(losses))

    def shares(self, s: Tensor, level: float, sigma: float) -> dict[str, Tensor]:
        """How much of each part goes into a coordinate of singular value s (eq. 8).

        level: the next noise level. sigma: the noise of the observation. The parts are the model's
        image "x0", its "noise", the observation "y", and "fresh" noise.
        """
        informative = (s > 0) & (s * level > sigma)  # the observation is better than the model
        noisy = (s > 0) & (s * level < sigma)
        hidden = ~(informative | noisy)
        kept = (1 - self.eta**2) ** 0.5 * level
        pull = kept / sigma if sigma else 0.0
        remaining = remaining_noise(level, self.eta_b * sigma, s)
        of_model = noisy * (1 - pull * s) + informative * (1 - self.eta_b)
        return {
            "x0": hidden * 1.0 + of_model,
            "noise": hidden * kept,
            "y": noisy * pull + informative * self.eta_b / nonzero(s),
            "fresh": torch.where(informative, remaining, self.eta * level),
        }


@dataclass(frozen=True)
class Observed:
    """The observation in [-1, 1] units, the deviation of its noise, and the operator's spectrum."""

    y: Tensor
    sigma: float
    spectrum: Spectrum
    shape: tuple[int, ...]  # of the images

    @staticmethod
    def of(problem: Problem) -> Observed:
        """Take the operator apart. Raises ValueError for one that is not linear."""
        rows = []
        for i in range(problem.batch):
            rows.append(parts(problem.operator.row(i, problem.batch)))
        sigma = rows[0][1]
        if any(other != sigma for _, other in rows):
            raise ValueError("method='ddrm' takes one deviation of noise for all images of a batch")
        shape = (1, *problem.image_shape[1:])
        white = torch.ones(shape, dtype=torch.float32, device=problem.device)
        # with x = (x' + 1) / 2 for x' in [-1, 1]: 2y - H·1 = H x' + 2·noise
        offsets = []
        for linear, _ in rows:
            offsets.append(white if linear is None else linear(white))
        y = 2 * problem.observation - torch.cat(offsets)
        svd = spectra([linear for linear, _ in rows], shape, problem.device)
        return Observed(y, 2 * sigma, svd, problem.image_shape)

    def start(self, level: float, rng: Rng) -> Tensor:
        """Draw the first images, at this noise level, in units where the image's scale is 1."""
        fresh = rng.normal(torch.zeros(self.shape, dtype=torch.float32, device=self.y.device))

        def informative(s: Tensor) -> Tensor:
            return (s * level > self.sigma) & (s > 0)

        def spread(s: Tensor) -> Tensor:
            remaining = remaining_noise(level, self.sigma, s)
            return torch.where(informative(s), remaining, level)

        x = self.spectrum.of_image(spread, fresh)
        return x + self.spectrum.of_observation(lambda s: informative(s) / nonzero(s), self.y)

    def move(self, method: DDRM, level: float, x0: Tensor, noise: Tensor, fresh: Tensor) -> Tensor:
        """Put together the images at the next noise level (eqs. 7 and 8)."""

        def share(part: str) -> Function:
            return lambda s: method.shares(s, level, self.sigma)[part]

        x = self.spectrum.of_image(share("x0"), x0)
        x = x + self.spectrum.of_image(share("noise"), noise)
        x = x + self.spectrum.of_observation(share("y"), self.y)
        return x + self.spectrum.of_image(share("fresh"), fresh)


def remaining_noise(level: float, sigma: float, s: Tensor) -> Tensor:
    """The deviation that is missing to `level` beside the observation's own noise, sigma / s."""
    variance = level**2 - (sigma / nonzero(s)) ** 2
    return variance.clamp_min(0).sqrt()


def parts(operator: Operator) -> tuple[Operator | None, float]:
    """Split H x + noise into the linear part (None: the identity) and the noise's deviation.

    Raises ValueError for an operator that is not linear with Gaussian noise at its end.
    """
    *stages, last = operator
    sigma = 0.0
    if isinstance(last, Gaussian):
        if not isinstance(last.sigma, (int, float)):
            raise ValueError(f"method='ddrm' takes one deviation for all images, not {last}")
        sigma = float(last.sigma)
    else:
        stages.append(last)
    for stage in stages:
        check_linear(stage)
    return (compose(stages) if stages else None), sigma


def check_linear(stage: Operator) -> None:
    """Raise ValueError for a stage that is not linear, or is still to be drawn."""
    if stage.linear:
        return
    if stage.sample((1, 3, 64, 64)).linear:
        raise ValueError(
            f"method='ddrm' needs to know what happened: {stage} is still to be drawn; sample it"
        )
    raise ValueError(
        f"method='ddrm' needs a linear operator, and Gaussian noise at the end; {stage} is neither"
    )
