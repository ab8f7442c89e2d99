"""`degrade methods`: the methods of restoration for a person to read."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from invert import DDRM, METHODS
from invert.methods import Phase, method_of

from . import tables

_SHOWN_ELSEWHERE = ("weight", "source", "departures")


def show_all() -> None:
    """Print every method, a row each."""
    table = tables.columns("name", "phases", "steps", "source")
    for name, method in METHODS.items():
        phases = getattr(method, "phases", (method,))
        steps = " + ".join(str(phase.steps) for phase in phases)
        path = " → ".join(phase.name for phase in phases)
        table.add_row(name, path, steps, method.source)
    tables.show(table)


def show(name: str) -> None:
    """Print one method in full, with every constant that is not its class's default."""
    method = method_of(name)
    rows = {"source": method.source, "departures": method.departures}
    if isinstance(method, DDRM):
        rows["constants"] = constants(method)
    else:
        rows["starts at"] = constants(method.start)
        for i, phase in enumerate(method.phases, 1):
            rows[f"phase {i}"] = "\n".join(_phase_lines(phase))
        knobs = [f"{knob.name} ×{knob.low:g} to ×{knob.high:g}" for knob in method.knobs]
        rows["knobs"] = ", ".join(knobs)
    tables.show(tables.facts(rows))


def _phase_lines(phase: Phase) -> list[str]:
    lines = [f"{phase.steps} steps of {constants(phase.optimiser)} in {constants(phase.space)}"]
    lines += [f"  {term.weight:g} × {constants(term)}" for term in phase.loss]
    if phase.stop:
        lines.append(f"  stops at {constants(phase.stop)}")
    if phase.keep:
        lines.append(f"  ends where {phase.keep} was lowest")
    return lines


def constants(part: object) -> str:
    """A part of a method: its class, and the constants that differ from the defaults."""
    if not is_dataclass(part):
        return getattr(part, "__name__", repr(part))
    texts = []
    for field in fields(part):
        value = getattr(part, field.name)
        if field.init and field.name not in _SHOWN_ELSEWHERE and value != field.default:
            texts.append(f"{field.name}={_constant(value)}")
    return f"{type(part).__name__}({', '.join(texts)})"


def _constant(value: object) -> str:
    if isinstance(value, tuple) and any(map(is_dataclass, value)):
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(constants, value))}{comma})"
    return constants(value) if is_dataclass(value) else repr(value)
