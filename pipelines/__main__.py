"""The entry point of the `degrade` command, and of `python -m pipelines`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command.

    Ctrl-C ends it with one line and exit code 130, also while modules are still imported. An
    output that cannot be written, such as that of `degrade --help` to a full disk, ends it with
    one line and exit code 1.
    """
    try:
        from .cli import app

        app(prog_name="degrade")
    except KeyboardInterrupt:
        end("interrupted", 130)
    except OSError as error:  # a command handles its own, see `console.user_errors`
        end(f"error: the output cannot be written: {error.strerror}", 1)


def end(message: str, code: int) -> None:
    """Print a line to stderr, and leave at once without writing what stdout still holds."""
    if sys.stderr is not None:
        print(message, file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
