"""What the log of a restoration says of its solves, and whether a log is that of a result."""

from __future__ import annotations

from collections.abc import Sequence

import degrade
from degrade.serial import collect

from .job import Restored
from .results import Curve, is_curve
from .solver import Solved

LOG = "log"  # the kind of record that a restoration leaves
RESULTS_OF_SEARCH = ("notes", "loss", "terms", "unexplained", "refused")  # keys of a log


def is_of(log: dict, wanted: dict) -> bool:
    """Whether a log is of a finished run and holds all that is wanted."""
    finished = not log.get("begun") and is_curve(log.get("loss"))
    return finished and all(log.get(key) == value for key, value in wanted.items())


def operator_text(operator: degrade.Operator) -> str:
    """The operator as text, with files named by their content instead of their paths."""
    return str(collect(operator, lambda name, data: None))


def search_log(restored: Restored) -> dict[str, object]:
    """The log's part about the solves: notes, and the curves of the loss and of its terms.

    The curves are means over samples and parts. They are those of the generator, if there is one.
    """
    notes: dict[str, None] = {}
    for solution in restored.searches:
        notes |= dict.fromkeys(solution.notes)
    solves = drawn_solves(restored) or restored.whole
    terms = {}
    for name in solves[0].terms:
        curves = [solution.terms[name] for solution in solves]
        terms[name] = _mean_curve(curves)
    losses = [solution.losses for solution in solves]
    log: dict[str, object] = {"notes": list(notes)}
    log["loss"] = _mean_curve(losses)
    log["terms"] = terms
    if restored.drawn:
        unexplained: list[float] = []
        refused: list[int] = []
        for number, drawn in enumerate(restored.drawn, 1):
            unexplained.append(round(drawn.unexplained, 4))
            if drawn.refused:
                refused.append(number)
        log["unexplained"] = unexplained
        log["refused"] = refused
    return log


def drawn_solves(restored: Restored) -> list[Solved]:
    """The solves of a generator, of all parts and samples."""
    solves = []
    for drawn in restored.drawn:
        solves += drawn.solved
    return solves


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> Curve:
    """The mean at each step; curves of samples that stopped early go on with their last value."""
    longest = max(len(curve) for curve in curves)
    means: Curve = []
    for step in range(longest):
        known = []
        for curve in curves:
            last = len(curve) - 1
            value = curve[min(step, last)]
            if value is not None:
                known.append(value)
        mean = None
        if known:
            mean = round(sum(known) / len(known), 6)
        means.append(mean)
    return means
