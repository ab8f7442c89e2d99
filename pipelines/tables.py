"""Tables for the shell."""

from __future__ import annotations

from dataclasses import MISSING, fields

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from degrade.forensics import Guess
from degrade.operator import Operator
from degrade.params import format_value
from degrade.registry import REGISTRY


def operators() -> None:
    """Every registered operator, a row each."""
    table = Table(
        *(
            Column(head, overflow="fold")
            for head in ("name", "parameters", "equals exactly", "gradient", "linear")
        )
    )
    for name, cls in sorted(REGISTRY.items()):
        table.add_row(name, parameters(cls), cls.exact, cls.gradient, linear(cls))
    print_wide(table)


def findings(found: Guess) -> None:
    """What happened to a picture, a row for each stage, and the chain as --op takes it."""
    table = Table(
        *(Column(head, overflow="fold") for head in ("what happened", "confidence", "why"))
    )
    for finding in found.findings:
        sure = f"{finding.confidence:.2f}" if finding.stage else ""  # else it is a remark
        table.add_row(Text(finding.stage), sure, Text(finding.why))
    if found.clipped:
        table.add_row(
            "", "", f"{found.clipped:.2%} of the pixels lie in areas of 0 or 255, and tell less"
        )
    if table.row_count:
        print_wide(table)
    Console(soft_wrap=True).print(Text(str(found.operator)))


def print_wide(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(
        table
    )  # a pipe has no width of its own


def parameters(cls: type[Operator]) -> str:
    """The parameters of an operator with their defaults, in words."""
    return ", ".join(
        f.name if f.default is MISSING else f"{f.name}={_short(f.default)}" for f in fields(cls)
    )


def linear(cls: type[Operator]) -> str:
    """Whether it is; it may depend on what is still to be drawn, or on a parameter."""
    return "depends" if isinstance(cls.linear, property) else "yes" if cls.linear else ""


def _short(default: object) -> str:
    return (
        f"{default:.3g}"
        if isinstance(default, float)
        else ""
        if default is None
        else format_value(default)
    )
