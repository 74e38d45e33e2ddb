"""Doors that fail in each of the ways the benchmark has to notice."""

import os
import signal
import time
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.fuzz.door import Door
from privgen.errors import InputError, LayoutError, RuntimeFailure


def _opens(path: Path) -> None:
    what = path.read_bytes()[:1]
    if what == b"1":
        raise LayoutError("a rule: got something. Do this.")
    if what == b"2":
        raise KeyError("labels")
    if what == b"3":
        raise RuntimeFailure("the work failed, which is the wrong code for a file.")
    if what == b"4":
        raise InputError("x" * 5000)
    if what == b"5":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == b"6":
        np.ones(2**31, dtype=np.uint8)
    if what == b"7":
        _refuses(3 * 2**30)
    if what == b"8":
        raise SystemExit(0)
    if what == b"9":
        time.sleep(60)


def _refuses(count: int) -> None:
    """A refusal that hides that memory was asked for first."""
    try:
        bytearray(count)
    except MemoryError as error:
        raise LayoutError("a rule: got something. Do this.") from error


def _faults(draw: Random, data: bytes) -> bytes:
    return b"%d" % draw.randrange(10)


DOORS = {
    "faulty": Door(
        name="faulty", file="x", seeds=lambda folder: [b"0"], open=_opens, shapes=(_faults,)
    )
}
