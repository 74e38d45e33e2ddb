"""Carrying out jobs: by processes of this machine, or by Dask workers.

Here a lane is one process that takes one slide after another, so that a crash inside a slide
library costs that slide alone: the lane is started anew. Dask hands a lost worker's slide to
another worker; a slide that takes down one worker after another is given up.

Every job ends in an `Outcome`, in the order in which they end.
"""

import hashlib
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import cv2

from privgen.errors import Interrupted, PrivgenError, RuntimeFailure, SlideError
from privgen.tiling.job import Job, Outcome, tile_slide
from privgen.workers import serve_parent, shielded

if TYPE_CHECKING:
    from distributed import Client

Progress = Callable[[float], None]
"""Called with the work done: slides finished, and fractions of those under way."""

_DIED = (
    "took its process down: the slide's library crashed, or memory ran out. Copy or export it "
    "again; other slides are not affected."
)
_POLL = 0.5

_READ, _PLANNED, _STOP = range(3)
_shared: Any = None
_parent = 0


def _start(shared: Any, parent: int) -> None:
    """Set up a lane's process."""
    global _shared, _parent
    _shared, _parent = shared, parent
    serve_parent()
    cv2.setNumThreads(1)  # a job's own threads are as many as there are cores for it


def _tick(read: int, planned: int) -> None:
    _shared[_READ], _shared[_PLANNED] = read, planned
    if _shared[_STOP] or os.getppid() != _parent:
        raise Interrupted("tiling was stopped. Run the same command again to go on.")


def _work(job: Job) -> Outcome:
    return tile_slide(job, _tick)


def run_here(jobs: Sequence[Job], workers: int, progress: Progress) -> Iterator[Outcome]:
    """Outcomes of jobs carried out by `workers` processes of this machine.

    Closing the iterator stops the work after the blocks being cut.

    Raises:
      PrivgenError: what concerns every slide, such as a full disk; the others are stopped.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    ended: queue.SimpleQueue[Outcome | PrivgenError] = queue.SimpleQueue()
    context = multiprocessing.get_context("spawn")
    # Without a lock: a process that is killed while it holds one would never give it back.
    shares = [context.RawArray("q", 3) for _ in range(min(workers, len(jobs)))]
    lanes = [
        threading.Thread(target=_lane, args=(share, waiting, ended), daemon=True)
        for share in shares
    ]
    try:
        for lane in lanes:
            lane.start()
        done = 0
        while done < len(jobs):
            progress(done + sum(share[_READ] / max(share[_PLANNED], 1) for share in shares))
            try:
                outcome = ended.get(timeout=_POLL)
            except queue.Empty:
                if not any(lane.is_alive() for lane in lanes) and ended.empty():
                    raise RuntimeFailure(
                        "no process could be started to cut slides in: too many files or too "
                        "little memory. Close some, and run the same command again to go on."
                    ) from None
                continue
            if isinstance(outcome, PrivgenError):
                raise outcome
            done += 1
            yield outcome
        progress(done)
    finally:
        for share in shares:
            share[_STOP] = 1
        for lane in lanes:
            lane.join()


@shielded()
def _lane(
    share: Any,
    waiting: "queue.SimpleQueue[Job]",
    ended: "queue.SimpleQueue[Outcome | PrivgenError]",
) -> None:
    """Give the waiting jobs to one process after another until none is left."""
    context = multiprocessing.get_context("spawn")
    while not share[_STOP]:
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=_start, initargs=(share, os.getpid())
        ) as pool:
            while not share[_STOP]:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    ended.put(pool.submit(_work, job).result())
                except BrokenProcessPool:
                    ended.put(Outcome(slide=job.slide, rule=_DIED, exit_code=3))
                    break
                except PrivgenError as error:
                    ended.put(error)
                    return
                except Exception as error:  # a defect of ours: told, and no other slide lost
                    ended.put(_defect(job, error))
                finally:
                    share[_READ] = share[_PLANNED] = 0


def run_on(jobs: Sequence[Job], client: "Client", progress: Progress) -> Iterator[Outcome]:
    """Outcomes of jobs carried out by Dask workers, which see the same folders.

    Raises:
      PrivgenError: what concerns every slide, such as a full disk; the others are stopped.
    """
    from distributed import as_completed

    futures = {client.submit(_apart, job, key=_key(job), pure=False): job for job in jobs}
    try:
        for done, future in enumerate(as_completed(futures, loop=client.loop), 1):
            job, error = futures[future], future.exception()
            if error is None:
                outcome = future.result()
            elif isinstance(error, CancelledError) or "Cancelled" in type(error).__name__:
                raise RuntimeFailure(
                    "the connection to the Dask scheduler was lost, or somebody cancelled the "
                    "work. Run the same command again to go on."
                )
            elif type(error).__name__ == "KilledWorker":
                outcome = Outcome(slide=job.slide, rule=_DIED, exit_code=3)
            elif isinstance(error, PrivgenError):
                raise error
            else:
                outcome = _defect(job, error)
            progress(done)
            yield outcome
    finally:
        client.cancel(list(futures), force=True)


def _key(job: Job) -> str:
    """The same for the same work, so that a run that was stopped takes over what still runs."""
    try:
        decided = job.decided_by()
    except SlideError:  # the worker will say so
        decided = ""
    digest = hashlib.sha256(f"{job.out}\0{decided}".encode(errors="surrogateescape"))
    return f"tile-{job.slide}-{digest.hexdigest()[:16]}"


def _apart(job: Job) -> Outcome:
    return tile_slide(job, lambda read, planned: None)


def _defect(job: Job, error: BaseException) -> Outcome:
    rule = f"met an unexpected {type(error).__name__}. This is a defect in privgen."
    return Outcome(slide=job.slide, rule=rule, exit_code=3)
