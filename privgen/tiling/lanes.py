"""Carrying out jobs: by processes of this machine, or by Dask workers.

Here a lane is one process that takes one slide after another, so that a crash inside a slide
library costs that slide alone: the lane is started anew. A lane that shows no sign of life for
`SILENT_SECONDS` is ended, and so is one that asks for more than `lane_bytes` of memory; that costs
the slide it had, too. Dask hands a lost worker's slide to another worker; a slide that takes down
one worker after another is given up. Time and memory of Dask's workers are their own settings.

Every job ends in an `Outcome`, in the order in which they end.
"""

import hashlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import cv2

from privgen.compute.workers import serve_parent, shielded
from privgen.errors import Interrupted, PrivgenError, RuntimeFailure, SlideError
from privgen.tiling.job import Job, SlideOutcome, tile_slide

if TYPE_CHECKING:
    from distributed import Client

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

SILENT_SECONDS = 300.0
"""A lane that has read nothing for so long hangs; blocks take seconds on slow disks."""

LANE_BYTES, THREAD_BYTES = 2**32, 2**29
"""Memory of a lane beyond what its start takes, and of each thread that reads and encodes in it."""

Progress = Callable[[float], None]
"""Called with the work done: slides finished, and fractions of those under way."""

_DIED = (
    "took its process down: the slide's library crashed, or memory ran out. Copy or export it "
    "again; other slides are not affected."
)
_HUNG = (
    "was given up: nothing could be read of it for {seconds:.0f} seconds. Copy or export it again, "
    "to a local disk where it lies on a slow one; other slides are not affected."
)
_POLL = 0.5
_STOPPING_SECONDS = 30.0  # of silence, once the run is being stopped

_READ, _PLANNED, _STOP, _BEAT, _PROCESS = range(5)
_shared: Any = None
_parent = 0


def lane_bytes(threads: int) -> int:
    """Memory that a lane of so many threads may ask for, beyond what its start takes."""
    return LANE_BYTES + threads * THREAD_BYTES


def limit_memory(most: int) -> None:
    """Let this process ask for no more than `most` bytes beyond what it has; Linux only.

    What asks for more gets a `MemoryError`, or the process ends, as its library has it.
    """
    try:
        with open("/proc/self/statm") as stream:
            pages = int(stream.read().split()[5])  # data and stack
    except (OSError, ValueError, IndexError):
        return
    limit = pages * os.sysconf("SC_PAGE_SIZE") + most
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _start(shared: Any, parent: int, most: int) -> None:
    """Set up a lane's process."""
    global _shared, _parent
    _shared, _parent = shared, parent
    shared[_PROCESS] = os.getpid()
    shared[_BEAT] += 1
    limit_memory(most)
    serve_parent()
    cv2.setNumThreads(1)  # a job's own threads are as many as there are cores for it


def _tick(read: int, planned: int) -> None:
    _shared[_READ], _shared[_PLANNED] = read, planned
    _shared[_BEAT] += 1  # any change will do: threads may miss one
    if _shared[_STOP] or os.getppid() != _parent:
        raise Interrupted("tiling was stopped. Run the same command again to go on.")


def _work(job: Job) -> SlideOutcome:
    return tile_slide(job, _tick)


def run_here(
    jobs: Sequence[Job],
    workers: int,
    progress: Progress,
    *,
    silent_seconds: float = SILENT_SECONDS,
) -> Iterator[SlideOutcome]:
    """Outcomes of jobs carried out by `workers` processes of this machine.

    Closing the iterator stops the work after the blocks being cut.

    Args:
      jobs: one per slide.
      workers: processes.
      progress: called with the work done.
      silent_seconds: a process that has read nothing for so long is ended.

    Raises:
      PrivgenError: what concerns every slide, such as a full disk; the others are stopped.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    ended: queue.SimpleQueue[SlideOutcome | PrivgenError] = queue.SimpleQueue()
    context = multiprocessing.get_context("spawn")
    # Without a lock: a process that is killed while it holds one would never give it back.
    shares = [context.RawArray("q", 5) for _ in range(min(workers, len(jobs)))]
    most = lane_bytes(max((job.threads for job in jobs), default=1))
    lanes = [
        threading.Thread(
            target=_lane, args=(share, waiting, ended, most, silent_seconds), daemon=True
        )
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


_UNSTARTED = (
    "no process could be started to cut slides in. A script that cuts slides must do so below "
    "`if __name__ == '__main__':`, because each process imports it once more; else there may be "
    "too little memory."
)


@shielded()
def _lane(
    share: Any,
    waiting: "queue.SimpleQueue[Job]",
    ended: "queue.SimpleQueue[SlideOutcome | PrivgenError]",
    most: int,
    silent: float,
) -> None:
    """Give the waiting jobs to one process after another until none is left."""
    context = multiprocessing.get_context("spawn")
    while not share[_STOP]:
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=_start, initargs=(share, os.getpid(), most)
        ) as pool:
            while not share[_STOP]:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                hung = False
                try:
                    future = pool.submit(_work, job)
                    hung = _ended_for_silence(future, share, silent)
                    ended.put(future.result())
                except BrokenProcessPool:
                    if not share[_PROCESS]:
                        ended.put(RuntimeFailure(_UNSTARTED))
                        return
                    rule = _HUNG.format(seconds=silent) if hung else _DIED
                    ended.put(SlideOutcome(slide=job.slide, rule=rule, exit_code=3))
                    share[_PROCESS] = 0
                    break
                except PrivgenError as error:
                    ended.put(error)
                    return
                except Exception as error:  # a defect of ours: told, and no other slide lost
                    ended.put(_defect(job, error))
                finally:
                    share[_READ] = share[_PLANNED] = 0


def _ended_for_silence(future: "Future[SlideOutcome]", share: Any, silent: float) -> bool:
    """Wait for a job; True where its process was ended because it showed no sign of life."""
    seen, since = share[_BEAT], time.monotonic()
    while not wait([future], timeout=_POLL).done:
        now = time.monotonic()
        if share[_BEAT] != seen:
            seen, since = share[_BEAT], now
        allowed = min(silent, _STOPPING_SECONDS) if share[_STOP] else silent
        if now - since > allowed and share[_PROCESS]:
            os.kill(share[_PROCESS], signal.SIGKILL)
            wait([future])
            return True
    return False


def run_on(jobs: Sequence[Job], client: "Client", progress: Progress) -> Iterator[SlideOutcome]:
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
                outcome = SlideOutcome(slide=job.slide, rule=_DIED, exit_code=3)
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


def _apart(job: Job) -> SlideOutcome:
    return tile_slide(job, lambda read, planned: None)


def _defect(job: Job, error: BaseException) -> SlideOutcome:
    rule = f"met an unexpected {type(error).__name__}. This is a defect in privgen."
    return SlideOutcome(slide=job.slide, rule=rule, exit_code=3)
