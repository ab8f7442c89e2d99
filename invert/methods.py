"""The published methods, as data.

Constants are the published ones, and each entry names where it departs from its source. A method of
your own is a `Method` too: see examples/own_method.py.
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
from .ddrm import DDRM
from .latent import Codes, GaussianCodes, Offset, Weights, Z
from .loss import L1, MSE, Deep, Lpips, SamePerson, Term
from .method import Knob, RestorationMethod
from .optim import NGD, Adam, Below, CycleWithDrop, Patience, Ramp, Sphere, Whiten
from .phases import Method, Phase
from .pnp import PlugAndPlay
from .prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, WhiteNoise
from .sampler import Ddim, Mix, Sampler, Schedule
from .start import BestOf, Centroids

NGD_RATES = "learning rates of codes follow the length of the generator's own spread of W"
ADAM_RATES = "learning rates of codes follow the spread of each coordinate of the generator's W"
FILL = (
    "the noise fill of hidden regions repeats every 16 steps, for observations of at most "
    "65 536 pixels"
)
ROBUST_PAPER = "Poirier-Ginter & Lalonde 2023, Robust Unsupervised StyleGAN Image Restoration"
OPERATOR = "the operator in place of its own"
FIRST_GUESS = "begins at the first guess with noise"
SMALL_LPIPS = "LPIPS at the observation's side, where that is below 256"


# robust: NGD bounds how far codes travel, and that is all the regularisation there is
def _robust(loss: tuple[Term, ...], source: str) -> Method:
    return Method(
        (
            Phase("W", 150, NGD(0.08), loss),
            Phase("W+", 150, NGD(0.02), loss),
            Phase("W++", 150, NGD(0.005), loss),
        ),
        source=f"{ROBUST_PAPER}, {source}",
        departures=f"{FILL}; {NGD_RATES}",
        knobs=(Knob("lr"), Knob("l1")),
    )


MULTISCALE = (Lpips(levels=6), L1(0.1, coarsest=True))
ROBUST = _robust(MULTISCALE, "Algorithm 1, as its published code behaves")
ROBUST_TEXT = _robust(
    (Lpips(levels=6, first=1, shortest=16, fill=(0.5, 1.0)), L1(0.1)),
    "as its text reads: LPIPS at 1/2 … 1/64 down to 16, L1 of pixels, fill noise N(0.5, 1) (§3.3)",
)

SIMPLE = (Lpips(enlarge=True), L1(0.1), SamePerson(0.1))
ADAM_ID = Method(
    (
        Phase("W", 150, Adam(0.05), SIMPLE, stop=Patience(15)),
        Phase("W+", 150, Adam(0.01), SIMPLE, stop=Patience(15)),
        Phase("W++", 150, Adam(0.002), SIMPLE, stop=Patience(15)),
    ),
    source=(
        "a course project of 2025: three phases with Adam, LPIPS + 0.1·L1 + λ·identity, patience 15"
    ),
    departures=(
        "learning rates and λ were not published, and are ours; identity compares with the "
        f"observation or a reference photo, never with the clean image; {ADAM_RATES}"
    ),
    knobs=(Knob("lr"), Knob("l1")),
)


def _pulse(steps: int, lr: float, source: str) -> Method:
    adam = Adam(lr, schedule=CycleWithDrop(), project=(Sphere(),))
    loss = (MSE(100, floor=2e-3), Geodesic(0.05, of="latent"))
    return Method(
        (Phase(GaussianCodes(noises=5, quiet_end=True), steps, adam, loss),),
        source=source,
        departures=(
            "the operator in place of bicubic reduction; W's statistics from 10 000 draws, not a "
            "million; the last image is returned whether its loss reached the floor or not"
        ),
        knobs=(Knob("lr"), Knob("geodesic")),
    )


PULSE = _pulse(
    250, 0.8, "Menon et al. 2020, PULSE, with the setting of Poirier-Ginter & Lalonde 2023"
)
PULSE_ORIGINAL = _pulse(100, 0.4, "Menon et al. 2020, PULSE, eqs. 1 to 3, its own setting")

BRGM_PAPER = "Marinescu et al. 2020, Bayesian Image Reconstruction using Deep Generative Models"
BRGM_KNOBS = (Knob("lr"), Knob("lpips"), Knob("prior"), Knob("collinearity"))
BRGM_LOSS = (
    MSE(1e-3, unit=255),
    Lpips(1.25, at_most=256, enlarge=True),
    Near(100),
    Collinear(0.1 * 18 * 18),
)
BRGM = Method(
    (Phase("W+", 501, Adam(0.1), BRGM_LOSS),),
    source=f"{BRGM_PAPER} (PyTorch port)",
    departures=(
        f"{OPERATOR}; the collinearity's sum over 18 × 18 pairs is a mean, times 324; the "
        f"checkpoint's noise; {SMALL_LPIPS}; {ADAM_RATES}"
    ),
    knobs=BRGM_KNOBS,
)
BRGM_ORIGINAL_LOSS = (
    MSE(1e-3, unit=255),
    Lpips(at_most=256, enlarge=True),
    Near(100),
    Collinear(3),
)
BRGM_ORIGINAL = Method(
    (Phase("W+", 5000, Adam(0.1, schedule=Ramp()), BRGM_ORIGINAL_LOSS),),
    source=BRGM_PAPER,
    departures=f"{OPERATOR}; starts at the mean of W without its tiny shift; {ADAM_RATES}",
    knobs=BRGM_KNOBS,
)


def _lbrgm(steps: int, lr: float, candidates: int, psi: float, setting: str) -> Method:
    perceptual = Lpips(2.5, at_most=256, enlarge=True)
    loss = (MSE(2e-4, unit=255), perceptual, Mapped(30), Normal(0.4))
    return Method(
        (Phase(Z(codes=True), steps, Adam(lr), loss),),
        BestOf(candidates, perceptual, psi),
        source=f"Conmy et al. 2022, L-BRGM, {setting}",
        departures=(
            f"{OPERATOR}; no early stop by the clean image; the first draws are compared whatever "
            f"their distance; {SMALL_LPIPS}; {ADAM_RATES}"
        ),
        knobs=(Knob("lr"), Knob("lpips"), Knob("mapping"), Knob("prior on z")),
    )


LBRGM = _lbrgm(500, 0.05, 200, 0.8, "with the setting of Poirier-Ginter & Lalonde 2023")
LBRGM_ORIGINAL = _lbrgm(2000, 0.1, 100, 1.0, "its own setting")


def _ilo() -> Method:
    adam = Adam(0.1, schedule=Ramp(down=0.75), project=(Sphere(),))
    loss = (MSE(unit=2), Lpips(at_most=256, enlarge=True), Geodesic(0.01))
    phases = []
    for block, steps in enumerate((50, 50, 25, 25)):
        space = GaussianCodes(block=block, noises=5 + 2 * block)
        phases.append(Phase(space, steps, adam, loss, keep="mse"))
    return Method(
        tuple(phases),
        source="Daras et al. 2021, Intermediate Layer Optimization",
        departures=(
            "what is painted so far goes on into the next round, as the paper's formula has it "
            "(its code drops it); the geodesic term works in every round; all rounds keep their "
            "lowest MSE, not the last alone; hidden regions are compared through fill noise; add "
            "optim.L1Ball to `project` for its radii"
        ),
        knobs=(Knob("lr"), Knob("lpips"), Knob("geodesic")),
    )


PTI_PIVOT = Phase(
    Codes("W", jitter=0.05, noises=True),
    450,
    Adam(0.01, schedule=Ramp(), project=(Whiten(),)),
    (Lpips(at_most=256, enlarge=True), WhiteNoise(1e5)),
)
PTI_TUNING = Phase(
    Weights(),
    350,
    Adam(3e-4),
    (MSE(unit=2), Lpips(net="alex", enlarge=True), Locality()),
    stop=Below("lpips", 0.06),
)
PTI = Method(
    (PTI_PIVOT, PTI_TUNING),
    source=(
        "Roich et al. 2021, Pivotal Tuning for Latent-based Editing of Real Images, eqs. 1 to 5"
    ),
    departures=(
        "everything is seen through the operator; the locality term is on; the checkpoint's mean "
        f"of W; {ADAM_RATES}"
    ),
    knobs=(Knob("lr"), Knob("noise"), Knob("locality")),
)


def cri(clusters: int = 10, offset: tuple[Term, ...] = (), through_operator: bool = True) -> Method:
    """CRI with this many clusters.

    offset: terms for the offset, such as OffsetNorm(0.5). through_operator: how centres are
    compared with the observation, see `Centroids`.
    """
    perceptual = Lpips(at_most=256, enlarge=True)
    locality = Locality(mse=0, lpips=10, net=None)
    adam = Adam(0.1, schedule=Ramp())
    return Method(
        (
            Phase(Offset(), 500, adam, (perceptual, MSE(10, unit=2), *offset)),
            Phase(Weights(), 20, Adam(3e-4), (perceptual, MSE(unit=2), locality)),
        ),
        Centroids(clusters, through_operator),
        source=(
            "Wang et al. 2023, CRI: Clustering and Regularize Inversion, eqs. 5 to 8, with its "
            "steps for faces"
        ),
        departures=(
            "the paper's weights are not public: those of its code for colorization, with MSE in "
            "[-1, 1]; PTI's locality; centres are compared through the operator, not as they are "
            f"(through_operator=False); {ADAM_RATES}"
        ),
        knobs=(Knob("lr"), Knob("mse"), Knob("locality")),
    )


DGP_STAGES = (
    # blocks tuned, learning rate of weights, learning rate of z
    (2, 5e-5, 2e-3),
    (3, 5e-5, 1e-3),
    (4, 2e-5, 2e-5),
    (5, 1e-5, 1e-5),
    (7, 1e-5, 1e-5),
)


def _dgp() -> Method:
    loss = (Deep(1), MSE(1, unit=2), Normal(0.01))
    phases = []
    for blocks, lr, z_lr in DGP_STAGES:
        adam = Adam(lr, betas=(0, 0.999), z_lr=z_lr)
        phases.append(Phase(Weights(blocks, z=True), 200, adam, loss))
    return Method(
        tuple(phases),
        BestOf(500, Deep(1)),
        source=(
            "Pan et al. 2021, Exploiting Deep Generative Prior for Versatile Image Restoration, "
            "its preset for x4"
        ),
        departures=(
            "where the generator's file has no discriminator, all features of the perceptual "
            "network; z of deviation 1, since mappings normalise it; groups are blocks, or all "
            f"weights where there are none; Adam begins anew at each stage; {OPERATOR}"
        ),
        knobs=(Knob("lr"), Knob("mse"), Knob("prior on z")),
    )


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
        departures=f"conjugate gradients in place of FFTs; {FIRST_GUESS}",
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
DAPS_ORIGINAL = Sampler(
    Schedule(200, "karras"),
    Langevin(1e-4, 100, 0.01),
    Mix(),
    ode_steps=5,
    source=f"{DAPS_PAPER}, its setting for super-resolution and Gaussian blur",
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

METHODS: dict[str, RestorationMethod] = {
    "robust": ROBUST,
    "robust-text": ROBUST_TEXT,
    "adam-id": ADAM_ID,
    "pulse": PULSE,
    "pulse-original": PULSE_ORIGINAL,
    "brgm": BRGM,
    "brgm-original": BRGM_ORIGINAL,
    "lbrgm": LBRGM,
    "lbrgm-original": LBRGM_ORIGINAL,
    "ilo": _ilo(),
    "pti": PTI,
    "cri": cri(),
    "dgp": _dgp(),
    "ddrm": DDRM(),
    "ddrm-jpeg": DDRM_JPEG,
    "ddnm": _ddnm(),
    "dps": _dps(0.3, "its setting for super-resolution and blur"),
    "dps-inpainting": _dps(0.5, "its setting for inpainting"),
    "pigdm": PIGDM,
    "mpgd": MPGD,
    "diffpir": DIFFPIR,
    "diffpir-deblurring": _diffpir(7, 0.3, 100, "its setting for deblurring"),
    "diffpir-inpainting": _diffpir(1, 1.0, 20, "its setting for inpainting"),
    "daps": DAPS,
    "daps-original": DAPS_ORIGINAL,
    "reddiff": REDDIFF,
    "pnp": PlugAndPlay(),
}

DEFAULT_METHODS = {"generator": "robust", "denoiser": "pnp"}  # by the kind of prior


def method_of(method: str | RestorationMethod, steps: int | None = None) -> RestorationMethod:
    """Look up a method by name, and shorten it to `steps` in all (None: as published)."""
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")
        method = METHODS[method]
    if not isinstance(method, RestorationMethod):
        raise ValueError(f"method={method!r} must be a Method, or one of {', '.join(METHODS)}")
    if steps is None:
        return method
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps={steps!r} must be an integer ≥ 0")
    return method.with_steps(steps)
