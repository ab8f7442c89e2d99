"""`degrade methods`: the methods of restoration for a person to read."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from invert import METHODS
from invert.methods import method_of

from . import tables

_SHOWN_ELSEWHERE = ("weight", "source", "departures")


def show_all() -> None:
    """Print every method, a row each."""
    table = tables.columns("name", "phases", "steps", "source")
    for name, method in METHODS.items():
        stages = method.stages()
        steps = " + ".join(str(stage.steps) for stage in stages)
        path = " → ".join(stage.name for stage in stages)
        table.add_row(name, path, steps, method.source)
    tables.show(table)


def show(name: str) -> None:
    """Print one method in full, with every constant that is not its class's default."""
    method = method_of(name)
    rows = {"source": method.source, "departures": method.departures}
    rows.update(method.describe(constants))
    tables.show(tables.facts(rows))


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
    return constants(value)
