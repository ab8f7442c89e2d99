"""What every method of restoration declares and does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .problem import Problem
from .result import Named, Report, Restoration

PRIORS = {
    "generator": "a generator, such as invert.load_generator('avatars-128')",
    "denoiser": "a denoiser, such as invert.load_prior(file) or invert.Denoiser(module)",
}
M = TypeVar("M", bound="RestorationMethod")


@dataclass(frozen=True)
class Knob:
    """What tuning may change, by a factor: the learning rates ("lr"), or a term's weight."""

    name: str
    low: float = 0.1
    high: float = 10.0


class RestorationMethod:
    """A way to restore. `invert.restore` calls `check`, then `solve`.

    source: who published it. departures: what is different here, and why. knobs: what `tuned` may
    change. prior_kind: the prior it needs, a key of PRIORS. options: the optional arguments of
    `invert.restore` it uses, out of class_label, init, identity and lr_scale. compares_faces:
    whether it has a term for `identity`. draws: whether another seed gives another answer.
    keeps_pixels: whether the final image is made consistent with the observation, unless this is
    reduced by more than 2, or `invert.restore` is told otherwise.
    """

    source: str = ""
    departures: str = ""
    knobs: tuple[Knob, ...] = ()
    prior_kind: str = "generator"
    options: frozenset[str] = frozenset()
    draws: bool = True
    keeps_pixels: bool = False

    @property
    def compares_faces(self) -> bool:
        return False

    def stages(self) -> Sequence[Named]:
        """The parts of the method, each with a name and a number of steps."""
        raise NotImplementedError

    def with_steps(self: M, steps: int) -> M:
        """The method in this many steps in all; raises ValueError where it cannot do that."""
        raise NotImplementedError

    def tuned(self: M, factors: Mapping[str, float]) -> M:
        """Multiply some constants. Raises ValueError for unknown names and bad factors."""
        check_factors(factors, [knob.name for knob in self.knobs])
        if factors:
            raise NotImplementedError(f"{type(self).__name__} has knobs; define `tuned`")
        return self

    def check(self, problem: Problem) -> None:
        """Raise ValueError, in one line, for a problem that the method cannot solve."""

    def solve(self, problem: Problem, report: Report) -> Restoration:
        """Restore. `report` must be called after every step."""
        raise NotImplementedError

    def describe(self, text_of: Callable[[object], str]) -> list[tuple[str, str]]:
        """Rows (head, text) that describe the method; `text_of` writes out a part of it."""
        return [("constants", text_of(self))]


def check_factors(factors: Mapping[str, float], names: Sequence[str]) -> None:
    """Raise ValueError for a factor that is not above 0, or of something that has no such name."""
    for name, factor in factors.items():
        if not 0 < factor < math.inf:
            raise ValueError(f"{name}: the factor {factor} must be a finite number above 0")
        if name not in names:
            raise ValueError(f"there is no {name!r} to tune; there are {', '.join(names)}")


def check_prior(method: RestorationMethod, problem: Problem) -> None:
    """Raise ValueError for a prior of another kind than the method needs."""
    needed, given = method.prior_kind, problem.prior.prior_kind
    if needed != given:
        raise ValueError(
            f"method={problem.method_name} needs {PRIORS[needed]}; "
            f"the one given is {PRIORS[given].split(',')[0].split(':')[0]}"
        )


def check_options(method: RestorationMethod, problem: Problem, class_label: object) -> None:
    """Raise ValueError for optional arguments that the method does not use."""
    options = {
        "class_label": class_label,
        "init": problem.init,
        "identity": problem.identity,
        "lr_scale": problem.lr_scale,
    }
    unused = []
    for option, value in options.items():
        if value is not None and option not in method.options:
            unused.append(option)
    if unused:
        raise ValueError(
            f"{', '.join(unused)}: method={problem.method_name} has no use for it; leave it out"
        )
