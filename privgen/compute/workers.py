"""Processes of this machine that work for a parent, and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def shielded() -> Iterator[None]:
    """Processes started within, by this thread, never hear Ctrl-C, not even while they import.

    A Ctrl-C that comes meanwhile reaches the parent at the end: in the middle it would leave a
    process half started, which then complains. Other threads may be the ones that hear it, so a
    blocked signal alone is not enough.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # now: it would let Ctrl-C in again as it starts
    heard: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    main = handler is not None and threading.current_thread() is threading.main_thread()
    if main:
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if heard:
            signal.raise_signal(signal.SIGINT)


def serve_parent() -> None:
    """Set up a worker process: Ctrl-C is its parent's affair, and a killed parent takes it along.

    Without the second, a pool whose parent was killed would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
