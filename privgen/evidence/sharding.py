"""Exact searches dealt to Dask workers: the same bits as from one process.

`nearest` cuts the base into shards of rows and merges the neighbours found in each by (distance,
row); a distance does not depend on the shard it was computed in. `search` cuts the queries into
blocks, since each tile is searched for itself, and every worker has the whole base.

A worker may be lost at any time. The base stays in this process, and a block of queries with the
scheduler until its result is here: others take over the blocks of a lost worker, and where pieces
of the base were lost with it, they are sent once more. A worker has as many blocks at once as it
has threads; searches use all cores themselves, so one thread a worker is best.

Workers must run the same version of privgen, with the same libraries on the same kind of processor
where the bits matter. What they are sent is as private as the tiles: embeddings, key points and
small density pictures. Keep them inside the house; on networks shared with others use `tls://`.
`distributed` is optional (`privgen[dask]`) and loaded when it is first used.

Source: METHODS.md 0, 1.3.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from audits import neighbors
from audits.errors import AuditInputError
from audits.neighbors import Neighbors
from privgen.errors import ConfigError, InputError, RuntimeFailure
from privgen.evidence import fingerprints
from privgen.evidence.alignment import Alignments
from privgen.evidence.fingerprints import Searched

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 20.0
"""Seconds a scheduler has to answer, and workers to appear."""

_TILES = 64
_QUERY_BYTES = 2**22
_RETRIES = 2
_FRUITLESS = 3
_DEADLY = "Dask workers were lost with a block of queries again and again: give them more memory."

Found = TypeVar("Found")


@contextmanager
def connect(scheduler: str) -> Iterator["Client"]:
    """The workers of a running Dask scheduler.

    Args:
      scheduler: its address, such as `tcp://host:8786`.

    Raises:
      ConfigError: `distributed` is not installed, no scheduler answers there, it has no workers, or
        they run another version of privgen.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "--scheduler needs distributed, which is not installed: pip install 'privgen[dask]'."
        ) from error
    try:
        _knock(scheduler)
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"a Dask scheduler must answer at {scheduler}: got {type(error).__name__}. Start one "
            "with `dask scheduler`, and give its address, such as tcp://host:8786."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ConfigError(
                f"the scheduler at {scheduler} must have workers: got none in {PATIENCE:g} s. "
                f"Start some with: dask worker {scheduler} --nthreads 1."
            ) from error
        _check_versions(client)
        yield client


