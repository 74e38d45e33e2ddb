"""The command line: parse, call the library, print, exit. No logic lives here."""

import sys

from privgen.cli import benefit, judging, samples, slides, tiles, training
from privgen.cli.base import app, data_app

__all__ = [
    "app",
    "benefit",
    "data_app",
    "judging",
    "main",
    "samples",
    "slides",
    "tiles",
    "training",
]


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="privgen")
    sys.exit(0)
