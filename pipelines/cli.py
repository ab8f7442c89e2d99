"""The `degrade` command: its help, its parser, and the list of its commands."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .commands.apply import apply
from .commands.benchmark import bench, compare, tune
from .commands.inspect import convert, inspect
from .commands.listings import generators, methods, ops
from .commands.restore import restore
from .commands.studio import studio
from .commands.train import train
from .options import with_options

# In the order in which the help lists them.
COMMANDS = (
    apply,
    restore,
    studio,
    bench,
    compare,
    tune,
    train,
    generators,
    inspect,
    convert,
    ops,
    methods,
)


class PlainHelp(TyperGroup):
    """Writes `degrade --help` without rich, whose import takes as long as all the rest."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usage, the text, the options and the commands."""
        super(TyperGroup, self).format_help(ctx, formatter)


app = typer.Typer(
    name="degrade",
    cls=PlainHelp,
    help="""Degrade pictures exactly as real cameras, codecs and networks do, and restore them.

    A chain of operators says what happens to a picture, for example
    "downsample:2 >> jpeg:18". `apply` degrades pictures with such a chain.
    `restore` searches for a picture that the chain turns into yours.

    \b
    degrade apply examples/avatars -o observed --op "downsample:2 >> jpeg:18"
    degrade restore observed -o restored
    degrade inspect photo.jpg
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class StrictCommand(TyperCommand):
    """Refuses an option that is given twice, and empty values.

    Without this, click would silently keep the last of two values, and take an empty path for the
    current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, then check them; --help is answered before."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # a shell completes a line that is not finished
            return rest
        values, _, parameters = self.make_parser(ctx).parse_args(args=given)
        counts = Counter(parameter.name for parameter in parameters)
        for parameter in self.params:
            name, value = parameter.name, values.get(parameter.name)
            label = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            may_repeat = getattr(parameter, "multiple", False) or getattr(
                parameter, "is_flag", False
            )
            if counts[name] > 1 and parameter.nargs == 1 and not may_repeat:
                raise typer.BadParameter(f"{label} is given {counts[name]} times; give it once")
            texts = value if isinstance(value, (list, tuple)) else [value]
            if "" in texts:
                raise typer.BadParameter(f"{label} is empty; leave it out, or give a value")
        return rest


def _print_versions(wanted: bool) -> None:
    if wanted:
        from .versions import versions

        for line in versions():
            typer.echo(line)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of degrade and of the libraries that it computes with.",
        ),
    ] = False,
) -> None:
    pass


for function in COMMANDS:
    app.command(cls=StrictCommand)(with_options(function))
