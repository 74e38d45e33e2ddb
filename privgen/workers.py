"""Processes of this machine that work for a parent, and end when it does."""

import multiprocessing
import os
import signal
import threading


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
