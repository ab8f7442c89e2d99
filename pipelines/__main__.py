"""The entry point of the `degrade` command, and of `python -m pipelines`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # not from typing, whose import an early Ctrl-C could interrupt
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command.

    Ctrl-C ends it with one line and exit code 130, also while modules are still imported. Output
    that cannot be written, for example to a full disk, is one line and exit code 1.
    """
    code = 0
    try:
        from .cli import app

        app(prog_name="degrade")
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except SystemExit as end:
        if isinstance(end.code, str):
            _end(end.code, 1)
        code = end.code or 0
    except OSError as error:  # inside of a command, `user_errors` handles it
        _end(f"error: the output cannot be written: {error.strerror}", 1)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # nobody reads the output any more, as with `| head`
        _end("", code)
    except OSError as error:
        _end(f"error: the output cannot be written: {error.strerror}", code or 1)
    sys.exit(code)


def _end(message: str, code: int) -> NoReturn:
    """Print a line to stderr, and leave without writing what stdout still holds."""
    if message and sys.stderr is not None:
        print(message, file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
