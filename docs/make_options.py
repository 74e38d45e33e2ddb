"""Writes reference/options.md: what every command answers to `--help`."""

import os
from pathlib import Path

os.environ |= {"COLUMNS": "96", "TERMINAL_WIDTH": "96"}

from typer.testing import CliRunner

from privgen.cli import app

PAGE = Path(__file__).parent / "reference" / "options.md"
COMMANDS = (
    *("demo", "tile", "train", "sample", "audit", "audit-recipe", "augment-bench", "export"),
    *("data check", "data select", "data phantom", "doctor"),
)
HEAD = """# Options of every command

What each command answers to `--help`. In Python the same options are parameters of the same names,
with underscores: `--on-bad-tile skip` is `on_bad_tile="skip"`. This page is written by
`python docs/make_options.py`, and a test holds it to the code.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "96"})
        assert result.exit_code == 0, result.output
        parts.append(f"## privgen {command}\n\n```text\n{result.stdout.strip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
