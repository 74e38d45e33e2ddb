"""lanes.py: what hangs or asks for too much memory costs the slide it came from, and no other."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from privgen.errors import PrivgenError
from privgen.tiling import lanes
from privgen.tiling.folder import prepare
from privgen.tiling.job import Job, SlideOutcome
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


def carried_out(jobs: list[Job], silent: float = lanes.SILENT_SECONDS) -> dict[str, SlideOutcome]:
    ended = run_here(jobs, 1, lambda done: None, silent_seconds=silent)
    return {outcome.slide: outcome for outcome in ended}


@pytest.fixture
def ended_lanes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes of lanes that were ended by force, in order."""
    ended: list[int] = []
    kill = os.kill

    def noted(process: int, number: int) -> None:
        if number == signal.SIGKILL:
            ended.append(process)
        kill(process, number)

    monkeypatch.setattr(os, "kill", noted)
    return ended


def test_a_slide_that_hangs_is_given_up_and_the_next_is_cut(
    slides: list[Path], tmp_path: Path, ended_lanes: list[int]
) -> None:
    os.mkfifo(tmp_path / "never.geojson")  # whoever opens it waits for ever
    hangs = job(slides[0], tmp_path, 1, tmp_path / "never.geojson")
    ended = carried_out([hangs, job(slides[1], tmp_path, 2)], silent=6.0)
    (lane,) = ended_lanes
    assert not Path(f"/proc/{lane}").exists()
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
    slides: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended_lanes: list[int],
) -> None:
    monkeypatch.setattr(lanes, "_STOPPING_SECONDS", 1.0)
    never = tmp_path / "never.geojson"
    os.mkfifo(never)
    hangs = job(slides[0], tmp_path, 1, never)
    held: list[int] = []
    raised: list[BaseException] = []

    def stop(done: float) -> None:
        try:
            held.append(os.open(never, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return  # nobody reads it yet
        raise PrivgenError("stopped")

    def work() -> None:
        try:
            list(run_here([hangs], 1, stop, silent_seconds=math.inf))
        except PrivgenError as error:
            raised.append(error)

    run = threading.Thread(target=work, daemon=True)
    run.start()
    run.join(120)  # a run that waits for the slide would never end
    try:
        assert not run.is_alive()
        assert [str(error) for error in raised] == ["stopped"]
        (lane,) = ended_lanes
        assert not Path(f"/proc/{lane}").exists()
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        for handle in held:
            os.close(handle)


def test_a_script_without_a_main_block_is_told_so(slides: list[Path], tmp_path: Path) -> None:
    """A process that starts by running the script again would start processes itself."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport privgen\n"
        "privgen.tile_slides([sys.argv[1]], sys.argv[2], size=64, mpp=None)\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script), str(slides[0]), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.returncode != 0
    assert "if __name__ == '__main__':" in ran.stderr.splitlines()[-1]
