"""Searches by Dask workers: the bits of one process, whatever happens to the workers."""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from privgen.copysearch import distributed, searching
from privgen.copysearch.alignment import Alignments
from privgen.copysearch.descriptors import describe
from privgen.copysearch.searching import Searched
from privgen.data.phantom import make_phantom
from privgen.errors import InputError
from tests.helpers.dask import workers
from tests.helpers.processes import until

Embeddings = NDArray[np.float32]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two workers that nothing happens to."""
    with workers(tmp_path_factory.mktemp("two"), "--no-nanny", "--no-nanny") as two:
        yield two


def assert_same(found: Alignments, expected: Alignments) -> None:
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
    return searching.search(tissue, tissue)


@pytest.mark.parametrize("other_groups", [False, True])
def test_two_workers_give_the_alignments_of_one_process(
    client: Client, tissue: Searched, other_groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_TILES", 2)
    queries = tissue.subset(np.arange(0, 12, 2))
    found = distributed.search(queries, tissue, other_groups=other_groups, client=client)
    assert_same(found, searching.search(queries, tissue, other_groups=other_groups))
    assert (found.inliers > 0).any()


def test_an_error_of_the_search_arrives_as_it_was_raised(client: Client, tissue: Searched) -> None:
    unknown = dataclasses.replace(tissue, groups=None)
    with pytest.raises(InputError, match="groups must be given for queries and base alike"):
        distributed.search(unknown, tissue, other_groups=True, client=client)


def gate(work: str, folder: Path) -> None:
    """On a worker: its second block waits at the gate."""
    import os

    from privgen.copysearch import distributed

    real, pid, started = getattr(distributed, work), os.getpid(), []

    def gated(queries: object, piece: object) -> object:
        started.append(1)
        if len(started) == 2:
            (folder / f"waiting-{pid}").touch()
            while not (folder / "open").exists():
                time.sleep(0.01)
        found = real(queries, piece)
        (folder / f"done-{pid}-{len(started)}").touch()
        return found

    setattr(distributed, work, gated)


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
    monkeypatch.setattr(distributed, "_TILES", 3)
    with (
        workers(tmp_path, "--no-nanny", "--no-nanny") as two,
        Killing(two, "_search_tiles", tmp_path / "gate", victims=1) as killing,
    ):
        found = distributed.search(tissue, tissue, client=two)
    killing.assert_fell_in_the_middle()
    assert killing.sendings == 1, "the other worker still had the base"
    assert_same(found, aligned)


@pytest.mark.slow
def test_the_only_worker_killed_half_way_and_come_again_changes_no_alignment(
    tmp_path: Path, tissue: Searched, aligned: Alignments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_TILES", 4)
    with (
        workers(tmp_path, "--nanny") as one,
        Killing(one, "_search_tiles", tmp_path / "gate", victims=1) as killing,
    ):
        found = distributed.search(tissue, tissue, client=one)
    killing.assert_fell_in_the_middle()
    assert killing.sendings == 2, "the base was lost and sent again"
    assert_same(found, aligned)
