"""Searches by Dask workers: the bits of one process, whatever happens to the workers."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from audits import AuditInputError, neighbors
from audits.neighbors import Neighbors
from privgen.data.phantom import make_phantom
from privgen.errors import ConfigError, InputError, RuntimeFailure
from privgen.evidence import fingerprints, sharding
from privgen.evidence.alignment import Alignments
from privgen.evidence.descriptors import describe
from privgen.evidence.fingerprints import Searched

Embeddings = NDArray[np.float32]


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


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
    with cluster(folder, *kinds) as address, sharding.connect(address) as client:
        client.wait_for_workers(len(kinds), timeout=30)
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two workers that nothing happens to."""
    with workers(tmp_path_factory.mktemp("two"), "--no-nanny", "--no-nanny") as two:
        yield two


def crowded(rows: int = 2000, width: int = 20) -> Embeddings:
    """Equal rows far apart, and at the end tight clusters that float32 cannot resolve.

    A search that meets the clusters measures its neighbours in another way than one that does not.
    """
    rng = np.random.default_rng(0)
    base = rng.normal(size=(rows, width))
    base[rows // 2 : 3 * rows // 4] = base[: rows // 4]
    tight = base[3 * rows // 4 :]
    tight *= 0.1
    tight += 600 * rng.normal(size=(3, width))[rng.integers(3, size=len(tight))]
    return base.astype(np.float32)


def assert_same(found: Neighbors | Alignments, expected: Neighbors | Alignments) -> None:
    """Equal to the last bit, and of one kind."""
    for field in dataclasses.fields(expected):
        mine, theirs = (np.asarray(getattr(each, field.name)) for each in (found, expected))
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), field.name
        assert mine.tobytes() == theirs.tobytes(), field.name


@pytest.fixture(scope="module")
def tissue() -> Searched:
    """12 tiles of 4 patients."""
    tiles = make_phantom(
        patients=4, tiles_per_patient=3, classes=("NORM", "TUM", "LYM"), side=64, seed=1
    )
    pixels = tiles.load()
    flat = pixels.reshape(len(pixels), -1)[:, ::97].astype(np.float32)
    return Searched(descriptors=describe(pixels), embeddings=flat, groups=tiles.groups)


@pytest.fixture(scope="module")
def aligned(tissue: Searched) -> Alignments:
    """The tissue aligned with itself by one process."""
    return fingerprints.search(tissue, tissue)


@pytest.mark.parametrize(("rows", "width"), [(2000, 20), (200, 9000)])
def test_a_distance_does_not_depend_on_the_rows_searched_with_it(rows: int, width: int) -> None:
    base = crowded(rows, width)
    whole = neighbors.nearest(base, base, k=6)
    for row in range(0, rows, 7):
        chosen = np.sort(whole.indices[row])
        alone = neighbors.nearest(base[row : row + 1], base[chosen], k=6)
        np.testing.assert_array_equal(chosen[alone.indices[0]], whole.indices[row])
        assert alone.distances[0].tobytes() == whole.distances[row].tobytes()


def test_without_distributed_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'privgen\[dask\]'"),
        sharding.connect("tcp://127.0.0.1:8786"),
    ):
        pass


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://127.0.0.1:port", "tcp://127.0.0.1", "127.0.0.1:1", "pigeon"],
)
def test_an_address_without_a_scheduler_is_an_error_naming_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "PATIENCE", 0.5)
    with (
        pytest.raises(ConfigError, match=f"must answer at {address}"),
        sharding.connect(address),
    ):
        pass


def test_a_listener_that_is_no_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match=f"must answer at {address}"),
            sharding.connect(address),
        ):
            pass


def test_a_scheduler_without_workers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "PATIENCE", 0.5)
    with (
        cluster(tmp_path) as scheduler,
        pytest.raises(ConfigError, match=r"must have workers: got none in 0\.5 s"),
        sharding.connect(scheduler),
    ):
        pass


