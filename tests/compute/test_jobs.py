"""Pieces of work by several processes: each done once, errors told, and an end that saves."""

import os
import signal
import time
from pathlib import Path

import pytest

from privgen.compute.jobs import carry_out, stopped
from privgen.errors import ConfigError, RuntimeFailure
from tests.helpers.processes import until


def write(folder: Path, piece: int) -> None:
    (folder / f"{piece}").write_text(str(os.getpid()))


def fail(folder: Path, piece: int) -> None:
    raise ConfigError(f"piece {piece} cannot be done")


def die(folder: Path, piece: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_signal(folder: Path, piece: int) -> None:
    if piece == 0:
        return
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    (folder / "waiting").touch()
    end = time.monotonic() + 60
    while not told and time.monotonic() < end:
        time.sleep(0.02)
    (folder / "saved").write_text(str(stopped()))


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_piece_is_done_once(tmp_path: Path, jobs: int) -> None:
    done = list(carry_out(write, tmp_path, [3, 1, 2], jobs=jobs))
    assert sorted(done) == [1, 2, 3]
    owners = {(tmp_path / str(piece)).read_text() for piece in done}
    assert (str(os.getpid()) in owners) is (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_piece_is_its_own(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ConfigError, match="cannot be done"):
        list(carry_out(fail, tmp_path, [1, 2], jobs=jobs))


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="with fewer `jobs`"):
        list(carry_out(die, tmp_path, [1, 2], jobs=2))


def test_work_under_way_is_told_to_save_when_the_whole_ends_early(tmp_path: Path) -> None:
    working = carry_out(wait_for_signal, tmp_path, [0, 1], jobs=2, interrupt=True)
    assert next(working) == 0
    until((tmp_path / "waiting").exists)
    working.close()
    until((tmp_path / "saved").exists)
    assert (tmp_path / "saved").read_text() == "True"
