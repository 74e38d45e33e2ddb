"""The console script: from `sys.argv` to an exit code."""

import os
import sys

from privgen.cli.commands import app
from privgen.cli.exits import exit_code, hush_libraries, settled
from privgen.errors import StreamError


def run() -> int:
    """The command that `sys.argv` names, from start to end.

    Returns:
      Its exit code; 3 also where stdout or stderr is closed or cannot take all that was written.
    """
    hush_libraries()
    if any(name.startswith("_PRIVGEN_COMPLETE") for name in os.environ):
        return _completed()
    return settled(exit_code(_command))


def _completed() -> int:
    """Tell a shell which words fit; no command runs, so no code means a verdict."""
    try:
        app(prog_name="privgen")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _command() -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            raise StreamError(f"{name} is closed: results could not be read. Leave it open.")
    # Not standalone: that way ends in exit codes of its own, a broken pipe and a prompt in 1.
    ended: int = app(prog_name="privgen", standalone_mode=False)
    return ended
