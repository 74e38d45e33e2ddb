"""What a command is doing, and how much of it is left.

Work that takes seconds opens a phase. On a terminal every phase under way has a bar, with elapsed
time and, once its speed is known, the time left. Elsewhere, as in a log, a line says the same every
ten seconds. Phases that took long leave a line when they end.

A command is itself a phase, so that the stretches between others are seen to be alive too.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from privgen import console
from privgen.console import BarId, Bars
from privgen.errors import StreamError

SECONDS_BETWEEN_LINES = 10.0
"""Longest silence where there is no terminal."""

_WORTH_A_LINE = 10.0


class Phase:
    """One stretch of work.

    Attributes:
      name: what is done, as people read it.
      done: units finished so far.
      total: units there are; None where nobody knows.
      detail: what else a line says, such as a speed; "" for nothing.
    """

    def __init__(self, name: str, total: int | None = None, done: int = 0) -> None:
        self.name = name
        self.total = total
        self.done: float = done
        self.detail = ""
        self._since = time.monotonic()
        self._first: float = done

    def advance(self, units: float = 1) -> None:
        """Some more units are done."""
        self.reach(self.done + units)

    def reach(self, done: float, *, total: int | None = None) -> None:
        """So many units are done, of a total that may be known better by now."""
        self.done = done
        self.total = self.total if total is None else total
        _BOARD.redraw(self)

    def call(self, name: str) -> None:
        """What is done now is called something else."""
        self.name = name
        _BOARD.redraw(self)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._since

    def line(self) -> str:
        """The phase in one line: how far it is, for how long, and what is left."""
        parts = [self.detail] if self.detail else []
        parts.append(f"{duration(self.elapsed)} so far")
        made = self.done - self._first
        if self.total is not None and made > 0 and self.done < self.total:
            left = (self.total - self.done) * self.elapsed / made
            parts.append(f"about {duration(left)} left")
        counted = "" if self.total is None else f" {self.done:,.0f} of {self.total:,}"
        return f"{self.name}:{counted}{',' if counted else ''} {', '.join(parts)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{round(whole / 60)} min"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if rest >= 60 else f"{hours} h"


@contextmanager
def phase(name: str, total: int | None = None, *, done: int = 0) -> Iterator[Phase]:
    """Work that people should see; phases may lie within each other.

    Args:
      name: what is done.
      total: units there are; None where nobody knows.
      done: units finished before, which say nothing about the speed.
    """
    mine = Phase(name, total, done)
    _BOARD.open(mine)
    try:
        yield mine
    finally:
        _BOARD.close(mine)


class _Board:
    """The phases under way, the innermost last, and the thread or the bars that show them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: list[Phase] = []
        self._bars: Bars | None = None
        self._tasks: dict[Phase, BarId] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, mine: Phase) -> None:
        if not console.speaks():
            return
        with self._lock:
            self._open.append(mine)
            if len(self._open) == 1:
                self._start()
            if self._bars is not None:
                task = self._bars.add_task(console.plain(mine.name), total=mine.total)
                self._tasks[mine] = task
                self.redraw(mine)
                self._hide_uncounted()

    def redraw(self, mine: Phase) -> None:
        with self._lock:
            if self._bars is not None and mine in self._tasks:
                detail = f" ({mine.detail})" if mine.detail else ""
                self._bars.update(
                    self._tasks[mine],
                    completed=mine.done,
                    total=mine.total,
                    description=console.plain(mine.name + detail),
                )

    def close(self, mine: Phase) -> None:
        with self._lock:
            if mine not in self._open:
                return
            self._open.remove(mine)
            if self._bars is not None:
                self._bars.remove_task(self._tasks.pop(mine))
                self._hide_uncounted()
            if not self._open:
                self._stop()
        if self._open and mine.elapsed >= _WORTH_A_LINE:
            console.note(f"{mine.name}: {duration(mine.elapsed)}")

    def _hide_uncounted(self) -> None:
        """Of phases without a total only the innermost is shown: the others say nothing more."""
        assert self._bars is not None
        for each in self._open:
            shown = each.total is not None or each is self._open[-1]
            self._bars.update(self._tasks[each], visible=shown)

    def _start(self) -> None:
        self._bars = console.bars()
        if self._bars is not None:
            self._bars.start()
            return
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(self._over,), daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._over.set()
        self._thread = None

    def _beat(self, over: threading.Event) -> None:
        """A line whenever nothing was said for ten seconds."""
        wait = SECONDS_BETWEEN_LINES
        while not over.wait(wait):
            silent = time.monotonic() - console.said_at()
            if silent >= SECONDS_BETWEEN_LINES:
                with self._lock:
                    line = self._open[-1].line() if self._open else ""
                if line and not over.is_set():
                    # A stream that fails is found by whoever writes there next.
                    with suppress(StreamError):
                        console.note(line)
                silent = 0.0
            wait = SECONDS_BETWEEN_LINES - silent


_BOARD = _Board()
