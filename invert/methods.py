"""Methods of inversion, as data: where to begin, and a list of phases.

Constants are the published ones, and named where a method departs from its source. A method of
your own is a `Method` too: see examples/own_method.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .ddrm import DDRM
from .latent import Codes, Gaussian, Offset, Space, Weights, Z
from .loss import L1, MSE, Deep, Lpips, SamePerson, Term
from .optim import NGD, Adam, Below, CycleWithDrop, Optimiser, Patience, Ramp, Sphere, Whiten
from .prior import Collinear, Geodesic, Locality, Mapped, Near, Normal, WhiteNoise
from .start import BestOf, Centroids, Mean, Start


@dataclass(frozen=True)
class Phase:
    """Move in one space: so many steps of an optimiser down the sum of some terms.

    space: a Space, or "W", "W+" or "W++". stop: ends an image's phase early. keep: the phase ends at
    the place where this term was lowest; None is the last.
    """

    space: Space | str
    steps: int
    optimiser: Optimiser
    loss: tuple[Term, ...]
    stop: Patience | Below | None = None
    keep: str | None = None

    def __post_init__(self):
        if isinstance(self.space, str):
            object.__setattr__(self, "space", Codes(self.space))
        if isinstance(self.loss, Term) or not all(isinstance(term, Term) for term in self.loss):
            raise ValueError(
                f"loss={self.loss!r} must be a tuple of terms, such as (Lpips(), L1(0.1))"
            )
        if not isinstance(self.optimiser, Optimiser):
            raise ValueError(
                f"optimiser={self.optimiser!r} must be an Optimiser, such as NGD(0.08)"
            )
        names = [term.name for term in self.loss]
        wanted = [self.keep] if self.keep else []
        wanted += [self.stop.term] if isinstance(self.stop, Below) else []
        for name in wanted:
            if names.count(name) != 1:
                raise ValueError(
                    f"keep or stop asks for one term {name!r}; the loss has {names.count(name)}"
                )
        if not names:
            raise ValueError("loss has no terms; give at least one")

    @property
    def name(self) -> str:
        return self.space.name

    def over(self, steps: int) -> Phase:
        """The same way in other steps."""
        if not steps or steps == self.steps:
            return replace(self, steps=steps)
        return replace(self, steps=steps, optimiser=self.optimiser.over(steps / self.steps))


@dataclass(frozen=True)
class Knob:
    """What a search may turn: the learning rates ("lr"), or the weight of a term by its name, by a factor."""

    name: str
    low: float = 0.1
    high: float = 10.0


@dataclass(frozen=True)
class Method:
    """How to search. source: who published it; departures: what is different here, and why.

    knobs: what `tuned` may change. The weights of a loss are relative, so its first term has none.
    """

    phases: tuple[Phase, ...]
    start: Start = Mean()
    source: str = ""
    departures: str = ""
    knobs: tuple[Knob, ...] = (Knob("lr"),)

    def tuned(self, factors: Mapping[str, float]) -> Method:
        """With some constants multiplied. Raises ValueError for a name that is none, and a factor not above 0."""
        terms = {term.name for phase in self.phases for term in phase.loss}
        for name, factor in factors.items():
            if not 0 < factor < math.inf:
                raise ValueError(f"{name}: the factor {factor} must be a finite number above 0")
            if name != "lr" and name not in terms:
                raise ValueError(
                    f"there is no {name!r} to tune; there are lr, {', '.join(sorted(terms))}"
                )

        def turned(phase: Phase) -> Phase:
            loss = (
                replace(term, weight=term.weight * factors.get(term.name, 1)) for term in phase.loss
            )
            return replace(
                phase, optimiser=phase.optimiser.times(factors.get("lr", 1)), loss=tuple(loss)
            )

        return replace(self, phases=tuple(map(turned, self.phases)))


METHODS: dict[str, Method | DDRM] = {}
RATES = "learning rates of codes follow the generator's own spread of W"
FILL = (
    "the noise in what is hidden repeats every 16 steps, for observations of at most 65 536 pixels"
)
PAPER = "Poirier-Ginter & Lalonde 2023, Robust Unsupervised StyleGAN Image Restoration"

# robust: NGD bounds how far codes travel, and that is all the regularisation there is
MULTISCALE = (Lpips(levels=6), L1(0.1, coarsest=True))
METHODS["robust"] = Method(
    (
        Phase("W", 150, NGD(0.08), MULTISCALE),
        Phase("W+", 150, NGD(0.02), MULTISCALE),
        Phase("W++", 150, NGD(0.005), MULTISCALE),
    ),
    source=f"{PAPER}, Algorithm 1, as its published code behaves",
    departures=f"{FILL}; {RATES}",
    knobs=(Knob("lr"), Knob("l1")),
)

TEXT = (Lpips(levels=6, first=1, shortest=16, fill=(0.5, 1.0)), L1(0.1))
METHODS["robust-text"] = Method(
    tuple(replace(phase, loss=TEXT) for phase in METHODS["robust"].phases),
    source=f"{PAPER}, as its text reads: LPIPS at 1/2 … 1/64 down to 16, L1 of pixels, fill noise N(0.5, 1) (§3.3)",
    departures=f"{FILL}; {RATES}",
    knobs=(Knob("lr"), Knob("l1")),
)

SIMPLE = (Lpips(enlarge=True), L1(0.1), SamePerson(0.1))
METHODS["adam-id"] = Method(
    (
        Phase("W", 150, Adam(0.05), SIMPLE, stop=Patience(15)),
        Phase("W+", 150, Adam(0.01), SIMPLE, stop=Patience(15)),
        Phase("W++", 150, Adam(0.002), SIMPLE, stop=Patience(15)),
    ),
    source="a course project of 2025: three phases with Adam, LPIPS + 0.1·L1 + λ·identity, patience 15",
    departures="learning rates and λ were not published, and are ours; identity compares with the observation or "
    f"a reference photo, never with the clean image; {RATES}",
    knobs=(Knob("lr"), Knob("l1")),
)

PULSE_LOSS = (MSE(100, floor=2e-3), Geodesic(0.05, of="latent"))


def _pulse(steps: int, lr: float) -> tuple[Phase, ...]:
    adam = Adam(lr, schedule=CycleWithDrop(), project=(Sphere(),))
    return (Phase(Gaussian(noises=5, quiet_end=True), steps, adam, PULSE_LOSS),)


METHODS["pulse"] = Method(
    _pulse(250, 0.8),
    source="Menon et al. 2020, PULSE, with the setting of Poirier-Ginter & Lalonde 2023",
    departures="the operator in place of bicubic reduction; W's statistics from 10 000 draws, not a million; the "
    "last image is returned whether its loss reached the floor or not",
    knobs=(Knob("lr"), Knob("geodesic")),
)
METHODS["pulse-original"] = replace(
    METHODS["pulse"],
    phases=_pulse(100, 0.4),
    source="Menon et al. 2020, PULSE, eqs. 1 to 3, its own setting",
)

METHODS["brgm"] = Method(
    (
        Phase(
            "W+",
            501,
            Adam(0.1),
            (
                MSE(1e-3, unit=255),
                Lpips(1.25, at_most=256, enlarge=True),
                Near(100),
                Collinear(0.1 * 18 * 18),
            ),
        ),
    ),
    source="Marinescu et al. 2020, Bayesian Image Reconstruction using Deep Generative Models (PyTorch port)",
    departures="the operator in place of its own; the collinearity's sum over 18 × 18 pairs is a mean, times 324; the "
    f"checkpoint's noise; LPIPS at the observation's side, where that is below 256; {RATES}",
    knobs=(Knob("lr"), Knob("lpips"), Knob("prior"), Knob("collinearity")),
)
METHODS["brgm-original"] = Method(
    (
        Phase(
            "W+",
            5000,
            Adam(0.1, schedule=Ramp()),
            (MSE(1e-3, unit=255), Lpips(at_most=256, enlarge=True), Near(100), Collinear(3)),
        ),
    ),
    source="Marinescu et al. 2020, Bayesian Image Reconstruction using Deep Generative Models",
    departures=f"the operator in place of its own; starts at the mean of W without its tiny shift; {RATES}",
    knobs=(Knob("lr"), Knob("lpips"), Knob("prior"), Knob("collinearity")),
)


def _lbrgm(steps: int, lr: float, candidates: int, psi: float) -> Method:
    perceptual = Lpips(2.5, at_most=256, enlarge=True)
    loss = (MSE(2e-4, unit=255), perceptual, Mapped(30), Normal(0.4))
    return Method(
        (Phase(Z(codes=True), steps, Adam(lr), loss),),
        BestOf(candidates, perceptual, psi),
        source="Conmy et al. 2022, L-BRGM, with the setting of Poirier-Ginter & Lalonde 2023",
        departures="the operator in place of its own; no early stop by the clean image; the first draws are compared "
        f"whatever their distance; LPIPS at the observation's side, where that is below 256; {RATES}",
        knobs=(Knob("lr"), Knob("lpips"), Knob("mapping"), Knob("prior on z")),
    )


METHODS["lbrgm"] = _lbrgm(500, 0.05, 200, 0.8)
METHODS["lbrgm-original"] = replace(
    _lbrgm(2000, 0.1, 100, 1.0), source="Conmy et al. 2022, L-BRGM, its own setting"
)

ILO_LOSS = (MSE(unit=2), Lpips(at_most=256, enlarge=True), Geodesic(0.01))
METHODS["ilo"] = Method(
    tuple(
        Phase(
            Gaussian(block=k, noises=5 + 2 * k),
            steps,
            Adam(0.1, schedule=Ramp(down=0.75), project=(Sphere(),)),
            ILO_LOSS,
            keep="mse",
        )
        for k, steps in enumerate((50, 50, 25, 25))
    ),
    source="Daras et al. 2021, Intermediate Layer Optimization",
    departures="what is painted so far goes on into the next round, as the paper's formula has it (its code drops it); "
    "the geodesic term works in every round; all rounds keep their lowest MSE, not the last alone; hidden regions are "
    "compared through fill noise; add optim.L1Ball to `project` for its radii",
    knobs=(Knob("lr"), Knob("lpips"), Knob("geodesic")),
)

PTI_TUNE = (MSE(unit=2), Lpips(net="alex", enlarge=True))
METHODS["pti"] = Method(
    (
        Phase(
            Codes("W", jitter=0.05, noises=True),
            450,
            Adam(0.01, schedule=Ramp(), project=(Whiten(),)),
            (Lpips(at_most=256, enlarge=True), WhiteNoise(1e5)),
        ),
        Phase(Weights(), 350, Adam(3e-4), (*PTI_TUNE, Locality()), stop=Below("lpips", 0.06)),
    ),
    source="Roich et al. 2021, Pivotal Tuning for Latent-based Editing of Real Images, eqs. 1 to 5",
    departures=f"everything is seen through the operator; the locality term is on; the checkpoint's mean of W; {RATES}",
    knobs=(Knob("lr"), Knob("noise"), Knob("locality")),
)


def cri(clusters: int = 10, offset: tuple[Term, ...] = (), through_operator: bool = True) -> Method:
    """CRI with so many clusters, a term for the offset such as OffsetNorm(0.5), and either comparison of centres."""
    return Method(
        (
            Phase(
                Offset(),
                500,
                Adam(0.1, schedule=Ramp()),
                (Lpips(at_most=256, enlarge=True), MSE(10, unit=2), *offset),
            ),
            Phase(
                Weights(),
                20,
                Adam(3e-4),
                (
                    Lpips(at_most=256, enlarge=True),
                    MSE(unit=2),
                    Locality(mse=0, lpips=10, net=None),
                ),
            ),
        ),
        Centroids(clusters, through_operator),
        source="Wang et al. 2023, CRI: Clustering and Regularize Inversion, eqs. 5 to 8, with its steps for faces",
        departures="the paper's weights are not public: those of its code for colorization, with MSE in [-1, 1]; PTI's "
        "locality; centres are compared through the operator, not as they are (through_operator=False); "
        + RATES,
        knobs=(Knob("lr"), Knob("mse"), Knob("locality")),
    )


METHODS["cri"] = cri()

_DGP = (
    # blocks tuned, weight of MSE, learning rate of weights, of z
    (2, 1, 5e-5, 2e-3),
    (3, 1, 5e-5, 1e-3),
    (4, 1, 2e-5, 2e-5),
    (5, 1, 1e-5, 1e-5),
    (7, 1, 1e-5, 1e-5),
)
METHODS["dgp"] = Method(
    tuple(
        Phase(
            Weights(blocks, z=True),
            200,
            Adam(lr, betas=(0, 0.999), z_lr=z_lr),
            (Deep(1), MSE(mse, unit=2), Normal(0.01)),
        )
        for blocks, mse, lr, z_lr in _DGP
    ),
    BestOf(500, Deep(1)),
    source="Pan et al. 2021, Exploiting Deep Generative Prior for Versatile Image Restoration, its preset for x4",
    departures="where the generator's file has no discriminator, all features of the perceptual network; z of "
    "deviation 1, since mappings normalise it; groups are blocks, or all weights where there are none; Adam begins "
    "anew at each stage; the operator in place of its own",
    knobs=(Knob("lr"), Knob("mse"), Knob("prior on z")),
)


METHODS["ddrm"] = DDRM()


def method_of(method: str | Method | DDRM, steps: int | None = None) -> Method | DDRM:
    """A method by name, or as it is; its phases in `steps` in all, in proportion (None: as published)."""
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")
        method = METHODS[method]
    if not isinstance(method, (Method, DDRM)):
        raise ValueError(f"method={method!r} must be a Method, or one of {', '.join(METHODS)}")
    if steps is None:
        return method
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps={steps!r} must be an integer ≥ 0")
    if isinstance(method, DDRM):
        return replace(method, steps=steps)
    total, done, shortened = sum(p.steps for p in method.phases), 0, []
    for i in range(len(method.phases)):  # round where each phase *ends*, so that the sum is exact
        end = round(steps * sum(p.steps for p in method.phases[: i + 1]) / max(total, 1))
        shortened.append(method.phases[i].over(end - done))
        done = end
    return replace(method, phases=tuple(shortened))