def nearest(
    queries: NDArray[np.float32],
    base: NDArray[np.float32],
    *,
    k: int,
    client: "Client",
    shards: int | None = None,
) -> Neighbors:
    """`audits.neighbors.nearest`, to the bit, by the workers of `client`.

    Args:
      queries: shape (n, d).
      base: shape (m, d), m >= k; each worker holds m / shards rows.
      k: neighbours wanted.
      client: from `connect`.
      shards: pieces the base is cut into, one a worker where None.

    Raises:
      AuditInputError: fewer than `k` rows in `base`.
      InputError: `shards` below 1.
      RuntimeFailure: workers were lost and none came in their place.
    """
    if len(base) < k:
        raise AuditInputError(f"{k} neighbours asked for among {len(base)} tiles: give more tiles.")
    if shards is not None and shards < 1:
        raise InputError(f"shards must be at least 1: got {shards}. Leave it out for one a worker.")
    count = min(shards or max(1, len(client.nthreads())), len(base))
    most = max(1, _QUERY_BYTES // max(1, queries.itemsize * queries.shape[1]))
    blocks = _cut(len(queries), -(-len(queries) // most))
    found = _Deal(
        work=_nearest_rows,
        pieces=[(rows.start, base[rows], k) for rows in _cut(len(base), count)],
        everywhere=False,
        jobs=[(i, rows) for rows in blocks for i in range(count)],
        queries=lambda rows: queries[rows],
    ).results(client)
    merged = [_merged(found[i : i + count], k) for i in range(0, len(found), count)]
    return Neighbors(
        np.concatenate([each.distances for each in merged]),
        np.concatenate([each.indices for each in merged]),
    )


def search(
    queries: Searched, base: Searched, *, other_groups: bool = False, client: "Client"
) -> Alignments:
    """The exact `fingerprints.search`, to the bit, by the workers of `client`.

    Args:
      queries: n tiles.
      base: tiles searched in; each worker holds all of them.
      other_groups: leave tiles of the query's own group out, as for the null.
      client: from `connect`.

    Raises:
      RuntimeFailure: workers were lost and none came in their place.
    """
    queries = replace(queries, marks=None)  # those of the base count, and are not sent twice
    blocks = _cut(len(queries), -(-len(queries) // _TILES))
    parts = _Deal(
        work=_search_tiles,
        pieces=[(base, other_groups)],
        everywhere=True,
        jobs=[(0, rows) for rows in blocks],
        queries=lambda rows: queries.subset(np.arange(rows.start, rows.stop)),
    ).results(client)
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Alignments)
        if field.name != "recall"  # of approximate searches alone
    }
    return Alignments(**arrays)


def _nearest_rows(
    queries: NDArray[np.float32], shard: tuple[int, NDArray[np.float32], int]
) -> Neighbors:
    start, rows, k = shard
    found = neighbors.nearest(queries, rows, k=min(k, len(rows)))
    return Neighbors(found.distances, found.indices + start)


def _search_tiles(queries: Searched, base: tuple[Searched, bool]) -> Alignments:
    return fingerprints.search(queries, base[0], other_groups=base[1])


def _merged(found: Sequence[Neighbors], k: int) -> Neighbors:
    """The `k` nearest of the neighbours in all shards, the first among equals."""
    distances = np.concatenate([each.distances for each in found], axis=1)
    indices = np.concatenate([each.indices for each in found], axis=1)
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    return Neighbors(
        np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)
    )


def _cut(rows: int, count: int) -> list[slice]:
    """`count` pieces of nearly equal length, one empty piece where count is 0."""
    ends = [rows * piece // (count or 1) for piece in range((count or 1) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


@dataclass(frozen=True, kw_only=True)
class _Deal(Generic[Found]):
    """Work on blocks of queries, each beside one piece of the base.

    Attributes:
      work: computes a block; must be importable by the workers.
      pieces: sent once, and again where lost.
      everywhere: send each piece to all workers, not to one.
      jobs: number of the piece and rows of the queries.
      queries: what to send of the queries.
    """

    work: Callable[[Any, Any], Found]
    pieces: Sequence[Any]
    everywhere: bool
    jobs: Sequence[tuple[int, slice]]
    queries: Callable[[slice], Any]

    def results(self, client: "Client") -> list[Found]:
        """Of each job, in order."""
        found, fruitless = dict[int, Found](), 0
        while len(found) < len(self.jobs):
            before = len(found)
            self._round(client, found)
            fruitless = fruitless + 1 if len(found) == before else 0
            if fruitless == _FRUITLESS:
                raise RuntimeFailure(_DEADLY)
        return [found[job] for job in range(len(self.jobs))]

    def _round(self, client: "Client", found: dict[int, Found]) -> None:
        """Send pieces and blocks; collect until all results are here, or a piece was lost."""
        from distributed import KilledWorker, as_completed

        _wait_for_workers(client)
        left = [job for job in range(len(self.jobs)) if job not in found]
        needed = sorted({self.jobs[job][0] for job in left})
        try:
            sent = client.scatter(
                [self.pieces[number] for number in needed], broadcast=self.everywhere, hash=False
            )
        except (OSError, KeyError):  # a worker was lost while it received a piece
            return
        pieces = dict(zip(needed, sent, strict=True))
        waiting = iter(left)
        jobs: dict[object, int] = {}
        going = as_completed(loop=client.loop)

        def send() -> None:
            free = sum(client.nthreads().values()) - len(jobs)
            for job in islice(waiting, max(0, free)):
                piece, rows = self.jobs[job]
                # A task fails where its worker runs out of memory or breaks a connection.
                future = client.submit(
                    self.work, self.queries(rows), pieces[piece], pure=False, retries=_RETRIES
                )
                jobs[future.key] = job
                going.add(future)

        with suppress(CancelledError):
            send()
        for future in going:
            job = jobs.pop(future.key)
            try:
                found[job] = future.result()
                send()
            except CancelledError:
                waiting = iter(())
            except KilledWorker as error:
                raise RuntimeFailure(_DEADLY) from error


def _knock(scheduler: str) -> None:
    """Raises OSError or ValueError where no scheduler listens.

    A `Client` would wait for a greeting without end, and leave its thread behind where it fails.
    """
    parts = urlsplit(scheduler)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as listener:
        # Over TLS the one who connects speaks first.
        if parts.scheme != "tls" and not listener.recv(1):
            raise ConnectionError


def _wait_for_workers(client: "Client") -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise RuntimeFailure(
            f"a search needs Dask workers: all were lost, and none came in {PATIENCE:g} s. "
            "Start some again, and then the search."
        ) from error


def _check_versions(client: "Client") -> None:
    """Raises ConfigError unless the scheduler and all workers run this version."""
    ours = version("privgen")
    try:
        theirs = {client.run_on_scheduler(version, "privgen")}
        theirs.update(client.run(version, "privgen").values())
    except PackageNotFoundError:
        theirs = {"none in some places"}
    if theirs != {ours}:
        raise ConfigError(
            f"the scheduler and its workers must run privgen {ours}: got "
            f"{', '.join(sorted(theirs))}. Install the same version where they run."
        )
