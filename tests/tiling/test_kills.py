"""Killed, stopped or crashed at any moment: a rerun ends with the files of an uninterrupted run."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privgen.tiling.run import Tiled
from privgen.tiling.session import tile_slides
from tests.helpers.processes import alive, started, until

KILLS = 6

Command = Callable[..., list[str]]
Left = Callable[[Path], dict[str, str]]


def finish(line: list[str]) -> float:
    """Run the command to its end; seconds."""
    start = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - start


def half_written(out: Path) -> list[Path]:
    return [
        path
        for folder in (out, out.with_name(f"{out.name}-private"))
        for path in folder.rglob(".*")
        if path.name != ".lock"
    ]


def parts(out: Path) -> int:
    return len(list((out / "parts").glob("*.json")))


@pytest.fixture(scope="module")
def whole(
    slides: list[Path], command: Command, left_by: Left, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[float, dict[str, str]]]:
    """`whole(layout)`: seconds of a run that was left alone, and its files."""
    known: dict[str, tuple[float, dict[str, str]]] = {}

    def of(layout: str) -> tuple[float, dict[str, str]]:
        if layout not in known:
            out = tmp_path_factory.mktemp("whole") / "out"
            seconds = finish(command(slides, out, "--layout", layout))
            known[layout] = seconds, left_by(out)
        return known[layout]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_killed_at_random_moments_and_run_again_the_files_are_those_of_one_run(
    layout: str,
    slides: list[Path],
    command: Command,
    left_by: Left,
    whole: Callable[[str], tuple[float, dict[str, str]]],
    tmp_path: Path,
) -> None:
    seconds, expected = whole(layout)
    assert len([name for name in expected if "/parts/" in name]) == len(slides)
    rng = np.random.default_rng(["folders", "tar"].index(layout))
    kills = KILLS // 2
    moments = rng.permutation((np.arange(kills) + rng.random(kills)) / kills * seconds)
    number, halves, landed = 0, 0, 0
    out = tmp_path / "0"
    while landed < kills:
        with started(command(slides, out, "--layout", layout)) as process:
            try:
                process.wait(float(moments[landed]))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                landed += 1
        assert process.returncode in (0, -signal.SIGKILL)
        halves += len(half_written(out))
        if process.returncode == 0:  # an earlier kill had left too little to do: begin again
            assert left_by(out) == expected
            number += 1
            out = tmp_path / str(number)
    finish(command(slides, out, "--layout", layout))
    assert half_written(out) == []
    assert left_by(out) == expected


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_killed_alone_takes_its_lanes_along_and_the_rerun_completes(
    sign: signal.Signals,
    slides: list[Path],
    command: Command,
    left_by: Left,
    whole: Callable[[str], tuple[float, dict[str, str]]],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    line = command(slides, out, "--workers", "2")
    with started(line) as process:
        until(lambda: parts(out))
        assert len(alive(process.pid)) >= 3
        os.kill(process.pid, sign)
        process.wait(20)
        assert process.returncode == -sign
        until(lambda: not alive(process.pid), 10)
        assert not (out / "manifest.csv").exists()
    finish(line)
    assert half_written(out) == []
    assert left_by(out) == whole("folders")[1]


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_ends_in_one_line_and_leaves_nothing_half_written(
    early: bool,
    slides: list[Path],
    command: Command,
    left_by: Left,
    whole: Callable[[str], tuple[float, dict[str, str]]],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    line = command(slides, out)
    with started(line) as process:
        # Early: the lane has started, but has taken no slide; late: it is in the middle.
        until(lambda: len(alive(process.pid)) >= 3 if early else parts(out))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        until(lambda: not alive(process.pid), 10)
    assert [text for text in errors.splitlines() if text.startswith("error: ")] == [
        "error: interrupted; nothing was left half written."
    ]
    assert "Traceback" not in errors
    assert half_written(out) == []
    assert not (out / "manifest.csv").exists()
    finish(line)
    assert left_by(out) == whole("folders")[1]


def cut(
    slides: list[Path], out: Path, key: Path, progress: Callable[[float], None] = lambda done: None
) -> Tiled:
    return tile_slides(slides, out, size=64, key=key, progress=progress)


@pytest.mark.slow
def test_a_lane_that_is_killed_costs_one_slide(
    slides: list[Path],
    key: Path,
    left_by: Left,
    whole: Callable[[str], tuple[float, dict[str, str]]],
    tmp_path: Path,
) -> None:
    killed = []

    def kill(done: float) -> None:
        if 0 < done < len(slides) and not killed:
            (lane,) = multiprocessing.active_children()
            lane.kill()
            killed.append(lane.pid)

    out = tmp_path / "out"
    tiled = cut(slides, out, key, kill)
    assert killed
    assert tiled.exit_code == 3
    ((path, rule),) = tiled.failures
    assert path in slides
    assert "took its process down" in rule
    assert tiled.document["slides"] == len(slides) - 1
    assert [entry["rule"] for entry in tiled.document["failed"]] == [rule]
    assert parts(out) == len(slides) - 1
    again = cut(slides, out, key)
    assert (again.exit_code, again.failures) == (0, ())
    assert half_written(out) == []
    assert left_by(out) == whole("folders")[1]
