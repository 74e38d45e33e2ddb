"""What a door is, the inputs made for it, and what may come of one.

A door is a function of the product that opens a file from outside. Right outcomes are two: the file
opens, or one of the product's own errors refuses it with the exit code that is documented, in a
message that fits a screen. Whatever else comes of an input is a finding of a kind in `KINDS`.
"""

import io
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audits import AuditInputError
from benchmarks.fuzz import by_bytes
from privgen.cli.exits import exit_code
from privgen.console import plain
from privgen.errors import PrivgenError

KINDS = ("foreign", "exit code", "message", "memory", "time", "crash")
"""An exception of another library; a code that is not documented; a message that is too long, of
several lines, or steers the terminal; over `MOST_BYTES`; over `MOST_SECONDS`; the process died."""

MOST_BYTES = 2**30
MOST_SECONDS = 20.0
MOST_CHARACTERS = 4096

Shape = Callable[[random.Random, bytes], bytes]
"""Makes another file of a valid one, by its structure: checksums and lengths stay right."""

_ASKED = re.compile(
    r"(not|n't|unable to|failed to) allocate|bad_alloc|(out of|not enough|insufficient) memory",
    re.IGNORECASE,
)
_PARSER = "s_push: parser stack overflow"  # Python's words for nesting; it asks for nothing


@dataclass(frozen=True, kw_only=True)
class Door:
    """One way in.

    Attributes:
      name: in tables.
      file: what the input is called on disk.
      seeds: makes valid files, the same ones every time; is given an empty folder.
      open: opens the file at a path.
      shapes: ways to change a valid file by its structure.
      beside: writes what has to lie beside the file into its folder.
      codes: exit codes that are right.
      guarded: opened in batches by the product's own guard, which `open` is not.
    """

    name: str
    file: str
    seeds: Callable[[Path], Sequence[bytes]]
    open: Callable[[Path], object]
    shapes: Sequence[Shape] = ()
    beside: Callable[[Path], None] = lambda folder: None
    codes: frozenset[int] = frozenset({0, 2})
    guarded: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of one input.

    Attributes:
      opened: it was read as a valid file.
      kind: of the finding; "" where the outcome is right.
      said: of the finding, or the refusal.
      seconds: until it was known.
    """

    opened: bool
    kind: str = ""
    said: str = ""
    seconds: float = 0.0


class Inputs:
    """The inputs of a door: number 0 and so on, each a function of the seed and its number.

    Args:
      door: whose.
      folder: empty; becomes the place where the file lies.
      seed: of every draw.
    """

    def __init__(self, door: Door, folder: Path, seed: int = 0) -> None:
        self.door, self._seed = door, seed
        made = folder / "seeds"
        made.mkdir(parents=True)
        self.seeds = [bytes(one) for one in door.seeds(made)]
        self.place = folder / "place"
        self.place.mkdir()
        door.beside(self.place)

    def __getitem__(self, number: int) -> bytes:
        if number < len(self.seeds):
            return self.seeds[number]
        draw = random.Random(f"{self._seed}/{self.door.name}/{number}")
        return self.changed(draw, draw.choice(self.seeds))

    def changed(self, draw: random.Random, data: bytes) -> bytes:
        """Another file: changed by structure, by bytes, or by one after the other."""
        way = draw.random()
        if self.door.shapes and way < 0.65:
            try:
                data = draw.choice(self.door.shapes)(draw, data)
            except Exception:  # it was no valid file any more
                way = 1.0
        if not self.door.shapes or way > 0.5:
            data = by_bytes.changed(draw, data, self.seeds)
        return data

    def judged(self, data: bytes) -> Found:
        """Open an input in this process, as the command line would, and judge what comes of it."""
        path = self.place / self.door.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        raised: list[BaseException] = []

        def work() -> int:
            try:
                self.door.open(path)
            except BaseException as error:
                raised.append(error)
                raise
            return 0

        start = time.perf_counter()
        with _aside() as told:
            code = exit_code(work)
        seconds = time.perf_counter() - start
        error = raised[0] if raised else None
        kind, said = _judged(self.door, code, error, told.getvalue())
        if not kind and seconds > MOST_SECONDS:
            kind, said = "time", f"{seconds:.0f} s"
        return Found(opened=error is None, kind=kind, said=said, seconds=seconds)


def _judged(door: Door, code: int, error: BaseException | None, told: str) -> tuple[str, str]:
    if error is None:
        return ("", "") if code == 0 else ("exit code", f"{code}: {told.strip()[:300]}")
    line = f"{type(error).__name__}: {str(error)[:300]}"
    if wanted := _memory(error):
        return "memory", wanted
    if not isinstance(error, PrivgenError | AuditInputError):
        return "foreign", line
    if code not in door.codes or code == 0:
        return "exit code", f"{code}: {line}"
    *warnings, last = told.removesuffix("\n").split("\n")
    one_line = last.startswith("error: ") and all(one.startswith("warning: ") for one in warnings)
    steers = any(plain(one) != one for one in (*warnings, last))
    if len(told) > MOST_CHARACTERS or not one_line or steers:
        return "message", line
    return "", line


def _memory(error: BaseException | None) -> str:
    """What asked for more memory than there is, anywhere behind an error; "" where nothing did."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        text = str(error)
        if isinstance(error, MemoryError) and _PARSER not in text:
            return f"MemoryError: {text[:200]}"
        if _ASKED.search(text) and not isinstance(error, PrivgenError):
            return f"{type(error).__name__}: {text[:200]}"
        seen.append(error)
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def _aside() -> Iterator[io.StringIO]:
    """What is told on stderr meanwhile."""
    told = io.StringIO()
    before, sys.stderr = sys.stderr, told
    try:
        yield told
    finally:
        sys.stderr = before
