"""Methods of restoration for a person to read: all that they are is data."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from rich.table import Column, Table

from invert import METHODS
from invert.methods import method_of

from .tables import print_wide


def show_all() -> None:
    """Every method, a row each."""
    table = Table(
        *(Column(head, overflow="fold") for head in ("name", "phases", "steps", "source"))
    )
    for name, method in METHODS.items():
        stages = method.stages()
        steps = " + ".join(str(stage.steps) for stage in stages)
        table.add_row(name, " → ".join(stage.name for stage in stages), steps, method.source)
    print_wide(table)


def show(name: str) -> None:
    """One method in full, with every constant that is not its class's default."""
    method = method_of(name)
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for word in ("source", "departures"):
        table.add_row(word, getattr(method, word))
    for head, text in method.describe(constants):
        table.add_row(head, text)
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
