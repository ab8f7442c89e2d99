"""`degrade ops`, `methods` and `generators`: what can be chosen by its name."""

from __future__ import annotations

from typing import Annotated

import typer

from ..completion import operator_names
from ..console import load, user_errors
from ..options import METHODS, Plugin


def ops(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this operator in full.", metavar="NAME", autocompletion=operator_names
        ),
    ] = None,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """List the operators for --op, or show one in full.

    An operator is written as `name:value,parameter=value`. A chain joins
    operators with `>>`, in the order in which they are applied.

    \b
    degrade ops
    degrade ops blur
    degrade ops --plugin my_operators
    """
    with user_errors():
        from .. import operators

        load(plugin)
        operators.show_all() if name is None else operators.show(name)


def methods(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this method in full.", metavar="NAME", autocompletion=METHODS),
    ] = None,
) -> None:
    """List the methods of restoration, or show one in full.

    In full: its phases, losses and constants, and where it departs from its
    paper.

    \b
    degrade methods
    degrade methods pulse
    """
    with user_errors():
        from .. import methods as listing

        listing.show_all() if name is None else listing.show(name)


def generators() -> None:
    """List the generators on this machine.

    These are the bundled ones and downloaded ones. Downloads are kept in the
    user's cache folder, or in the folder that the environment variable
    DEGRADE_CACHE names.

    \b
    degrade generators
    """
    with user_errors():
        from .. import generators as listing

        listing.show_all()
