"""Workers of a Dask cluster: reaching them, and dealing blocks of work to them.

A worker may be lost at any time. What every block needs stays in this process, and a block with
the scheduler until its result is here: others take over the blocks of a lost worker, and where what
they need was lost with it, it is sent once more. A worker has as many blocks at once as it has
threads.

Workers must run the same version of privgen, with the same libraries on the same kind of processor
where the bits matter. What they are sent is private; on networks shared with others use `tls://`.
`distributed` is optional (`privgen[dask]`) and loaded when it is first used.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from privgen.errors import ConfigError, RuntimeFailure

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 20.0
"""Seconds a scheduler has to answer, and workers to appear."""

_RETRIES = 2
_FRUITLESS = 3
_DEADLY = "Dask workers were lost with a block of work again and again: give them more memory."

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
            "a Dask scheduler needs distributed, which is not installed: pip install "
            "'privgen[dask]'."
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


@dataclass(frozen=True, kw_only=True)
class Deal(Generic[Found]):
    """Work on blocks of rows, each beside one base that every worker holds.

    Attributes:
      work: computes a block; must be importable by the workers.
      base: sent to every worker once, and again where it was lost.
      blocks: rows of each block.
      queries: what to send of a block's rows.
    """

    work: Callable[[Any, Any], Found]
    base: Any
    blocks: Sequence[slice]
    queries: Callable[[slice], Any]

    def results(self, client: "Client") -> list[Found]:
        """Of each block, in order.

        Raises:
          RuntimeFailure: workers were lost and none came in their place, or a block kills them.
        """
        found, fruitless = dict[int, Found](), 0
        while len(found) < len(self.blocks):
            before = len(found)
            self._round(client, found)
            fruitless = fruitless + 1 if len(found) == before else 0
            if fruitless == _FRUITLESS:
                raise RuntimeFailure(_DEADLY)
        return [found[block] for block in range(len(self.blocks))]

    def _round(self, client: "Client", found: dict[int, Found]) -> None:
        """Send the base and blocks; collect until all results are here, or the base was lost."""
        from distributed import KilledWorker, as_completed

        _wait_for_workers(client)
        try:
            [base] = client.scatter([self.base], broadcast=True, hash=False)
        except (OSError, KeyError):  # a worker was lost while it received the base
            return
        waiting = iter([block for block in range(len(self.blocks)) if block not in found])
        sent: dict[object, int] = {}
        going = as_completed(loop=client.loop)

        def send() -> None:
            free = sum(client.nthreads().values()) - len(sent)
            for block in islice(waiting, max(0, free)):
                queries = self.queries(self.blocks[block])
                # A task fails where its worker runs out of memory or breaks a connection.
                future = client.submit(self.work, queries, base, pure=False, retries=_RETRIES)
                sent[future.key] = block
                going.add(future)

        with suppress(CancelledError):
            send()
        for future in going:
            block = sent.pop(future.key)
            try:
                found[block] = future.result()
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
            f"Dask workers are needed: all were lost, and none came in {PATIENCE:g} s. "
            "Start some again, and then the command."
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
