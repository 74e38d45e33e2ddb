"""The command line: parse, call the library, print, exit. No logic lives here.

Importing it loads nothing, so that an installation that cannot be loaded still exits 3.
"""

import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privgen.cli.base import app, data_app

__all__ = ["app", "data_app", "main"]


def main() -> None:
    """Entry point of the console script; the exit codes are those of `privgen.cli.exits`."""
    code = 3
    try:
        from privgen.cli.program import run

        code = run()
    except BaseException:  # nothing of privgen can be loaded, so nothing of it can say so
        with suppress(Exception):
            traceback.print_exc()
    sys.exit(code)


def __getattr__(name: str) -> Any:
    if name not in ("app", "data_app"):
        raise AttributeError(f"module 'privgen.cli' has no attribute {name!r}")
    from privgen.cli import commands

    return getattr(commands, name)
