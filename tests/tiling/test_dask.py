"""Slides cut by Dask workers: the files of one machine, whatever happens to the workers."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client

from privgen.tiling.session import tile_slides
from tests.helpers.dask import cluster
from tests.helpers.processes import until

Left = Callable[[Path], dict[str, str]]


def gate(folder: Path) -> None:
    """On a worker: its first slide waits at the gate when half of its tiles have been cut."""
    import os
    import time

    from privgen.tiling import lanes

    real, started = lanes.tile_slide, []

    def gated(job: object, tick: object) -> object:
        started.append(1)
        first = len(started) == 1

        def waiting(read: int, planned: int) -> None:
            if first and read > planned // 2:
                (folder / f"waiting-{os.getpid()}").touch()
                while not (folder / "open").exists():
                    time.sleep(0.01)

        return real(job, waiting)

    lanes.tile_slide = gated


@pytest.fixture(scope="module")
def alone(
    slides: list[Path], key: Path, left_by: Left, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What this machine leaves without Dask."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert tile_slides(slides, out, size=64, key=key).exit_code == 0
    return left_by(out)


@pytest.mark.slow
def test_one_of_two_workers_killed_half_way_changes_no_file(
    slides: list[Path], key: Path, left_by: Left, alone: dict[str, str], tmp_path: Path
) -> None:
    out, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    victims: list[int] = []

    def kill(pids: list[int]) -> None:
        until(lambda: len(list(marks.glob("waiting-*"))) == len(pids))
        assert len(list(out.rglob("*.png"))) > 0
        assert not list(out.glob("parts/*.json"))
        victims.append(pids[0])
        os.kill(pids[0], signal.SIGKILL)
        (marks / "open").touch()

    with cluster(tmp_path, "--no-nanny", "--no-nanny") as address:
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
            gate.__module__ = "__main__"  # no part of a module: it travels as it is
            client.run(gate, marks)
            pids = list(client.run(os.getpid).values())
        killing = threading.Thread(target=kill, args=(pids,))
        killing.start()
        done: list[float] = []
        tiled = tile_slides(slides, out, size=64, key=key, scheduler=address, progress=done.append)
        killing.join()
    assert victims == pids[:1]
    assert (tiled.exit_code, tiled.failures) == (0, ())
    assert done[-1] == len(slides)
    assert left_by(out) == alone
    assert list(out.rglob(".partial-*")) == []
