"""A phase of a search, as data: a space, an optimiser and its steps, the terms of a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from .latent import Codes, Space
from .loss import Term
from .optim import Optimiser
from .problem import Problem
from .stopping import StopRule

Reach = Callable[[Problem, Tensor], Tensor]  # (problem, first image) → a factor per image, [B]


@dataclass(frozen=True)
class Phase:
    """A search in one space: so many steps of an optimiser down the sum of some terms.

    space: a Space, or "W", "W+" or "W++". stop: ends an image's phase early. keep: the phase ends
    where the term of this name was lowest; None ends at the last step. optional: whether the phase
    is left out for a generator that lacks its space. reach: a factor of the codes' learning rates,
    from the problem and the image [B, C, R, R] that the phase begins with; it returns one number
    per image, [B].
    """

    space: Space
    steps: int
    optimiser: Optimiser
    loss: tuple[Term, ...]
    stop: StopRule | None = None
    keep: str | None = None
    optional: bool = False
    reach: Reach | None = None

    def __init__(
        self,
        space: Space | str,
        steps: int,
        optimiser: Optimiser,
        loss: tuple[Term, ...],
        stop: StopRule | None = None,
        keep: str | None = None,
        optional: bool = False,
        reach: Reach | None = None,
    ):
        values = {
            "space": Codes(space) if isinstance(space, str) else space,
            "steps": steps,
            "optimiser": optimiser,
            "loss": loss,
            "stop": stop,
            "keep": keep,
            "optional": optional,
            "reach": reach,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if not is_tuple_of_terms(self.loss):
            raise ValueError(
                f"loss={self.loss!r} must be a tuple of terms, such as (Lpips(), L1(0.1))"
            )
        if not isinstance(self.optimiser, Optimiser):
            raise ValueError(
                f"optimiser={self.optimiser!r} must be an Optimiser, such as NGD(0.08)"
            )
        names = [term.name for term in self.loss]
        for name in self.needed_terms:
            count = names.count(name)
            if count != 1:
                raise ValueError(f"keep or stop asks for one term {name!r}; the loss has {count}")
        if not names:
            raise ValueError("loss has no terms; give at least one")

    @property
    def name(self) -> str:
        return self.space.name

    @property
    def needed_terms(self) -> tuple[str, ...]:
        """The names of the terms that `keep` and `stop` read."""
        names = []
        if self.keep:
            names.append(self.keep)
        if self.stop:
            names.extend(self.stop.needs)
        return tuple(names)

    def is_left_out(self, problem: Problem) -> bool:
        """Whether the phase is optional and the generator lacks its space."""
        return self.optional and self.lacking(problem) is not None

    def lacking(self, problem: Problem) -> ValueError | None:
        """What the generator lacks for the phase, if anything."""
        try:
            self.space.check(problem.generator)
        except ValueError as error:
            return error
        return None

    def over(self, steps: int) -> Phase:
        """The phase in another number of steps."""
        optimiser = self.optimiser
        if steps and steps != self.steps:
            optimiser = optimiser.over(steps / self.steps)
        return replace(self, steps=steps, optimiser=optimiser)

    def runs(self, batch: int) -> int:
        """How many times its steps are run for a batch."""
        return batch if self.space.per_image else 1

    def terms(self, problem: Problem) -> list[Term]:
        """The terms that can be measured for a problem."""
        return [term for term in self.loss if term.applies(problem)]

    def named_terms(self, problem: Problem) -> list[tuple[str, Term]]:
        """The same with a name for each; the second of one kind is called "mse 2"."""
        named: list[tuple[str, Term]] = []
        counts: dict[str, int] = {}
        for term in self.terms(problem):
            count = counts.get(term.name, 0) + 1
            counts[term.name] = count
            name = term.name if count == 1 else f"{term.name} {count}"
            named.append((name, term))
        return named

    def tuned(self, factors: Mapping[str, float]) -> Phase:
        """The phase with its learning rates ("lr") and weights of terms multiplied."""
        terms = []
        for term in self.loss:
            weight = term.weight * factors.get(term.name, 1)
            terms.append(replace_weight(term, weight))
        rate_factor = factors.get("lr", 1)
        optimiser = self.optimiser.times(rate_factor)
        return replace(self, optimiser=optimiser, loss=tuple(terms))

    def check(self, problem: Problem) -> None:
        """Raise ValueError where the terms that are left do not compare with the observation."""
        names = set()
        compares = False
        missing = []
        for term in self.loss:
            if term.applies(problem):
                names.add(term.name)
                compares = compares or term.compares
            else:
                missing.append(term.name)
        has_needed_terms = names.issuperset(self.needed_terms)
        if missing and not (compares and has_needed_terms):
            shape = list(problem.observation.shape)
            raise ValueError(
                f"method={problem.method_name} needs {missing[0]} in phase {self.name!r}, which "
                f"compares pictures; {problem.operator} makes {shape}; use ilo"
            )

    def describe(self, text_of: Callable[[object], str]) -> str:
        """Lines that describe the phase."""
        optimiser = text_of(self.optimiser)
        space = text_of(self.space)
        lines = [f"{self.steps} steps of {optimiser} in {space}"]
        for term in self.loss:
            lines.append(f"  {term.weight:g} × {text_of(term)}")
        if self.stop:
            lines.append(f"  stops at {text_of(self.stop)}")
        if self.keep:
            lines.append(f"  ends where {self.keep} was lowest")
        if self.reach:
            lines.append(f"  learning rates × {text_of(self.reach)}")
        if self.optional:
            lines.append(f"  left out for a generator that has no {self.name}")
        return "\n".join(lines)


def is_tuple_of_terms(loss: object) -> bool:
    """Whether a loss is what a phase can use, and not a single term or a name."""
    if not isinstance(loss, tuple):
        return False
    return all(isinstance(term, Term) for term in loss)


def replace_weight(term: Term, weight: float) -> Term:
    """The term with another weight."""
    return replace(term, weight=weight)  # type: ignore[type-var]  # every term is a dataclass
