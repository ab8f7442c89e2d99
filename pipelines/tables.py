"""Tables for the shell."""

from __future__ import annotations

from dataclasses import MISSING, fields

from rich.console import Console
from rich.table import Table

from degrade.operator import REGISTRY, Operator
from degrade.params import format_value


def operators() -> None:
    """Every registered operator, a row each."""
    table = Table("name", "parameters", "exact: equals", "gradient", "linear")
    for name, cls in sorted(REGISTRY.items()):
        linear = "once sampled" if isinstance(cls.linear, property) else "yes" if cls.linear else ""
        table.add_row(name, _parameters(cls), cls.exact, cls.gradient, linear)
    Console().print(table)


def _parameters(cls: type[Operator]) -> str:
    return ", ".join(
        f.name if f.default is MISSING else f"{f.name}={'' if f.default is None else format_value(f.default)}"
        for f in fields(cls)
    )
