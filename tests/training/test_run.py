"""A run on disk: which checkpoints stay, which weights are chosen, what a full disk leaves."""

import errno
import json
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch

from privgen import console, files
from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, DiskFullError, OutputError
from privgen.training import engine, loop, run

CONFIG = TrainConfig(
    family="cdcgan-2025",
    discriminator="own",
    loss="logistic",
    resolution=32,
    width=4,
    head_width=4,
    batch=8,
    kimg=0.032,  # 4 steps
    precision="float32",
    device="cpu",
    threads=1,
    log_steps=1,
    grid_steps=100,
    watch_kimg=0.0,
    checkpoint_minutes=0.0,
    keep_checkpoints=9,
)


def _tiles() -> TileSet:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    return TileSet.from_arrays(pixels, ("str", "tum", "tum") * 8)


def _train(folder: Path, config: TrainConfig = CONFIG, resume: Path | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    tiles = _tiles()
    entries = tuple(
        LedgerEntry(role="train", path=r.path, sha256="", label=r.label, group=r.path)
        for r in tiles.records
    )
    ledger = Ledger(root=None, layout="arrays", group_unit="tile", split={}, entries=entries)
    return loop.train(tiles, config, run_folder=folder, ledger=ledger, resume=resume)


def _checkpoints(folder: Path) -> list[int]:
    return [int(p.stem[5:]) for p in sorted((folder / "checkpoints").glob("ckpt-*.pt"))]


def _selected(folder: Path) -> list[int]:
    return [int(p.stem[9:]) for p in sorted((folder / "checkpoints").glob("selected-*.pt"))]


class Before:
    """Calls something before each step, with its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
        true_step = engine.Engine.step

        def step(itself: engine.Engine, tiles: Any, labels: Any, step: int) -> dict[str, float]:
            call(step)
            return true_step(itself, tiles, labels, step)

        monkeypatch.setattr(engine.Engine, "step", step)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    return said


@pytest.fixture
def merits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """A watch that finds these merits, one a measurement, and fails when there is none left."""
    script: list[float | None] = []

    class Scripted:
        @classmethod
        def of(cls, *given: object) -> Self:
            return cls()

        def measure(self, generator: object) -> dict[str, Any]:
            return {"merit": script.pop(0)}

        def merit(self, line: Mapping[str, Any]) -> float | None:
            found: float | None = line["merit"]
            return found

    monkeypatch.setattr(run, "Watch", Scripted)
    monkeypatch.setattr(run, "draw_progress", lambda *given, **options: None)
    return script


CHOOSING = replace(CONFIG, select_by="fd", watch_kimg=0.008)  # a measurement at every step


def test_a_checkpoint_stands_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    Before(monkeypatch, lambda step: seen.append(_checkpoints(tmp_path)))
    _train(tmp_path)
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_as_many_checkpoints_are_kept_as_asked(tmp_path: Path) -> None:
    _train(tmp_path, replace(CONFIG, keep_checkpoints=3))
    assert _checkpoints(tmp_path) == [2, 3, 4]


def test_checkpoints_are_as_old_as_asked(tmp_path: Path) -> None:
    _train(tmp_path, replace(CONFIG, checkpoint_minutes=60.0))
    assert _checkpoints(tmp_path) == [0, 4]


def test_a_given_older_checkpoint_is_where_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path)
    whole = state.load_checkpoint(tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    made: list[int] = []
    there: list[list[int]] = []
    Before(monkeypatch, lambda step: (made.append(step), there.append(_checkpoints(tmp_path))))
    older = tmp_path / "checkpoints" / "ckpt-00000002.pt"
    _train(tmp_path, resume=older)
    assert made == [2, 3]
    assert there[0] == [0, 1, 2]  # a kill now would not go on from 4 with the log of 2
    again = state.load_checkpoint(tmp_path)
    assert again.step == 4
    for name, tensor in whole.average.items():
        assert torch.equal(again.average[name], tensor), name
    assert (tmp_path / "log.jsonl").read_text() == log


def test_the_best_weights_are_kept_and_become_the_generator_file(
    tmp_path: Path, merits: list[float | None]
) -> None:
    merits += [5.0, 3.0, None, 4.0]
    path = _train(tmp_path, CHOOSING)
    assert merits == []  # the last step is not measured twice
    assert path == tmp_path / "checkpoints" / "selected-00000002.pt"
    assert state.sampled_checkpoint(tmp_path) == path
    chosen, last = state.load_checkpoint(path), state.load_checkpoint(tmp_path)
    assert (chosen.step, last.step) == (2, 4)
    assert chosen.selected == last.selected == {"step": 2.0, "figure": 3.0}
    assert _checkpoints(tmp_path) == [0, 1, 2, 3, 4]  # selected ones count as none of the last
    shared = state.load_generator_state(tmp_path / "generator.safetensors")
    assert shared.kimg == pytest.approx(0.016)
    for name, tensor in chosen.average.items():
        assert torch.equal(shared.tensors[name], tensor), name
    assert any(not torch.equal(last.average[n], shared.tensors[n]) for n in shared.tensors)
    lines = [json.loads(line) for line in (tmp_path / "watch.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_a_resumed_run_remembers_what_it_chose(tmp_path: Path, merits: list[float | None]) -> None:
    merits += [5.0, 1.0]
    _train(tmp_path, replace(CHOOSING, kimg=0.016))
    merits += [2.0, 3.0]
    path = _train(tmp_path, CHOOSING, resume=tmp_path)
    assert path.name == "selected-00000002.pt"
    assert state.load_checkpoint(path).step == 2
    assert state.load_generator_state(tmp_path / "generator.safetensors").kimg == 0.016


def test_going_back_to_an_older_checkpoint_takes_back_what_was_chosen_later(
    tmp_path: Path, merits: list[float | None]
) -> None:
    merits += [5.0, 4.0, 3.0, 2.0]
    _train(tmp_path, CHOOSING)
    assert _selected(tmp_path) == [1, 2, 3, 4]
    merits += [9.0, 9.0]
    older = tmp_path / "checkpoints" / "ckpt-00000002.pt"
    path = _train(tmp_path, CHOOSING, resume=older)
    assert path.name == "selected-00000002.pt"
    assert state.sampled_checkpoint(tmp_path) == path
    shared = state.load_generator_state(tmp_path / "generator.safetensors")
    sampled = state.load_generator_state(tmp_path)
    for name, tensor in shared.tensors.items():
        assert torch.equal(sampled.tensors[name], tensor), name


def test_chosen_weights_go_when_no_kept_checkpoint_names_them(
    tmp_path: Path, merits: list[float | None]
) -> None:
    merits += [5.0, 4.0, 9.0, 3.0]
    _train(tmp_path, replace(CHOOSING, keep_checkpoints=2))
    assert _checkpoints(tmp_path) == [3, 4]
    assert _selected(tmp_path) == [2, 4]  # the checkpoint of step 3 goes by that of step 2


def test_a_missing_chosen_checkpoint_is_not_replaced_by_another(
    tmp_path: Path, merits: list[float | None]
) -> None:
    merits += [5.0, 4.0, 9.0, 9.0]
    _train(tmp_path, CHOOSING).unlink()
    with pytest.raises(CheckpointError, match=r"selected-00000002\.pt is missing"):
        state.load_generator_state(tmp_path)


def test_a_measurement_at_the_end_of_the_budget_chooses_nothing_and_goes_when_extended(
    tmp_path: Path, merits: list[float | None]
) -> None:
    due_at_two = replace(CHOOSING, watch_kimg=0.016)
    merits += [4.0, 1.0]
    path = _train(tmp_path, replace(due_at_two, kimg=0.024))
    lines = (tmp_path / "watch.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 3]
    assert path.name == "selected-00000002.pt"
    merits += [3.0]
    path = _train(tmp_path, due_at_two, resume=tmp_path)
    lines = (tmp_path / "watch.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]
    assert path.name == "selected-00000004.pt"


def test_a_run_that_goes_on_has_no_generator_file_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path, replace(CONFIG, kimg=0.016))
    assert (tmp_path / "generator.safetensors").exists()
    seen: list[bool] = []
    Before(monkeypatch, lambda step: seen.append((tmp_path / "generator.safetensors").exists()))
    _train(tmp_path, CONFIG, resume=tmp_path)
    assert seen == [False, False]
    assert (tmp_path / "generator.safetensors").exists()


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    _train(tmp_path, replace(CONFIG, kimg=0.008))
    with (
        files.locked(tmp_path, purpose="training"),
        pytest.raises(OutputError, match="another process is training there"),
    ):
        _train(tmp_path, CONFIG, resume=tmp_path)
    assert _checkpoints(tmp_path) == [0, 1]
    assert _train(tmp_path, CONFIG, resume=tmp_path).name == "ckpt-00000004.pt"


def test_what_a_killed_writer_left_is_swept_everywhere(tmp_path: Path) -> None:
    _train(tmp_path, replace(CONFIG, kimg=0.008))
    for place in (".", "checkpoints", "fakes"):
        (tmp_path / place / ".partial-abc").write_text("half")
    _train(tmp_path, CONFIG, resume=tmp_path)
    assert _no_partial_files(tmp_path)


def test_another_number_of_processes_is_warned_of(tmp_path: Path, warnings: list[str]) -> None:
    path = _train(tmp_path, replace(CONFIG, kimg=0.008))
    state.save_checkpoint(path, replace(state.load_checkpoint(path), processes=3))
    _train(tmp_path, CONFIG, resume=tmp_path)
    assert any("made by 3 processes and goes on with 1" in line for line in warnings)


def test_the_precision_decided_at_the_start_is_kept_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "decided_precision", lambda *given: "float32")
    undecided = replace(CONFIG, precision="auto", kimg=0.008)
    assert state.load_checkpoint(_train(tmp_path, undecided)).config.precision == "float32"
    monkeypatch.undo()
    path = _train(tmp_path, replace(undecided, kimg=0.016), resume=tmp_path)
    assert state.load_checkpoint(path).config.precision == "float32"


def test_a_generator_trained_on_equal_shares_says_so(tmp_path: Path) -> None:
    path = _train(tmp_path, replace(CONFIG, kimg=0.008, class_balance="uniform"))
    assert state.load_checkpoint(path).class_share == (0.5, 0.5)


def test_where_nothing_could_be_chosen_the_last_weights_are_shared_with_a_warning(
    tmp_path: Path, merits: list[float | None], warnings: list[str]
) -> None:
    merits += [None] * 4
    path = _train(tmp_path, replace(CHOOSING, select_by="fd,leak"))
    assert path.name == "ckpt-00000004.pt"
    assert any("no measurement passed `select_by` fd,leak" in line for line in warnings)
    assert _selected(tmp_path) == []


def test_the_last_weights_are_shared_unless_asked_otherwise(
    tmp_path: Path, warnings: list[str]
) -> None:
    path = _train(tmp_path)
    assert path.name == "ckpt-00000004.pt"
    shared = state.load_generator_state(tmp_path / "generator.safetensors")
    for name, tensor in state.load_checkpoint(path).average.items():
        assert torch.equal(shared.tensors[name], tensor), name
    assert warnings == []


def _no_partial_files(folder: Path) -> bool:
    return not list(folder.rglob(".partial-*"))


def test_a_disk_that_is_full_at_a_checkpoint_keeps_the_one_before_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["free"])

    def fill(step: int) -> None:
        if step == 2:
            monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage(50 * 1024))

    with monkeypatch.context() as patched:
        Before(patched, fill)
        with pytest.raises(DiskFullError, match=r"\d+\.\d MiB needed, 0\.0 MiB free\. Free some"):
            _train(tmp_path)
    monkeypatch.undo()
    assert _checkpoints(tmp_path) == [0, 1, 2]
    assert state.load_checkpoint(tmp_path).step == 2
    assert _no_partial_files(tmp_path)
    assert _train(tmp_path, resume=tmp_path).name == "ckpt-00000004.pt"


def test_a_disk_that_fills_up_within_a_checkpoint_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_open = files.os.fdopen

    class Half:
        """A file on a disk with room for half of what is written."""

        def __init__(self, handle: int, mode: str) -> None:
            self.stream = true_open(handle, mode)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *given: object) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def write(self, content: bytes) -> int:
            self.stream.write(bytes(content)[: len(content) // 2])
            self.stream.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    def fill(step: int) -> None:
        if step == 2:
            monkeypatch.setattr(files.os, "fdopen", Half)

    with monkeypatch.context() as patched:
        Before(patched, fill)
        with pytest.raises(
            DiskFullError,
            match=r"write ckpt-00000003\.pt: \d+\.\d MiB needed, \d+\.\d MiB free in .* unchanged",
        ):
            _train(tmp_path)
    monkeypatch.undo()
    assert _checkpoints(tmp_path) == [0, 1, 2]
    assert state.load_checkpoint(tmp_path).step == 2
    assert _no_partial_files(tmp_path)
    assert _train(tmp_path, resume=tmp_path).name == "ckpt-00000004.pt"


def test_the_thread_count_decided_at_the_start_is_kept_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    Before(monkeypatch, lambda step: used.append(torch.get_num_threads()))
    monkeypatch.setattr(loop, "quickest_threads", lambda: 2)
    before = torch.get_num_threads()
    undecided = replace(CONFIG, threads=0, kimg=0.008)
    assert state.load_checkpoint(_train(tmp_path, undecided)).config.threads == 2
    assert json.loads((tmp_path / "config.json").read_text())["threads"] == 2
    monkeypatch.setattr(loop, "quickest_threads", lambda: 1)
    _train(tmp_path, replace(undecided, kimg=0.016), resume=tmp_path)
    assert used == [2, 2]
    assert torch.get_num_threads() == before
