"""Methods of restoration for a person to read: all that they are is data."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from rich.table import Column, Table

from invert import DDRM, METHODS
from invert.methods import method_of

from .tables import print_wide


def show_all() -> None:
    """Every method, a row each."""
    table = Table(
        *(Column(head, overflow="fold") for head in ("name", "phases", "steps", "source"))
    )
    for name, method in METHODS.items():
        phases = getattr(method, "phases", (method,))
        steps = " + ".join(str(phase.steps) for phase in phases)
        table.add_row(name, " → ".join(phase.name for phase in phases), steps, method.source)
    print_wide(table)


def show(name: str) -> None:
    """One method in full, with every constant that is not its class's default."""
    method = method_of(name)
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for word in ("source", "departures"):
        table.add_row(word, getattr(method, word))
    if isinstance(method, DDRM):
        table.add_row("constants", constants(method))
    else:
        table.add_row("starts at", constants(method.start))
        for i, phase in enumerate(method.phases, 1):
            lines = [
                f"{phase.steps} steps of {constants(phase.optimiser)} in {constants(phase.space)}"
            ]
            lines += [f"  {term.weight:g} × {constants(term)}" for term in phase.loss]
            lines += [f"  stops at {constants(phase.stop)}"] if phase.stop else []
            lines += [f"  ends where {phase.keep} was lowest"] if phase.keep else []
            table.add_row(f"phase {i}", "\n".join(lines))
        table.add_row(
            "knobs", ", ".join(f"{k.name} ×{k.low:g} to ×{k.high:g}" for k in method.knobs)
        )
    print_wide(table)


def constants(part: object) -> str:
    """A part of a method as its class and the constants that are not its defaults, nor said elsewhere."""
    if not is_dataclass(part):
        return getattr(part, "__name__", repr(part))
    said = [(f.name, getattr(part, f.name), f.default) for f in fields(part) if f.init]
    written = [
        f"{name}={_constant(value)}"
        for name, value, default in said
        if name not in _ELSEWHERE and value != default
    ]
    return f"{type(part).__name__}({', '.join(written)})"


_ELSEWHERE = ("weight", "source", "departures")


def _constant(value: object) -> str:
    if isinstance(value, tuple) and any(map(is_dataclass, value)):
        return f"({', '.join(map(constants, value))}{',' * (len(value) == 1)})"
    return constants(value) if is_dataclass(value) else repr(value)
