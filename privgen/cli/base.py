"""What every command shares: the application, its options, and how results become exit codes."""

import functools
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from privgen import console
from privgen.choices import (
    GROUP_BY_HELP,
    ICC_HELP,
    ON_BAD_TILE_HELP,
    Icc,
    OnBadTile,
)
from privgen.cli.exits import exit_code
from privgen.data.patterns import is_pattern
from privgen.errors import InputError
from privgen.phases import phase

P = ParamSpec("P")

ORDER = (
    *("demo", "tile", "train", "sample", "audit", "audit-recipe", "augment-bench", "export"),
    *("data", "doctor"),
)
"""Commands as `--help` lists them: in the order of use."""


HELP = {"help_option_names": ["-h", "--help"]}


class _InOrder(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="privgen",
    cls=_InOrder,
    help="Train class-conditional histology generators, and audit synthetic tiles for leaks of the "
    "patients behind them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Look at tile sets, and make procedural ones.", no_args_is_help=True, context_settings=HELP
)
app.add_typer(data_app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        console.emit(version("privgen"))
        raise typer.Exit


@app.callback()
def _top(
    show: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


def reported(command: Callable[P, int]) -> Callable[P, None]:
    """Turn a command's result or error into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        def work() -> int:
            with phase("working"):
                return command(*args, **kwargs)

        raise typer.Exit(exit_code(work))

    return run


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0)]
BadTile = Annotated[OnBadTile, typer.Option(help=ON_BAD_TILE_HELP)]
ColourProfiles = Annotated[
    Icc,
    typer.Option(help=ICC_HELP),
]
GroupBy = Annotated[
    str | None,
    typer.Option(help=GROUP_BY_HELP),
]


def require_paths(*given: Path | None) -> None:
    """Refuse a path where nothing is, before the seconds that loading torch takes.

    Raises:
      InputError: as the work itself would say it.
    """
    for path in given:
        if path is not None and not os.path.lexists(path) and not is_pattern(path):
            raise InputError(f"there is nothing at {path}. Check the path.")


def finish_audit(document: Mapping[str, Any], outcome: Any, out: Path | None, json: bool) -> int:
    from privgen.reporting.terminal import print_summary

    print_summary(document["audit"], document["weaker_than_default"])
    if out is not None:
        console.note(f"report: {out / 'report.html'}")
    elif not json:
        console.note("no report written: give --out FOLDER for report.html and report.json.")
    if json:
        console.emit_json(document)
    return int(outcome.exit_code)
