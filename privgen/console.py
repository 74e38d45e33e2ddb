"""The only place that prints: people read stderr, programs read JSON on stdout.

A command shows notes, warnings and progress on the terminal (`on_terminal`). In a library call they
go to the logger `privgen`, where the caller decides: notes and progress are INFO, warnings WARNING.

Names come from files, and files from strangers. Whatever is printed is text and never markup, and
what would steer a terminal, begin a new line or turn the reading direction is written as an escape.

Every function here raises StreamError where its stream cannot be written.
"""

import json
import logging
import os
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
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


Bars: TypeAlias = Progress
BarId: TypeAlias = TaskID

_stderr = _Screen(stderr=True, highlight=False, soft_wrap=True)
_last = time.monotonic()
_spell: Callable[[str], str] = str
_shown = False
_LOG = logging.getLogger("privgen")

_MOST = 2000
"""Most characters of an error or a warning; a path may have so many."""

_ESCAPED = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str) -> str:
    """The text with escapes for control characters, line ends and marks of reading direction."""
    return "".join(
        ascii(mark)[1:-1] if unicodedata.category(mark) in _ESCAPED or mark in _DIRECTIONS else mark
        for mark in text
    )


@contextmanager
def on_terminal() -> Iterator[None]:
    """While this lasts, notes, warnings and progress are shown to a person at a terminal."""
    global _shown
    before, _shown = _shown, True
    try:
        yield
    finally:
        _shown = before


@contextmanager
def said_as(spell: Callable[[str], str]) -> Iterator[None]:
    """While this lasts, what is said goes through `spell` first: parameters shown as flags."""
    global _spell
    before, _spell = _spell, spell
    try:
        yield
    finally:
        _spell = before


def said_at() -> float:
    """When the last line was printed, on the clock of `time.monotonic`; import counts as one."""
    return _last


def speaks() -> bool:
    """Whether this process prints: of several that `torchrun` started, the first."""
    return _rank() == 0


@contextmanager
def _writing(stream: str) -> Iterator[None]:
    global _last
    try:
        yield
        _last = time.monotonic()
    except OSError as error:
        raise StreamError(f"{stream} cannot be written: {error.strerror or error}.") from error


def _rank() -> int:
    """Number of this process among those that `torchrun` started; the first alone speaks."""
    return int(os.environ.get("RANK", "0"))


def note(message: str) -> None:
    """One plain line of what is done."""
    if not _shown:
        _LOG.info("%s", plain(message))
    elif _rank() == 0:
        _say(message)


def warn(message: str) -> None:
    """A line that should be read; never stops the work."""
    if not _shown:
        _LOG.warning("%s", plain(_fitting(message)))
    elif _rank() == 0:
        _say(f"warning: {_fitting(message)}", style="yellow")


def fail(message: str) -> None:
    """The one line an error prints; other processes than the first say which they are."""
    where = f"process {_rank()}: " if _rank() else ""
    _say(f"{where}error: {_fitting(message)}", style="bold red")


def trace(error: BaseException) -> None:
    """Where an error was raised, for whoever mends it."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        _say(line)


def _fitting(message: str) -> str:
    """A message that fits a screen: what a file holds may be long, and rule and way out stay."""
    if len(message) <= _MOST:
        return message
    return f"{message[: _MOST // 2]} ... {message[-_MOST // 4 :]}"


def _say(message: str, style: str = "") -> None:
    with _writing("stderr"):
        _stderr.print(Text(plain(_spell(message)), style=style))


def item(message: str) -> None:
    """One entry of a list, wrapped between words: for long sentences."""
    if _rank() == 0:
        grid = Table.grid(padding=(0, 1))
        grid.add_row("  -", Text(plain(_spell(message))))
        with _writing("stderr"):
            _stderr.print(grid, soft_wrap=False)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], prose: Collection[str] = ()
) -> None:
    """A table for people; numbers arrive as finished text, lines of a cell apart by line ends.

    Columns of prose stand flush left.
    """
    if _rank():
        return
    drawn = Table(
        title=Text(plain(title), style="table.title"), title_justify="left", header_style="bold"
    )
    for position, column in enumerate(columns):
        left = position == 0 or column in prose
        drawn.add_column(Text(plain(column)), justify="left" if left else "right")
    for row in rows:
        drawn.add_row(*(Text("\n".join(map(plain, cell.split("\n")))) for cell in row))
    with _writing("stderr"):
        _stderr.print(drawn)


class _Counted(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        """Nothing where nobody knows how many there are."""
        return super().render(task) if task.total is not None else Text()


def bars() -> Bars | None:
    """Bars of phases under way, for `phases`; None where nobody watches."""
    if not (_shown and _stderr.is_terminal):
        return None
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Counted(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,  # what goes to stdout is for programs
    )


def emit(text: str) -> None:
    """One line on stdout, for whoever asked for just that."""
    with _writing("stdout"):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def emit_json(value: Any) -> None:
    """One JSON document on stdout: the machine-readable result of a command."""
    if _rank():
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with _writing("stdout"):
        sys.stdout.write(text)
        sys.stdout.flush()
