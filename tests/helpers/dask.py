"""Real Dask schedulers and workers, as processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from distributed import Client

from privgen.compute.dask import connect
from tests.helpers.processes import until


@contextmanager
def dask(folder: Path, log: str, *arguments: str) -> Iterator[None]:
    """A running `dask` command, with all that it starts."""
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "DASK_TEMPORARY_DIRECTORY": str(folder)},
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def cluster(folder: Path, *kinds: str) -> Iterator[str]:
    """Address of a scheduler with one worker of one thread for each kind.

    Kinds: `--nanny`, whose worker comes again after its death, and `--no-nanny`.
    """
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        options = ("scheduler", "--port", "0", "--no-show", "--scheduler-file", str(file))
        stack.enter_context(dask(folder, "scheduler.log", *options))
        until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        for number, kind in enumerate(kinds):
            options = ("worker", address, kind, "--nthreads", "1")
            stack.enter_context(dask(folder, f"worker-{number}.log", *options))
        yield address


@contextmanager
def workers(folder: Path, *kinds: str) -> Iterator[Client]:
    with cluster(folder, *kinds) as address, connect(address) as client:
        client.wait_for_workers(len(kinds), timeout=30)
        yield client
