"""`degrade ops`: the operators for a person to read, from their own declarations."""

from __future__ import annotations

import difflib
import inspect
import itertools
from contextlib import suppress

from rich.text import Text

from degrade.kinds import NumberKind, OperatorKind, OptionKind, TensorKind
from degrade.operator import Operator
from degrade.params import Parameter, described, format_value
from degrade.published import pipelines as published
from degrade.registry import REGISTRY
from degrade.spec import parse

from . import tables

# Typical values of parameters, by name, for examples.
TYPICAL: dict[str, object] = {
    "factor": 4,
    "format": "webp",
    "gamma": 2.2,
    "kernel": "gaussian",
    "matrix": (1, 0, 8, 0, 1, 8),
    "peak": 30,
    "quality": 30,
    "size": 16,
}


def show_all() -> None:
    """Print every registered operator, a row each."""
    table = tables.columns("name", "parameters", "equals exactly", "gradient", "linear")
    for name, operator in sorted(REGISTRY.items()):
        row = (name, parameters(operator), operator.exact, operator.gradient, linear(operator))
        table.add_row(*row)
    tables.show(table)
    names = ", ".join(published.families())
    tables.show(Text(f"Published pipelines, whose names stand for a whole chain: {names}"))


def show_published(name: str) -> None:
    """Print a published pipeline: its text, its source and its departures."""
    pipeline = published.about(name)
    facts = {"name": name, "text": pipeline.text, "source": pipeline.source}
    table = tables.facts(facts)
    for departure in pipeline.departures:
        table.add_row("departure", Text(departure))
    tables.show(table)


def show(name: str) -> None:
    """Print one operator or pipeline in full.

    Raises ValueError, with similar names, for an unknown one.
    """
    if name in published:
        show_published(name)
        return
    operator = REGISTRY.get(name)
    if operator is None:
        similar = difflib.get_close_matches(name, [*REGISTRY, *published], cutoff=0.5)
        mend = f"did you mean {' or '.join(similar)}?" if similar else "`degrade ops` lists them"
        raise ValueError(f"operator {name!r} is unknown; {mend}")
    table = tables.facts(
        {
            "name": name,
            "what it does": inspect.getdoc(operator) or "",
            "equals exactly": operator.exact,
            "gradient": operator.gradient,
            "linear": linear(operator) or "no",
        }
    )
    for parameter in described(operator):
        text = parameter.description
        if parameter.default_text:
            text += f"; default {parameter.default_text}"
        table.add_row(parameter.name, Text(text))
    table.add_row("example", Text(example(name)))
    tables.show(table)


def parameters(operator: type[Operator]) -> str:
    """The parameters with their defaults, such as "factor, filter=bicubic"."""
    texts = []
    for parameter in described(operator):
        name = parameter.name
        texts.append(name if parameter.required else f"{name}={parameter.default_text}")
    return ", ".join(texts)


def example(name: str) -> str:
    """A text for --op: the required parameters, and optional ones only if the operator needs them.

    Values are tried until `parse` accepts the text. Empty if it accepts none.
    """
    declared = [one for one in described(REGISTRY[name]) if not isinstance(one.kind, OperatorKind)]
    required = [parameter for parameter in declared if parameter.required]
    optional = [parameter for parameter in declared if not parameter.required]
    nested = "(jpeg:30)" if REGISTRY[name].holds else ""
    for extra in range(len(optional) + 1):
        chosen = required + optional[:extra]
        for values in itertools.product(*map(_candidates, chosen)):
            pairs = zip(chosen, values, strict=True)
            arguments = ",".join(f"{one.name}={format_value(value)}" for one, value in pairs)
            text = f"{name}:{arguments}" if arguments else name
            with suppress(ValueError):
                return str(parse(text + nested))
    return ""


def _candidates(parameter: Parameter) -> tuple[object, ...]:
    """A few values that an operator may accept for a parameter."""
    if parameter.name in TYPICAL:
        return (TYPICAL[parameter.name],)
    kind = parameter.kind
    if isinstance(kind, OptionKind):
        return kind.names[:1]
    if isinstance(kind, TensorKind):
        return ("picture.png",)
    return (0.1, 2, 1) if isinstance(kind, NumberKind) else ()


def linear(operator: type[Operator]) -> str:
    """Whether the operator is linear: "yes", "", or "depends" on a parameter or a random draw."""
    if isinstance(operator.linear, property):
        return "depends"
    return "yes" if operator.linear else ""
