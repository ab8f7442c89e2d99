"""Tables for the shell."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from .console import say

PIPE_WIDTH = 160  # characters, where the output is no terminal


def columns(*heads: str) -> Table:
    """An empty table whose cells are folded, and never cut, if they are too wide."""
    return Table(*(Column(head, overflow="fold") for head in heads))


def facts(rows: dict[str, str]) -> Table:
    """A table of names and values, without heads."""
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def show(table: Table | Text) -> None:
    """Print to stdout. If it cannot be written, say so in one line and exit with code 1."""
    console = Console(soft_wrap=isinstance(table, Text))
    if isinstance(table, Table) and not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    try:
        console.print(table)
    except OSError as error:
        discard_output()
        say(f"error: the output cannot be written: {error.strerror}")
        raise typer.Exit(1) from None


def discard_output() -> None:
    """Send what stdout still holds to nowhere; otherwise Python tries again to write it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
