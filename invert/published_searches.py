"""The published methods that search a generator, as data.

Constants are the published ones, and each entry names where it departs from its source. A method of
your own is a `Method` too: see examples/own_method.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from .latent import Codes, GaussianCodes, Offset, Weights, Z
from .loss import L1, MSE, Deep, Lpips, SamePerson, Term
from .method import Knob
from .optim import NGD, Adam, CycleWithDrop, Ramp, Sphere, Whiten
from .phase import Phase
from .phases import Method
from .prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, OffsetNorm, WhiteNoise
from .start import BestOf, Centroids
from .stopping import Below, Patience

NGD_RATES = "learning rates of codes follow the length of the generator's own spread of W"
ADAM_RATES = "learning rates of codes follow the spread of each coordinate of the generator's W"
FILL = (
    "the noise fill of hidden regions repeats every 16 steps, for observations of at most "
    "65 536 pixels"
)
ROBUST_PAPER = "Poirier-Ginter & Lalonde 2023, Robust Unsupervised StyleGAN Image Restoration"
OPERATOR = "the operator in place of its own"
SMALL_LPIPS = "LPIPS at the observation's side, where that is below 256"
HIDDEN = "before LPIPS, hidden regions get the same noise in both images"
LAST_STEP = "the image after the last step, where its code returns the one before"


# robust: NGD bounds how far codes travel, and that is all the regularisation there is
def _robust(loss: tuple[Term, ...], source: str) -> Method:
    return Method(
        (
            Phase("W", 150, NGD(0.08), loss),
            Phase("W+", 150, NGD(0.02), loss),
            Phase("W++", 150, NGD(0.005), loss, optional=True),
        ),
        source=f"{ROBUST_PAPER}, {source}",
        departures=f"{FILL}; {NGD_RATES}; W → W+ for a generator without W++",
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
        Phase("W++", 150, Adam(0.002), SIMPLE, stop=Patience(15), optional=True),
    ),
    source=(
        "a course project of 2025: three phases with Adam, LPIPS + 0.1·L1 + λ·identity, patience 15"
    ),
    departures=(
        "learning rates and λ were not published, and are ours; identity compares with the "
        "observation or a reference photo, never with the clean image, and is left out without an "
        f"embedding; {HIDDEN}; {ADAM_RATES}; W → W+ for a generator without W++"
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
            "the operator in place of bicubic reduction; the given generator in place of StyleGAN "
            "of 2019; W's statistics from 10 000 draws, not a million; an image is returned even "
            f"if its loss did not reach the floor; {LAST_STEP}"
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
    Lpips(1.25, at=256),
    Near(100),
    Collinear(0.1 * 18 * 18, beyond_x16=10),
)
BRGM = Method(
    (Phase("W+", 501, Adam(0.1), BRGM_LOSS),),
    source=f"{BRGM_PAPER} (PyTorch port)",
    departures=(
        f"{OPERATOR}; the collinearity's sum over 18 × 18 pairs is a mean, times 324; the "
        "checkpoint's mean of W and noise, where its code draws both; known pixels are not pasted "
        f"over the image; {HIDDEN}, where its code paints them; {ADAM_RATES}"
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
    departures=(
        f"{OPERATOR}; starts at the checkpoint's mean of W without its tiny shift; known pixels "
        f"are not pasted over the image; {HIDDEN}, where its code paints them white; {ADAM_RATES}"
    ),
    knobs=BRGM_KNOBS,
)


def _lbrgm(steps: int, lr: float, candidates: int, psi: float, setting: str) -> Method:
    perceptual = Lpips(2.5, at=256)
    loss = (MSE(2e-4, unit=255), perceptual, Mapped(30), Normal(0.4))
    return Method(
        (Phase(Z(codes=True), steps, Adam(lr), loss),),
        BestOf(candidates, perceptual, psi),
        source=f"Conmy et al. 2022, L-BRGM, {setting}",
        departures=(
            f"{OPERATOR}; no early stop by the clean image; the first draws are compared whatever "
            f"their distance; {HIDDEN}, where its code paints them; {LAST_STEP}; {ADAM_RATES}"
        ),
        knobs=(Knob("lr"), Knob("lpips"), Knob("mapping"), Knob("prior on z")),
    )


LBRGM = _lbrgm(500, 0.05, 200, 0.8, "with the setting of Poirier-Ginter & Lalonde 2023")
LBRGM_ORIGINAL = _lbrgm(2000, 0.1, 100, 1.0, "its own setting")

ILO_PAPER = "Daras et al. 2021, Intermediate Layer Optimization"
ILO_LOSS = (MSE(unit=2), Lpips(at_most=256, enlarge=True), Geodesic(0.01))
ILO_DEPARTURES = (
    "the operator in place of bicubic reduction and black pixels; rounds are counted from the "
    "image, as at 1024², and a round whose features a smaller generator lacks searches all of it; "
    "what is painted so far goes on into the next round, as the paper's formula has it (its code "
    "drops it); the geodesic term works in every round, over all layers (in its code it is NaN "
    f"after the first); {HIDDEN}, where its code copies the prediction; {SMALL_LPIPS}; W's "
    "statistics from 10 000 draws; add optim.L1Ball to `project` for its radii"
)
ILO_KNOBS = (Knob("lr"), Knob("lpips"), Knob("geodesic"))


def _ilo_space(reduction: int | None) -> GaussianCodes:
    """The space of a round: all of the generator, or from features so many times smaller on."""
    return GaussianCodes(reduction=reduction, noises=5, noises_per_block=2)


def _ilo() -> Method:
    adam = Adam(0.1, schedule=Ramp(down=0.75), project=(Sphere(),))
    phases = (
        Phase(_ilo_space(None), 50, adam, ILO_LOSS),
        Phase(_ilo_space(256), 50, adam, ILO_LOSS),
        Phase(_ilo_space(128), 25, adam, ILO_LOSS),
        Phase(_ilo_space(64), 25, adam, ILO_LOSS, keep="mse"),
    )
    return Method(phases, source=ILO_PAPER, departures=ILO_DEPARTURES, knobs=ILO_KNOBS)


def _ilo_text() -> Method:
    adam = Adam(0.1, project=(Sphere(),))
    flattened = Patience(15)
    phases = (
        Phase(_ilo_space(None), 300, adam, ILO_LOSS, stop=flattened),
        Phase(_ilo_space(256), 300, adam, ILO_LOSS, stop=flattened),
        Phase(_ilo_space(128), 300, adam, ILO_LOSS, stop=flattened),
        Phase(_ilo_space(64), 300, adam, ILO_LOSS, stop=flattened, keep="mse"),
    )
    return Method(
        phases,
        source=f"{ILO_PAPER}, as its text reads: the next round begins when the loss flattens",
        departures=(
            "a loss is flat after 15 steps without a new minimum, or after 300 in all, at a "
            f"constant rate; none of the three was published; {ILO_DEPARTURES}"
        ),
        knobs=ILO_KNOBS,
    )


PTI_PAPER = "Roich et al. 2021, Pivotal Tuning for Latent-based Editing of Real Images"
PTI_DEPARTURES = (
    "everything is seen through the operator; the checkpoint's mean of W, not that of 600 draws; "
    f"{HIDDEN}; {SMALL_LPIPS}; {ADAM_RATES}"
)
PTI_PIVOT = Phase(
    Codes("W", jitter=0.05, noises=True),
    450,
    Adam(0.01, schedule=Ramp(), project=(Whiten(),)),
    (Lpips(at_most=256, enlarge=True), WhiteNoise(1e5)),
)
PTI_LOSS = (MSE(unit=2), Lpips(net="alex", enlarge=True))
PTI = Method(
    (PTI_PIVOT, Phase(Weights(), 350, Adam(3e-4), (*PTI_LOSS, Locality()))),
    source=f"{PTI_PAPER}, eqs. 1 to 5",
    departures=(
        "no stop at LPIPS ≤ 0.06, which a small observation reaches at once; the locality term is "
        f"on, as in the paper (its code has it switched off); {PTI_DEPARTURES}"
    ),
    knobs=(Knob("lr"), Knob("noise"), Knob("locality")),
)
PTI_ORIGINAL = Method(
    (PTI_PIVOT, Phase(Weights(), 350, Adam(3e-4), PTI_LOSS, stop=Below("lpips", 0.06))),
    source=f"{PTI_PAPER}, as its code is configured: it stops at LPIPS ≤ 0.06, without locality",
    departures=PTI_DEPARTURES,
    knobs=(Knob("lr"), Knob("noise")),
)

CRI_PAPER = "Wang et al. 2023, CRI: Clustering and Regularize Inversion, eqs. 5 to 8"


def cri(
    clusters: int = 10,
    offset: tuple[Term, ...] = (OffsetNorm(0.5),),
    through_operator: bool = False,
    steps: tuple[int, int] = (500, 20),
    mse: tuple[float, float] = (10.0, 1.0),
    unit: float = 255.0,
) -> Method:
    """CRI with this many clusters.

    offset: terms for the offset, which the paper keeps short. through_operator: how centres are
    compared with the observation, see `Centroids`. steps: of the search for the offset, and of the
    tuning of weights. mse: the weight of MSE in each of the two. The authors' code has (10, 1) for
    colorization, and (100, 10) for super-resolution and inpainting. unit: see `MSE`.
    """
    perceptual = Lpips(at_most=256, enlarge=True)
    locality = Locality(mse=0, lpips=10, net=None)
    offset_loss = (perceptual, MSE(mse[0], unit=unit), *offset)
    tuning_loss = (perceptual, MSE(mse[1], unit=unit), locality)
    return Method(
        (
            Phase(Offset(), steps[0], Adam(0.1, schedule=Ramp()), offset_loss),
            Phase(Weights(), steps[1], Adam(3e-4), tuning_loss),
        ),
        Centroids(clusters, through_operator),
        source=f"{CRI_PAPER}, with {steps[0]} + {steps[1]} steps",
        departures=(
            f"{OPERATOR}; the paper's weights are not public: those of its code for colorization, "
            "for every task; the locality term sees images in the units of its network (in its "
            "code it is nearly constant), and its L2 part is left out, as in its code; centres are "
            f"found here, since its code reads them from a file; {HIDDEN}; {SMALL_LPIPS}; "
            f"{LAST_STEP}; {ADAM_RATES}"
        ),
        knobs=(Knob("lr"), Knob("mse"), Knob("locality")),
    )


DGP_PAPER = "Pan et al. 2021, Exploiting Deep Generative Prior for Versatile Image Restoration"


@dataclass(frozen=True)
class DgpStage:
    """A stage of DGP: its learning rates, how many blocks it tunes, and the weights of its terms.

    mse: None for a loss without MSE.
    """

    steps: int
    blocks: int
    lr: float
    z_lr: float
    deep: float = 1.0
    mse: float | None = 1.0


DGP_UPSAMPLING = (
    DgpStage(200, 2, 5e-5, 2e-3),
    DgpStage(200, 3, 5e-5, 1e-3),
    DgpStage(200, 4, 2e-5, 2e-5),
    DgpStage(200, 5, 1e-5, 1e-5),
    DgpStage(200, 7, 1e-5, 1e-5),
)
DGP_COLORIZATION = (
    DgpStage(200, 2, 5e-5, 2e-3, mse=None),
    DgpStage(200, 3, 5e-5, 1e-3, mse=None),
    DgpStage(300, 4, 5e-5, 5e-4, mse=None),
    DgpStage(400, 5, 5e-5, 5e-5, mse=None),
    DgpStage(300, 6, 2e-5, 2e-5, mse=None),
)
DGP_INPAINTING = (
    DgpStage(200, 7, 5e-5, 2e-3),
    DgpStage(200, 7, 5e-5, 1e-3),
    DgpStage(200, 7, 2e-5, 2e-5),
    DgpStage(200, 7, 2e-5, 2e-5),
    DgpStage(200, 7, 1e-5, 1e-5, deep=0.5, mse=10.0),
)


def _dgp(
    stages: tuple[DgpStage, ...], features: int, deviation: float, task: str, left_out: str
) -> Method:
    """DGP. features: how many of the deep features it compares, from the end."""
    phases = []
    for stage in stages:
        loss: list[Term] = [Deep(stage.deep, last=features, enlarge=True)]
        if stage.mse is not None:
            loss.append(MSE(stage.mse, unit=2, enlarge=True))
        loss.append(Normal(0.01))
        adam = Adam(stage.lr, betas=(0, 0.999), z_lr=stage.z_lr)
        phases.append(Phase(Weights(stage.blocks, z=True), stage.steps, adam, tuple(loss)))
    knobs = [Knob("lr"), Knob("prior on z")]
    if stages[0].mse is not None:
        knobs.insert(1, Knob("mse"))
    return Method(
        tuple(phases),
        BestOf(500, Deep(1, last=3, enlarge=True), deviation=deviation),
        source=f"{DGP_PAPER}, its preset for {task} at 256²",
        departures=(
            "where the generator's file has no discriminator, features of the perceptual network; "
            "a discriminator's features are those of its blocks, without its final layers; the "
            "class must be given; groups are blocks, or all weights where there are none; Adam "
            f"begins anew at each stage; {left_out}{LAST_STEP}; {OPERATOR}"
        ),
        knobs=tuple(knobs),
    )


DGP = _dgp(DGP_UPSAMPLING, 8, 0.3, "x4", "")
DGP_COLOR = _dgp(
    DGP_COLORIZATION,
    7,
    0.5,
    "colorization",
    "one rate for all blocks, where its own falls from block to block by 0.7 to 1; the "
    "observation's lightness is not pasted into the image; ",
)
DGP_HOLES = _dgp(DGP_INPAINTING, 8, 0.3, "inpainting", "the embedding of the class is not tuned; ")


SEARCHES: dict[str, Method] = {
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
    "ilo-text": _ilo_text(),
    "pti": PTI,
    "pti-original": PTI_ORIGINAL,
    "cri": cri(),
    "cri-xl": cri(steps=(1000, 350)),
    "dgp": DGP,
    "dgp-colorization": DGP_COLOR,
    "dgp-inpainting": DGP_HOLES,
}