@pytest.mark.parametrize("shards", [None, 1, 7])
def test_two_workers_give_the_neighbours_of_one_process(
    client: Client, shards: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = crowded()
    queries = base[::13]
    monkeypatch.setattr(sharding, "_QUERY_BYTES", 40 * base[0].nbytes)
    found = sharding.nearest(queries, base, k=6, client=client, shards=shards)
    assert_same(found, neighbors.nearest(queries, base, k=6))
    assert (found.distances[:, 1] == 0).any(), "equal rows lie in different shards"


def test_no_queries_and_shards_of_fewer_rows_than_neighbours(client: Client) -> None:
    base = crowded(8)
    none = sharding.nearest(base[:0], base, k=3, client=client)
    assert_same(none, neighbors.nearest(base[:0], base, k=3))
    for k in (7, 8):
        found = sharding.nearest(base, base, k=k, client=client, shards=9)
        assert_same(found, neighbors.nearest(base, base, k=k))
    with pytest.raises(AuditInputError, match="9 neighbours asked for among 8 tiles"):
        sharding.nearest(base, base, k=9, client=client)
    with pytest.raises(InputError, match="shards must be at least 1: got 0"):
        sharding.nearest(base, base, k=1, client=client, shards=0)


@pytest.mark.parametrize("other_groups", [False, True])
def test_two_workers_give_the_alignments_of_one_process(
    client: Client, tissue: Searched, other_groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "_TILES", 2)
    queries = tissue.subset(np.arange(0, 12, 2))
    found = sharding.search(queries, tissue, other_groups=other_groups, client=client)
    assert_same(found, fingerprints.search(queries, tissue, other_groups=other_groups))
    assert (found.inliers > 0).any()


def test_an_error_of_the_search_arrives_as_it_was_raised(client: Client, tissue: Searched) -> None:
    unknown = dataclasses.replace(tissue, groups=None)
    with pytest.raises(InputError, match="groups must be given for queries and base alike"):
        sharding.search(unknown, tissue, other_groups=True, client=client)


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

    monkeypatch.setattr(sharding, "version", version)
    with (
        pytest.raises(ConfigError, match="got none in some" if missing else r"got 0\.9"),
        sharding.connect(client.scheduler.address),
    ):
        pass


def gate(work: str, folder: Path) -> None:
    """On a worker: its second block waits at the gate."""
    import os
    import time

    from privgen.evidence import sharding

    real, pid, started = getattr(sharding, work), os.getpid(), []

    def gated(queries: object, piece: object) -> object:
        started.append(1)
        if len(started) == 2:
            (folder / f"waiting-{pid}").touch()
            while not (folder / "open").exists():
                time.sleep(0.01)
        found = real(queries, piece)
        (folder / f"done-{pid}-{len(started)}").touch()
        return found

    setattr(sharding, work, gated)


class Killing:
    """Kills some workers while every worker is in its second block, then opens the gate."""

    def __init__(self, client: Client, work: str, folder: Path, *, victims: int) -> None:
        folder.mkdir()
        self.folder, self.sendings = folder, 0
        # A function that is no part of a module travels as it is.
        gate.__module__ = "__main__"
        client.run(gate, work, folder)
        self.pids = list(client.run(os.getpid).values())
        self.victims = self.pids[:victims]
        scatter = client.scatter

        def counted(*pieces: object, **options: object) -> object:
            self.sendings += 1
            return scatter(*pieces, **options)

        client.scatter = counted
        self.thread = threading.Thread(target=self._kill)

    def _kill(self) -> None:
        until(lambda: len(list(self.folder.glob("waiting-*"))) == len(self.pids))
        for pid in self.victims:
            os.kill(pid, signal.SIGKILL)
        (self.folder / "open").touch()

    def __enter__(self) -> "Killing":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()

    def assert_fell_in_the_middle(self) -> None:
        """Each victim had finished one block and died in another."""
        for pid in self.victims:
            assert (self.folder / f"waiting-{pid}").exists()
            assert len(list(self.folder.glob(f"done-{pid}-*"))) == 1


@pytest.mark.slow
def test_a_worker_killed_half_way_changes_no_alignment(
    tmp_path: Path, tissue: Searched, aligned: Alignments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "_TILES", 3)
    with (
        workers(tmp_path, "--no-nanny", "--no-nanny") as two,
        Killing(two, "_search_tiles", tmp_path / "gate", victims=1) as killing,
    ):
        found = sharding.search(tissue, tissue, client=two)
    killing.assert_fell_in_the_middle()
    assert killing.sendings == 1, "the other worker still had the base"
    assert_same(found, aligned)


@pytest.mark.slow
def test_the_only_worker_killed_half_way_and_come_again_changes_no_alignment(
    tmp_path: Path, tissue: Searched, aligned: Alignments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "_TILES", 4)
    with (
        workers(tmp_path, "--nanny") as one,
        Killing(one, "_search_tiles", tmp_path / "gate", victims=1) as killing,
    ):
        found = sharding.search(tissue, tissue, client=one)
    killing.assert_fell_in_the_middle()
    assert killing.sendings == 2, "the base was lost and sent again"
    assert_same(found, aligned)


@pytest.mark.slow
def test_a_worker_killed_with_its_shard_changes_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = crowded()
    monkeypatch.setattr(sharding, "_QUERY_BYTES", 300 * base[0].nbytes)
    with (
        workers(tmp_path, "--nanny", "--nanny") as two,
        Killing(two, "_nearest_rows", tmp_path / "gate", victims=1) as killing,
    ):
        found = sharding.nearest(base, base, k=4, client=two)
    killing.assert_fell_in_the_middle()
    assert killing.sendings == 2, "the shard was lost and sent again"
    assert_same(found, neighbors.nearest(base, base, k=4))


def deadly() -> sharding._Deal[None]:
    """Two blocks that kill whoever takes them."""

    def die(queries: slice, piece: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return sharding._Deal(
        work=die,
        pieces=[0],
        everywhere=True,
        jobs=[(0, slice(0, 1)), (0, slice(1, 2))],
        queries=lambda rows: rows,
    )


def test_when_all_workers_are_lost_the_search_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "_FRUITLESS", 1)
    with workers(tmp_path, "--no-nanny") as one:
        with pytest.raises(RuntimeFailure, match="again and again"):
            deadly().results(one)
        monkeypatch.setattr(sharding, "PATIENCE", 0.5)
        with pytest.raises(RuntimeFailure, match=r"all were lost, and none came in 0\.5 s"):
            deadly().results(one)


def test_a_block_that_kills_one_worker_after_the_other_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    deal = deadly()
    deal = dataclasses.replace(deal, jobs=deal.jobs[:1])
    with (
        workers(tmp_path, "--no-nanny", "--no-nanny") as two,
        pytest.raises(RuntimeFailure, match="again and again"),
    ):
        deal.results(two)
