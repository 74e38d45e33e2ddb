"""The journal: what a line holds, what a kill leaves, what is written again."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from privgen import console, files
from privgen.config import TrainConfig
from privgen.errors import CheckpointError, DiskFullError
from privgen.training.journal import Journal

CONFIG = TrainConfig(batch=8, log_steps=4)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    return said


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _written(folder: Path, steps: int, running: dict[str, float] | None = None) -> Journal:
    """A journal of `steps` steps: a loss equal to the step, a penalty at every third."""
    journal = Journal(folder, CONFIG, running or {})
    with journal:
        journal.begin(0, 0.0)
        for step in range(1, steps + 1):
            figures = {"loss": float(step), **({"r1": 10.0 * step} if step % 3 == 0 else {})}
            journal.record(step, 2.0 * step, figures)
    return journal


def test_a_line_holds_means_and_no_time(tmp_path: Path) -> None:
    _written(tmp_path, 9)
    assert _lines(tmp_path / "log.jsonl") == [
        {"step": 4, "kimg": 0.032, "loss": 2.5, "r1": 30.0},
        # Over the steps at which it occurred, 6 alone; its weight in a step is no part of it.
        {"step": 8, "kimg": 0.064, "loss": 6.5, "r1": 60.0},
    ]
    assert _lines(tmp_path / "timing.jsonl") == [
        {"step": 4, "kimg": 0.032, "seconds": 8.0, "images_per_second": 4.0},
        {"step": 8, "kimg": 0.064, "seconds": 16.0, "images_per_second": 4.0},
    ]


def test_a_figure_that_did_not_occur_since_the_last_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CONFIG, {})
    for step in range(1, 9):
        journal.record(step, 1.0 * step, {"loss": 1.0, **({"r1": 5.0} if step == 1 else {})})
    assert ["r1" in line for line in _lines(tmp_path / "log.jsonl")] == [True, False]


def test_sums_since_the_last_line_go_on_in_the_next_journal(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    _written(whole, 8)
    first = _written(parts, 6)
    assert first.running == {"loss": 11.0, "loss#": 2.0, "r1": 60.0, "r1#": 1.0}
    second = Journal(parts, CONFIG, first.running)
    second.begin(6, 12.0)
    for step in (7, 8):
        second.record(step, 2.0 * step, {"loss": float(step)})
    assert (whole / "log.jsonl").read_bytes() == (parts / "log.jsonl").read_bytes()


def test_lines_after_the_step_to_go_on_from_and_a_torn_one_are_dropped(tmp_path: Path) -> None:
    journal = _written(tmp_path, 12)
    for step in (3, 6, 9):
        journal.watched(step, {"fd": 1.5 * step})
    names = ("log.jsonl", "timing.jsonl", "watch.jsonl")
    for name in names:
        with (tmp_path / name).open("a") as stream:
            stream.write('{"step": 5, "kim')  # the kill came here
    again = Journal(tmp_path, CONFIG, {})
    again.begin(8, 16.0)
    steps = [[line["step"] for line in _lines(tmp_path / name)] for name in names]
    assert steps == [[4, 8], [4, 8], [3, 6]]
    assert again.watched_at == 6
    assert Journal(tmp_path, CONFIG, {}).watched_at == -1


def test_another_process_writes_nothing(tmp_path: Path) -> None:
    silent = Journal(tmp_path, CONFIG, {}, speaks=False)
    with silent:
        silent.begin(0, 0.0)
        for step in range(1, 6):
            silent.record(step, 1.0 * step, {"loss": 1.0})
        silent.show(5, 5.0)
    assert silent.running == {"loss": 1.0, "loss#": 1.0}
    assert list(tmp_path.iterdir()) == []


def test_collapse_is_warned_of_once_and_not_before_a_thousand_images(
    tmp_path: Path, warnings: list[str]
) -> None:
    journal = Journal(tmp_path, CONFIG, {})
    said = []
    for step in range(1, 141):
        journal.record(step, 1.0, {"diversity": 0.1})
        said.append(len(warnings))
    assert said[123] == 0  # 0.99 kimg
    assert said[127:] == [1] * 13  # from 1.02 kimg on
    assert "collapse: at 1.0 kimg" in warnings[0]
    assert "0.10 times" in warnings[0]


def test_a_disk_that_fills_up_at_a_line_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _written(tmp_path, 4)

    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *given: object) -> None: ...

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Path, "open", lambda *given, **options: Full())
    with pytest.raises(DiskFullError, match=r"no space left to write watch\.jsonl: .* MiB free"):
        journal.watched(4, {"fd": 1.0})


def test_the_steps_of_a_run_are_foretold_from_its_budget_and_speed(tmp_path: Path) -> None:
    by_images = Journal(tmp_path, TrainConfig(batch=8, kimg=0.08), {})
    assert by_images.total_steps(3, 1.0) == 10
    by_time = Journal(tmp_path, TrainConfig(batch=8, minutes=1.0), {})
    by_time.begin(10, 20.0)
    assert by_time.total_steps(20, 30.0) == 50  # a step per second since then, 30 s left


def test_a_damaged_line_is_named_and_nothing_is_rewritten(tmp_path: Path) -> None:
    content = b'{"step": 1}\n\x00\x00\x00\n{"step": 2}\n'
    (tmp_path / "log.jsonl").write_bytes(content)
    journal = Journal(tmp_path, CONFIG, {})
    with pytest.raises(
        CheckpointError, match=r"line 2 of .*log\.jsonl is damaged.*Delete that line"
    ):
        journal.begin(2, 0.0)
    assert (tmp_path / "log.jsonl").read_bytes() == content


def test_figures_of_a_skipped_step_do_not_spoil_the_mean(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CONFIG, {})
    journal.record(1, 0.1, {"r1": 2.0, "path_length": float("inf")})
    journal.record(2, 0.2, {"r1": 4.0, "path_length": float("nan")})
    assert journal.running.get("path_length") is None
