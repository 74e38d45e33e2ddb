"""lanes.py: what hangs or asks for too much memory costs the slide it came from, and no other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from privgen.errors import PrivgenError
from privgen.tiling import lanes
from privgen.tiling.folder import prepare
from privgen.tiling.job import Job, Outcome
from privgen.tiling.lanes import run_here
from privgen.tiling.settings import TilingSettings


def job(path: Path, folder: Path, number: int, regions: Path | None = None) -> Job:
    out, private = folder / "out", folder / "private"
    prepare(out, private, folder / "key")
    return Job(
        path=path,
        slide=f"s-{number:016x}",
        patient=None,
        label=None if regions else "all",
        regions=regions,
        settings=TilingSettings(size=64, stride=64),
        out=out,
        private=private,
    )


def carried_out(jobs: list[Job], silent: float = lanes.SILENT_SECONDS) -> dict[str, Outcome]:
    ended = run_here(jobs, 1, lambda done: None, silent_seconds=silent)
    return {outcome.slide: outcome for outcome in ended}


def test_a_slide_that_hangs_is_given_up_and_the_next_is_cut(
    slides: list[Path], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "never.geojson")  # whoever opens it waits for ever
    hangs = job(slides[0], tmp_path, 1, tmp_path / "never.geojson")
    start = time.monotonic()
    ended = carried_out([hangs, job(slides[1], tmp_path, 2)], silent=6.0)
    assert time.monotonic() - start < 90
    assert ended[hangs.slide].exit_code == 3
    assert "nothing could be read of it for 6 seconds" in str(ended[hangs.slide].rule)
    assert ended["s-0000000000000002"].tiles == 192


def test_a_slide_that_asks_for_too_much_memory_is_given_up(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory of a lane is limited on Linux alone")
    monkeypatch.setattr(lanes, "LANE_BYTES", 0)
    monkeypatch.setattr(lanes, "THREAD_BYTES", 2**20)
    (outcome,) = carried_out([job(slides[0], tmp_path, 1)]).values()
    assert outcome.exit_code == 3
    assert "memory" in str(outcome.rule)


def test_memory_is_limited_beyond_what_the_process_has() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory of a lane is limited on Linux alone")
    code = """
from privgen.tiling.lanes import limit_memory
limit_memory(2**28)
held = bytearray(2**27)
try:
    more = bytearray(2**28)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_a_lane_may_have_more_for_more_threads() -> None:
    assert lanes.lane_bytes(1) == 2**32 + 2**29
    assert lanes.lane_bytes(8) - lanes.lane_bytes(7) == lanes.THREAD_BYTES


def test_a_stopped_run_does_not_wait_for_a_slide_that_hangs(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_STOPPING_SECONDS", 1.0)
    os.mkfifo(tmp_path / "never.geojson")
    hangs = job(slides[0], tmp_path, 1, tmp_path / "never.geojson")

    def stop(done: float) -> None:
        raise PrivgenError("stopped")

    start = time.monotonic()
    with pytest.raises(PrivgenError, match="stopped"):
        list(run_here([hangs], 1, stop))
    assert time.monotonic() - start < 60
