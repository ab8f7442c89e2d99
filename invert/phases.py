"""Methods that search a generator in phases, as data: where to begin, and a list of phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real

import torch
from torch import Tensor

from .identity import FaceIdentity
from .loss import SamePerson, Term
from .method import Knob, RestorationMethod, check_factors
from .phase import Phase
from .point import Point
from .problem import Problem
from .result import Report, Restoration
from .run import PhaseResult, Reporter, joined_losses, joined_terms, run
from .search import image_of
from .start import Drawn, Mean, Start
from .tree import finite_rows

LARGEST_LR_SCALE = 1000
Phases = tuple[Phase, ...]


@dataclass(frozen=True)
class Method(RestorationMethod):
    """A search in phases. source: who published it; departures: what is different here, and why.

    knobs: what `tuned` may change. The weights of a loss are relative, so its first term has none.
    keeps_pixels: whether it ends with data consistency, see `RestorationMethod`.
    """

    phases: tuple[Phase, ...]
    start: Start = field(default_factory=Mean)
    source: str = ""
    departures: str = ""
    knobs: tuple[Knob, ...] = (Knob("lr"),)
    keeps_pixels: bool = False

    options = frozenset({"class_label", "init", "identity", "lr_scale"})

    @property
    def compares_faces(self) -> bool:
        return SamePerson.name in [term.name for term in all_terms(self.phases)]

    def stages(self) -> tuple[Phase, ...]:
        return self.phases

    def with_steps(self, steps: int) -> Method:
        """The method in this many steps in all, every phase shortened in proportion."""
        published_total = sum(phase.steps for phase in self.phases)
        published = 0
        done = 0
        phases = []
        for phase in self.phases:
            published += phase.steps
            # Each end is rounded, and not each length, so that the lengths add up to `steps`.
            end = round(steps * published / max(published_total, 1))
            phases.append(phase.over(end - done))
            done = end
        return replace(self, phases=tuple(phases))

    def tuned(self, factors: Mapping[str, float]) -> Method:
        """Multiply learning rates ("lr") and weights of terms.

        Raises ValueError for an unknown name, and for a factor that is not above 0.
        """
        names = {term.name for term in all_terms(self.phases)}
        check_factors(factors, ["lr", *sorted(names)])
        phases = tuple(phase.tuned(factors) for phase in self.phases)
        return replace(self, phases=phases)

    def phases_of(self, problem: Problem) -> tuple[Phase, ...]:
        """The phases without the optional ones that the generator has no space for."""
        return tuple(phase for phase in self.phases if not phase.is_left_out(problem))

    def check(self, problem: Problem) -> None:
        _ = problem.visible  # raises ValueError for a mask that was not drawn
        phases = self.phases_of(problem) or self.phases
        check_spaces(phases, problem)
        check_lr_scale(problem.lr_scale)
        if problem.identity is not None:
            check_identity(problem.identity, phases, problem)
        for phase in phases:
            phase.check(problem)
        if problem.init is None:
            self.start.check(problem)

    def solve(self, problem: Problem, report: Report) -> Restoration:
        point, phases = self._begin(problem)
        image = image_of(point, problem)
        if problem.init is not None and not finite_rows(image).all():
            raise ValueError(
                "init is so far from the generator's latents that its image cannot be used; "
                "give one such as Restoration.latent, or 'random'"
            )
        image = image.clamp(0, 1)
        finite = torch.ones(problem.batch, dtype=torch.bool)
        reporter = Reporter(phases, problem, report)
        results: list[PhaseResult] = []
        images: dict[str, Tensor] = {}
        for number, phase in enumerate(phases):
            result = run(phase, point, problem, f"phase{number}", reporter)
            results.append(result)
            point = result.point
            image = result.image
            finite = finite & result.finite
            name = phase.name
            if name in images:
                name = f"{name}, phase {number + 1}"
            images[name] = image
        return Restoration(
            image=image,
            latent=problem.generator.unpack(point.latent),
            history=joined_losses(results, problem.batch),
            phase_images=images,
            finite=finite,
            point=point,
            notes=(*self._left_out(problem), *notes_of(phases, problem)),
            terms=joined_terms(results),
        )

    def describe(self, text_of: Callable[[object], str]) -> list[tuple[str, str]]:
        rows = [("starts at", text_of(self.start))]
        for number, phase in enumerate(self.phases, 1):
            description = phase.describe(text_of)
            rows.append((f"phase {number}", description))
        if self.keeps_pixels:
            rows.append(
                ("ends with", "data consistency, unless the observation is reduced by more than 2")
            )
        knobs = [f"{knob.name} ×{knob.low:g} to ×{knob.high:g}" for knob in self.knobs]
        rows.append(("knobs", ", ".join(knobs)))
        return rows

    def _left_out(self, problem: Problem) -> list[str]:
        """A note for each phase that is left out."""
        notes = []
        for phase in self.phases:
            if phase.is_left_out(problem):
                notes.append(f"phase {phase.name} was left out: {phase.lacking(problem)}")
        return notes

    def _begin(self, problem: Problem) -> tuple[Point, tuple[Phase, ...]]:
        """Where to begin, and with which phases."""
        available = self.phases_of(problem)
        if problem.init is None:
            return self.start(problem), available
        if not problem.has_w:
            raise ValueError("init: this generator has no W to begin in")
        if isinstance(problem.init, str):
            if problem.init != "random":
                raise ValueError(f"init={problem.init!r} must be a latent, or 'random'")
            start = self.start if self.start.draws else Drawn()
            return start(problem), available
        codes = initial_codes(problem.init, problem)
        space = space_of(codes, problem)
        phases = []
        for phase in available:
            if phase.space.goes_on_from(space):
                phases.append(phase)
        if not phases:
            raise ValueError(
                f"init is a latent of {space}; this method has no phase that could go on from it"
            )
        return Point(codes), tuple(phases)


def all_terms(phases: Phases) -> list[Term]:
    """The terms of all phases."""
    terms: list[Term] = []
    for phase in phases:
        terms.extend(phase.loss)
    return terms


def notes_of(phases: Phases, problem: Problem) -> tuple[str, ...]:
    """What readers of the result must know about how its terms were measured, each note once."""
    notes = []
    for term in all_terms(phases):
        note = term.note(problem)
        if note and note not in notes:
            notes.append(note)
    return tuple(notes)


def check_spaces(phases: Phases, problem: Problem) -> None:
    """Raise ValueError where the generator lacks what a phase needs."""
    errors: dict[str, ValueError] = {}
    for phase in phases:
        error = phase.lacking(problem)
        if error is not None:
            errors[phase.name] = error
    if errors:
        first = next(iter(errors.values()))
        raise ValueError(f"method={problem.method_name} needs {', '.join(errors)}: {first}")


def check_lr_scale(lr_scale: float | None) -> None:
    """Raise ValueError for a factor that is not a number above 0 and of a sensible size."""
    if lr_scale is None:
        return
    is_number = isinstance(lr_scale, Real) and not isinstance(lr_scale, bool)
    if not is_number or not 0 < lr_scale <= LARGEST_LR_SCALE:
        raise ValueError(
            f"lr_scale={lr_scale!r} must be a number above 0 and at most {LARGEST_LR_SCALE}, "
            "or None for the generator's own"
        )


def check_identity(identity: object, phases: Phases, problem: Problem) -> None:
    """Raise ValueError for an identity that the method or the batch cannot use."""
    if not isinstance(identity, FaceIdentity):
        raise ValueError(
            f"identity is a {type(identity).__name__}; give invert.FaceIdentity(module, reference)"
        )
    if SamePerson.name not in [term.name for term in all_terms(phases)]:
        raise ValueError(
            f"identity: method={problem.method_name} has no term for it; "
            "use adam-id, or add loss.SamePerson"
        )
    references = identity.reference
    if references is not None and len(references) not in (1, problem.batch):
        raise ValueError(
            f"identity has {len(references)} references for {problem.batch} images; "
            "give one, or one each"
        )
    if problem.prior.channels != 3:
        raise ValueError(f"identity needs a generator of 3 channels, not {problem.prior.channels}")


def initial_codes(init: object, problem: Problem) -> Tensor:
    """A latent to begin with, packed. Raises ValueError for what is none."""
    if not isinstance(init, Tensor) or not torch.isfinite(init).all():
        raise ValueError(
            "init must be a tensor without NaN or infinity, as Restoration.latent is, or 'random'"
        )
    copy = init.detach().to(problem.observation).clone()
    try:
        codes = problem.generator.pack(copy)
        problem.style.codes(codes, "const")
    except ValueError as error:  # another shape
        raise ValueError(f"init: {error}") from error
    if len(codes) != problem.batch:
        raise ValueError(
            f"init has {len(codes)} latents for {problem.batch} images; give one per image"
        )
    return codes


def space_of(codes: Tensor, problem: Problem) -> str:
    """The space of a latent: W, W+ or W++."""
    if codes.ndim == 2:
        return "W"
    has_code_per_layer = codes.shape[1] == problem.style.num_ws
    return "W+" if has_code_per_layer else "W++"
