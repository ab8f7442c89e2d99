"""The published samplers of a denoiser, as data.

Constants are the published ones, and each entry names where it departs from its source.
"""

from __future__ import annotations

from .correction import (
    AdamOnImage,
    Descend,
    Draw,
    Guide,
    Langevin,
    NetworkSpread,
    NoiseShare,
    NormGuide,
    Project,
    Prox,
    UnitPrior,
)
from .sampler import Ddim, Mix, Sampler, Schedule

FIRST_GUESS = "begins at the first guess with noise"


def _ddnm() -> Sampler:
    return Sampler(
        Schedule(100),
        Project(),
        Mix(0.85**2, of_estimate=True),
        source="Wang et al. 2023, DDNM: Zero-Shot Image Restoration Using Denoising Diffusion "
        "Null-Space Model, eqs. 13 and 19",
        departures=(
            "the operator's own data consistency where it has one; conjugate gradients for the "
            f"pseudo-inverse; no time travel; {FIRST_GUESS}"
        ),
    )


DDRM_JPEG = Sampler(
    Schedule(20, start=0.3),
    Project(0.4),
    Mix(),
    runs=8,
    source="Kawar et al. 2022, JPEG Artifact Correction using DDRM",
    departures="exact projection onto the file's cells in place of x − f(x) + y",
)


def _dps(step: float, task: str) -> Sampler:
    return Sampler(
        Schedule(1000),
        NormGuide(step),
        Ddim(),
        source=f"Chung et al. 2023, DPS: Diffusion Posterior Sampling, {task}",
        departures=(
            "one norm per image, not of the batch; the variance of DDPM in place of the learned "
            f"one; {FIRST_GUESS}"
        ),
    )


PIGDM = Sampler(
    Schedule(100),
    Guide(UnitPrior()),
    Ddim(),
    source="Song et al. 2023, ΠGDM: Pseudoinverse-Guided Diffusion Models, eq. 7",
    departures=(
        "the factor σ² of Tweedie's formula on x0, where published codes disagree; conjugate "
        f"gradients; {FIRST_GUESS}"
    ),
)

DIFFPIR_PAPER = "Zhu et al. 2023, DiffPIR: Denoising Diffusion Models for Plug-and-Play Restoration"


def _diffpir(weight: float, fresh: float, steps: int, task: str) -> Sampler:
    return Sampler(
        Schedule(steps, "quadratic"),
        Prox(NoiseShare(weight)),
        Mix(fresh),
        source=f"{DIFFPIR_PAPER}, {task}",
        departures=(
            "conjugate gradients in place of FFTs; x0 is not clipped to [-1, 1]; the last step is "
            f"corrected, too; {FIRST_GUESS}"
        ),
    )


DIFFPIR = Sampler(
    Schedule(100, "quadratic"),
    Prox(NetworkSpread()),
    Ddim(),
    source=f"{DIFFPIR_PAPER}, in one setting",
    departures=(
        "the network's own uncertainty in place of λ per task, and DDIM's noise with η = 1 in "
        f"place of ζ per task; conjugate gradients; {FIRST_GUESS}"
    ),
)

DAPS_PAPER = "Zhang et al. 2024, DAPS: Decoupled Annealing Posterior Sampling"
DAPS = Sampler(
    Schedule(200, "karras"),
    Draw(NetworkSpread()),
    Mix(),
    source=f"{DAPS_PAPER}, in one setting",
    departures=(
        "an exact draw for the linear model, with measured noise and the network's own "
        "uncertainty, in place of Langevin steps; the denoiser in place of ODE steps"
    ),
)


def _daps_original(step: float, tau: float, task: str) -> Sampler:
    """DAPS by Langevin steps. tau: for observations in [-1, 1].

    Its magnitudes in phase retrieval are those of images in [0, 1]: there τ is twice as large.
    """
    return Sampler(
        Schedule(200, "karras"),
        Langevin(step, 100, tau),
        Mix(),
        ode_steps=5,
        source=f"{DAPS_PAPER}, its setting for {task}",
        departures=FIRST_GUESS,
    )


MPGD = Sampler(
    Schedule(100),
    Descend(),
    Ddim(),
    source="He et al. 2024, MPGD: Manifold Preserving Guided Diffusion, without its autoencoder",
    departures=f"the step's length by a parabola in place of a constant per task; {FIRST_GUESS}",
)

REDDIFF = Sampler(
    Schedule(1000),
    AdamOnImage(),
    Mix(),
    source="Mardani et al. 2024, RED-diff: A Variational Perspective on Solving Inverse Problems",
    departures="begins at the first guess, as its code does with the pseudo-inverse",
)

SAMPLERS: dict[str, Sampler] = {
    "ddrm-jpeg": DDRM_JPEG,
    "ddnm": _ddnm(),
    "dps": _dps(0.3, "its setting for super-resolution and blur"),
    "dps-inpainting": _dps(0.5, "its setting for inpainting"),
    "dps-phase-retrieval": _dps(1.0, "its setting for phase retrieval"),
    "pigdm": PIGDM,
    "mpgd": MPGD,
    "diffpir": DIFFPIR,
    "diffpir-deblurring": _diffpir(7, 0.3, 100, "its setting for deblurring"),
    "diffpir-inpainting": _diffpir(1, 1.0, 20, "its setting for inpainting"),
    "daps": DAPS,
    "daps-original": _daps_original(1e-4, 0.01, "super-resolution and Gaussian blur"),
    "daps-phase-retrieval": _daps_original(5e-5, 0.02, "phase retrieval"),
    "reddiff": REDDIFF,
}
