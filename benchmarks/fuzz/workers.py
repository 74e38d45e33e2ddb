"""Processes that open inputs, each in turn; one that dies or hangs is the finding of its input.

A process takes part after part, tells of every input as it ends, and is started anew when it is
gone. It may ask for `MOST_BYTES` beyond what its imports and the valid files took (the product's
own `limit_memory`), and its peak is counted above that.
"""

import contextlib
import multiprocessing
import os
import queue
import resource
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fuzz.door import MOST_BYTES, MOST_SECONDS, Door, Found, Inputs
from privgen.cli.exits import hush_libraries

MARGIN_SECONDS = 100.0
"""Beyond the limit of an input, for making it, and for processes to start on a busy machine."""

START_SECONDS = 300.0
"""For the imports and the valid files."""

DOORS = "benchmarks.fuzz.all_doors"
"""Module with the doors, under the name DOORS."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Inputs that one process opens in a row.

    Attributes:
      door: its name.
      first, count: numbers of the inputs.
      seed: of the draws.
    """

    door: str
    first: int
    count: int
    seed: int = 0

    @property
    def cell(self) -> str:
        """Its name among what is kept."""
        return f"{self.door}/{self.first}+{self.count}"


@dataclass
class Tally:
    """What came of a part.

    Attributes:
      inputs, opened, refused: how many.
      lost: slides that ended their process, or had it ended: the guard's business.
      findings: of each its door, number, kind and what was said.
      peak: most memory above the imports', bytes.
      slowest: most seconds of one input.
    """

    inputs: int = 0
    opened: int = 0
    refused: int = 0
    lost: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    peak: int = 0
    slowest: float = 0.0

    def add(self, part: Part, number: int, found: Found, peak: int, lost: bool = False) -> None:
        """Count one input."""
        self.inputs += 1
        self.peak, self.slowest = max(self.peak, peak), max(self.slowest, found.seconds)
        if found.kind:
            self.findings.append(
                {"door": part.door, "number": number, "kind": found.kind, "said": found.said}
            )
        elif lost:
            self.lost += 1
        elif found.opened:
            self.opened += 1
        else:
            self.refused += 1


def run(
    parts: Sequence[Part], processes: int, done: Callable[[Part, Tally], None], doors: str = DOORS
) -> None:
    """Open all inputs of the parts.

    Args:
      parts: in the order in which they are begun.
      processes: how many work at once.
      done: called in this thread with every part that is done.
      doors: module that holds the doors.
    """
    waiting: queue.SimpleQueue[Part] = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)
    ended: queue.SimpleQueue[tuple[Part, Tally] | BaseException] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_attend, args=(waiting, ended, doors), daemon=True)
        for _ in range(min(processes, len(parts)))
    ]
    for thread in threads:
        thread.start()
    for _ in parts:
        result = ended.get()
        if isinstance(result, BaseException):
            raise result
        done(*result)


def _attend(waiting: Any, ended: Any, doors: str) -> None:
    worker = _Worker(doors)
    try:
        while True:
            try:
                part = waiting.get_nowait()
            except queue.Empty:
                return
            ended.put((part, worker.opened(part)))
    except BaseException as error:
        ended.put(error)
    finally:
        worker.end()


@dataclass(frozen=True)
class _Failed:
    said: str


class _Worker:
    """One process at a time; another one after it is gone."""

    def __init__(self, doors: str) -> None:
        self._doors = doors
        self._process: Any = None
        self._line: Connection | None = None

    def opened(self, part: Part) -> Tally:
        """Have all inputs of a part opened, whatever that costs in processes."""
        tally = Tally()
        left = list(range(part.first, part.first + part.count))
        while left:
            line = self._started()
            line.send((part, left))
            while left:
                since = time.monotonic()
                told = self._told(line, MOST_SECONDS + MARGIN_SECONDS)
                if isinstance(told, _Failed):
                    raise RuntimeError(f"the benchmark itself failed: {told.said}")
                if told in ("gone", "silent"):
                    kind = "crash" if told == "gone" else "time"
                    said = f"after {time.monotonic() - since:.0f} s; exit code {self.end()}"
                    tally.add(part, left.pop(0), Found(opened=False, kind=kind, said=said), 0)
                    break
                number, found, peak, lost = told
                if not found.kind and peak > MOST_BYTES:
                    found = Found(
                        opened=found.opened, kind="memory", said=f"{peak / 2**20:.0f} MiB"
                    )
                tally.add(part, number, found, peak, lost)
                left.remove(number)
                if found.kind == "memory":
                    self.end()
                    break
        return tally

    def _started(self) -> Connection:
        if self._line is None:
            context = multiprocessing.get_context("spawn")
            self._line, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._doors))
            self._process.start()
            theirs.close()
            if self._told(self._line, START_SECONDS) != "ready":
                self.end()
                raise RuntimeError("a process for the inputs could not be started")
        return self._line

    @staticmethod
    def _told(line: Connection, seconds: float) -> Any:
        try:
            return line.recv() if line.poll(seconds) else "silent"
        except (EOFError, OSError):
            return "gone"

    def end(self) -> int | None:
        """End the process; its exit code."""
        if self._process is None:
            return None
        if self._line is not None:
            self._line.close()
        self._process.join(0.5)
        self._process.kill()
        self._process.join()
        code: int | None = self._process.exitcode
        self._process = self._line = None
        return code


def _serve(line: Connection, module: str) -> None:
    """What a process does: wait for a part, open its inputs, tell of each."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # libraries of C write there
    hush_libraries()
    doors: Mapping[str, Door] = import_module(module).DOORS
    place = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        ready: dict[tuple[str, int], Inputs] = {}
        line.send("ready")
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                part, numbers = line.recv()
                key = part.door, part.seed
                if key not in ready:
                    ready.clear()
                    folder = place / f"{len(list(place.iterdir()))}"
                    ready[key] = Inputs(doors[part.door], folder, part.seed)
                    if not ready[key].door.guarded:
                        for data in ready[key].seeds:
                            ready[key].judged(data)
                    memory = _Memory()
                for told in _each(ready[key], numbers, place, memory):
                    line.send(told)
    except Exception:
        line.send(_Failed(traceback.format_exc()))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _each(
    inputs: Inputs, numbers: Sequence[int], place: Path, memory: "_Memory"
) -> Iterator[tuple[int, Found, int, bool]]:
    if inputs.door.guarded:
        from benchmarks.fuzz import slides

        made = [(number, inputs[number]) for number in numbers]
        since = time.perf_counter()
        for number, found in slides.cut(made, place, inputs.door.file):
            now = time.perf_counter()
            found = Found(
                opened=found.opened, kind=found.kind, said=found.said, seconds=now - since
            )
            since = now
            yield number, found, 0, slides.guarded(found)
        return
    for number in numbers:
        found = inputs.judged(inputs[number])
        yield number, found, memory.peak(), False


class _Memory:
    """Of this process, counted from now on and limited from now on."""

    def __init__(self) -> None:
        from privgen.tiling.lanes import limit_memory

        with contextlib.suppress(OSError):  # else the peak of this process's whole life counts
            Path("/proc/self/clear_refs").write_text("5")
        self._base = self._highest()
        limit_memory(MOST_BYTES)

    def peak(self) -> int:
        """Most bytes since then, above what there was."""
        return max(0, self._highest() - self._base)

    @staticmethod
    def _highest() -> int:
        try:
            with open("/proc/self/status") as stream:
                return next(int(line.split()[1]) for line in stream if line[:6] == "VmHWM:") * 1024
        except (OSError, StopIteration):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
