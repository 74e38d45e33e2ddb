"""Pieces of work that need nothing of each other: by processes of this machine, or by Dask workers.

A piece is a function of what all share and of the piece alone, and leaves its result in a file. So
neither the number of processes nor their order changes a figure, and a run that was stopped does
what is left. Dask workers must see the same folders under the same paths.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from privgen.compute.dask import connect
from privgen.compute.workers import serve_parent, shielded
from privgen.errors import PrivgenError, RuntimeFailure

Shared = TypeVar("Shared")
Piece = TypeVar("Piece")

_POLL = 0.2
_stop: Any = None
_at_work = threading.Event()


def stopped() -> bool:
    """Whether this process belongs to a pool that was told to end."""
    return _stop is not None and bool(_stop.is_set())


def carry_out(
    work: Callable[[Shared, Piece], None],
    shared: Shared,
    pieces: Sequence[Piece],
    *,
    jobs: int,
    interrupt: bool = False,
) -> Generator[Piece]:
    """Do every piece in `jobs` processes; yields each when it is done, in any order.

    Args:
      work: importable; called with `shared` and a piece.
      shared: what all pieces need; sent to the processes.
      pieces: what is to be done.
      jobs: processes; with 1 the work is done in this one.
      interrupt: whether work that is under way is to be told by SIGTERM when this ends early; else
        it has to look at `stopped`.

    Raises:
      RuntimeFailure: a process died.
    """
    if jobs == 1 or len(pieces) < 2:
        for piece in pieces:
            work(shared, piece)
            yield piece
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(
        min(jobs, len(pieces)), context, initializer=_start, initargs=(stop, interrupt)
    ) as pool:
        waiting: dict[Future[None], Piece] = {}
        try:
            with shielded():
                waiting |= {pool.submit(_do, work, shared, piece): piece for piece in pieces}
            while waiting:
                done, _ = wait(waiting, timeout=_POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    piece = waiting.pop(future)
                    try:
                        future.result()
                    except BrokenProcessPool as error:
                        raise RuntimeFailure(
                            "a training's process died, or memory ran out. Run the same command "
                            "again to go on, with fewer `jobs`."
                        ) from error
                    yield piece
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _start(stop: Any, interrupt: bool) -> None:
    global _stop
    _stop = stop
    serve_parent()
    # What a worker would say, its parent says once for all of them.
    logging.getLogger("privgen").addHandler(logging.NullHandler())
    if interrupt:
        threading.Thread(target=_pass_on, args=(stop,), daemon=True).start()


def _do(work: Callable[[Shared, Piece], None], shared: Shared, piece: Piece) -> None:
    _at_work.set()
    try:
        work(shared, piece)
    finally:
        _at_work.clear()


def _pass_on(stop: Any) -> None:
    """Tell the work under way to save what it has and end.

    An idle process ends by itself; one that a signal kills would take the whole pool along.
    """
    stop.wait()
    if _at_work.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def carry_out_on_dask(
    work: Callable[[Shared, Piece], None],
    shared: Shared,
    pieces: Sequence[Piece],
    *,
    scheduler: str,
    folder: Path,
    called: Callable[[Piece], str],
) -> Generator[Piece]:
    """The same by the workers of a Dask scheduler.

    Args:
      work, shared, pieces: as `carry_out`.
      scheduler: its address.
      folder: that workers must see.
      called: a piece in an error.

    Raises:
      ConfigError: as `compute.dask.connect`.
      RuntimeFailure: a worker could not do a piece.
    """
    from distributed import as_completed

    with connect(scheduler) as client:
        futures = {client.submit(work, shared, piece, pure=False): piece for piece in pieces}
        try:
            for future in as_completed(futures, loop=client.loop):
                error = future.exception()
                if isinstance(error, PrivgenError):
                    raise error
                if error is not None:
                    raise RuntimeFailure(
                        f"a Dask worker could not do {called(futures[future])} "
                        f"({type(error).__name__}). Workers must see {folder} under the same path "
                        "and have memory for a training; run the same command again to go on."
                    ) from error
                yield futures[future]
        finally:
            client.cancel(list(futures), force=True)
