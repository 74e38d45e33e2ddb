"""Stopping a run from outside: Ctrl-C, SIGTERM, and SIGUSR1 as batch schedulers send it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from privgen import console

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that a signal sets; a second one acts at once.

    Signals reach the main thread only, so a run started from another one goes on until its budget.
    """
    stop = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        console.note("finishing this step and saving a checkpoint; once more to stop at once")
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
