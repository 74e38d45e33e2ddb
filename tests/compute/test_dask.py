"""Reaching Dask workers, and dealing work to them, whatever happens to the workers."""

import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from distributed import Client

from privgen.compute import dask
from privgen.errors import ConfigError, RuntimeFailure
from tests.helpers.dask import cluster, workers


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two workers that nothing happens to."""
    with workers(tmp_path_factory.mktemp("two"), "--no-nanny", "--no-nanny") as two:
        yield two


def test_without_distributed_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'privgen\[dask\]'"),
        dask.connect("tcp://127.0.0.1:8786"),
    ):
        pass


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://127.0.0.1:port", "tcp://127.0.0.1", "127.0.0.1:1", "pigeon"],
)
def test_an_address_without_a_scheduler_is_an_error_naming_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "PATIENCE", 0.5)
    with (
        pytest.raises(ConfigError, match=f"must answer at {address}"),
        dask.connect(address),
    ):
        pass


def test_a_listener_that_is_no_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match=f"must answer at {address}"),
            dask.connect(address),
        ):
            pass


def test_a_scheduler_without_workers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "PATIENCE", 0.5)
    with (
        cluster(tmp_path) as scheduler,
        pytest.raises(ConfigError, match=r"must have workers: got none in 0\.5 s"),
        dask.connect(scheduler),
    ):
        pass


@pytest.mark.parametrize("missing", [False, True])
def test_workers_of_another_version_are_refused(
    client: Client, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getpid()

    def version(name: str) -> str:
        if os.getpid() == here:
            return "1.0"
        if missing:
            raise PackageNotFoundError(name)
        return "0.9"

    monkeypatch.setattr(dask, "version", version)
    with (
        pytest.raises(ConfigError, match="got none in some" if missing else r"got 0\.9"),
        dask.connect(client.scheduler.address),
    ):
        pass


def deadly() -> dask.Deal[None]:
    """Two blocks that kill whoever takes them."""

    def die(queries: slice, piece: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return dask.Deal(
        work=die,
        base=0,
        blocks=[slice(0, 1), slice(1, 2)],
        queries=lambda rows: rows,
    )


def test_when_all_workers_are_lost_the_search_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "_FRUITLESS", 1)
    with workers(tmp_path, "--no-nanny") as one:
        with pytest.raises(RuntimeFailure, match="again and again"):
            deadly().results(one)
        monkeypatch.setattr(dask, "PATIENCE", 0.5)
        with pytest.raises(RuntimeFailure, match=r"all were lost, and none came in 0\.5 s"):
            deadly().results(one)


def test_a_block_that_kills_one_worker_after_the_other_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    deal = deadly()
    deal = dataclasses.replace(deal, blocks=deal.blocks[:1])
    with (
        workers(tmp_path, "--no-nanny", "--no-nanny") as two,
        pytest.raises(RuntimeFailure, match="again and again"),
    ):
        deal.results(two)
