"""`degrade ops`: the operators for a person to read, from their own declarations."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import MISSING, fields

from degrade.operator import Operator
from degrade.params import format_value
from degrade.registry import REGISTRY

from . import tables


def show_all() -> None:
    """Print every registered operator, a row each."""
    table = tables.columns("name", "parameters", "equals exactly", "gradient", "linear")
    for name, operator in sorted(REGISTRY.items()):
        row = (name, parameters(operator), operator.exact, operator.gradient, linear(operator))
        table.add_row(*row)
    tables.show(table)


def show(name: str) -> None:
    """Print one operator in full. Raises ValueError, with similar names, for an unknown one."""
    operator = REGISTRY.get(name)
    if operator is None:
        similar = difflib.get_close_matches(name, REGISTRY, cutoff=0.5)
        mend = f"did you mean {' or '.join(similar)}?" if similar else "`degrade ops` lists them"
        raise ValueError(f"operator {name!r} is unknown; {mend}")
    table = tables.facts({"name": name, "what it does": inspect.getdoc(operator) or ""})
    for parameter in fields(operator):
        table.add_row(parameter.name, "")
    tables.show(table)


def parameters(operator: type[Operator]) -> str:
    """The parameters with their defaults, such as "sigma, filter=lanczos"."""
    texts = []
    for parameter in fields(operator):
        default = parameter.default
        texts.append(
            parameter.name if default is MISSING else f"{parameter.name}={_short(default)}"
        )
    return ", ".join(texts)


def linear(operator: type[Operator]) -> str:
    """Whether the operator is linear: "yes", "", or "depends" on a parameter or a random draw."""
    if isinstance(operator.linear, property):
        return "depends"
    return "yes" if operator.linear else ""


def _short(default: object) -> str:
    if default is None:
        return ""
    return f"{default:.3g}" if isinstance(default, float) else format_value(default)
