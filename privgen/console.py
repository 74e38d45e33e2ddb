"""The only place that prints: people read stderr, programs read JSON on stdout.

Every function here raises StreamError where its stream cannot be written.
"""

import json
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from privgen.errors import StreamError


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error being handled like any other: rich would exit with 1, which is LEAK."""
        raise


_stderr = _Screen(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def _writing(stream: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StreamError(f"{stream} cannot be written: {error.strerror or error}.") from error


def _rank() -> int:
    """Number of this process among those that `torchrun` started; the first alone speaks."""
    return int(os.environ.get("RANK", "0"))


def note(message: str) -> None:
    """One plain line for the person at the terminal."""
    if _rank() == 0:
        _say(message)


def warn(message: str) -> None:
    """A line that should be read; never stops the work."""
    if _rank() == 0:
        _say(f"warning: {message}", style="yellow")


def fail(message: str) -> None:
    """The one line an error prints; other processes than the first say which they are."""
    where = f"process {_rank()}: " if _rank() else ""
    _say(f"{where}error: {message}", style="bold red")


def trace(error: BaseException) -> None:
    """Where an error was raised, for whoever mends it."""
    _say("".join(traceback.format_exception(error)))


def _say(message: str, style: str | None = None) -> None:
    with _writing("stderr"):
        _stderr.print(message, style=style, markup=False)


def item(message: str) -> None:
    """One entry of a list, wrapped between words: for long sentences."""
    if _rank() == 0:
        grid = Table.grid(padding=(0, 1))
        grid.add_row("  -", Text(message))
        with _writing("stderr"):
            _stderr.print(grid, soft_wrap=False)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], prose: Collection[str] = ()
) -> None:
    """A table for people; numbers arrive as finished text. Columns of prose stand flush left."""
    if _rank():
        return
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        left = position == 0 or column in prose
        drawn.add_column(column, justify="left" if left else "right")
    for row in rows:
        drawn.add_row(*row)
    with _writing("stderr"):
        _stderr.print(drawn)


def progress() -> Progress:
    """A progress bar on stderr with elapsed time and ETA; use as a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        disable=not _stderr.is_terminal,
    )


def emit_json(value: Any) -> None:
    """One JSON document on stdout: the machine-readable result of a command."""
    if _rank():
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with _writing("stdout"):
        sys.stdout.write(text)
        sys.stdout.flush()
