"""`degrade studio`."""

from __future__ import annotations

from typing import Annotated

from ..console import load, user_errors
from ..options import Plugin, running


def studio(
    op: Annotated[str, running(help="Chain with which the page begins.", metavar="SPEC")] = "",
    host: Annotated[
        str,
        running(help="Address to listen at; 0.0.0.0 lets other machines in.", metavar="ADDRESS"),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        running(help="Port. Default: a free one from 7860.", min=1, max=65535, metavar="N"),
    ] = None,
    browser: Annotated[bool, running("--browser", help="Open the page in your browser.")] = False,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Open a page to degrade and restore pictures by hand.

    Build a chain from cards, see what it does, copy it as a command, and
    watch restorations. The page works offline, and only on this machine unless
    --host says otherwise. Needs pip install 'degrade[studio]'. Ctrl-C ends it.

    \b
    degrade studio
    degrade studio --browser --port 8000
    degrade studio --op "downsample:2 >> jpeg:18"
    """
    with user_errors():
        from ..studio.cards import cards_of
        from ..studio.server import serve

        load(plugin)
        if op:
            cards_of(op)  # a wrong chain is an error before the page opens
        serve(host, port, browser, op)
