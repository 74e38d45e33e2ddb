"""The training loop: what a run leaves behind, exact resume, interruption, bad tiles."""

import json
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.config import TrainConfig
from privgen.data import images
from privgen.data.tileset import TileSet
from privgen.errors import (
    CheckpointError,
    ConfigError,
    Interrupted,
    LayoutError,
    NonFiniteLossError,
)
from privgen.sampling import load_generator, sample
from privgen.training import dry_run, engine, loop

CONFIG = TrainConfig(
    resolution=32,
    width=8,
    head_width=8,
    batch=8,
    kimg=0.032,  # 4 steps
    precision="float32",
    device="cpu",
    threads=1,
    log_steps=2,
    grid_steps=2,
)


def _tiles(side: int = 32, labels: tuple[str, ...] = ("str", "tum") * 5) -> TileSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (len(labels), side, side, 3)).astype(np.uint8)
    return TileSet.from_arrays(pixels, labels, patients=[f"p{k // 2}" for k in range(len(labels))])


def _ledger(tiles: TileSet) -> Ledger:
    entries = tuple(
        LedgerEntry(role="train", path=r.path, sha256="", label=r.label, group=r.patient or "")
        for r in tiles.records
    )
    return Ledger(
        root=None, layout="arrays", group_unit="patient", split={"seed": 0}, entries=entries
    )


def _train(folder: Path, config: TrainConfig = CONFIG, resume: Path | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    tiles = _tiles()
    return loop.train(tiles, config, run_folder=folder, ledger=_ledger(tiles), resume=resume)


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _assert_equal(a: object, b: object) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            _assert_equal(a[key], b[key])
    else:
        assert a == b


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "00000-run"
    _train(folder)
    return folder


def test_a_run_leaves_its_configuration_log_grids_checkpoint_and_generator(finished: Path) -> None:
    assert TrainConfig.from_dict(json.loads((finished / "config.json").read_text())) == CONFIG
    lines = _lines(finished)
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[-1]["kimg"] == pytest.approx(0.032)
    assert {"generator_loss", "discriminator_loss", "diversity"} <= lines[0].keys()
    timing = (finished / "timing.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in timing] == [2, 4]
    assert {"seconds", "images_per_second"} <= json.loads(timing[0]).keys()
    assert [p.name for p in sorted((finished / "fakes").iterdir())] == [
        "fakes-000002.png",
        "fakes-000004.png",
    ]
    checkpoint = finished / "checkpoints" / "ckpt-00000004.pt"
    assert stat.S_IMODE(os.stat(checkpoint).st_mode) == 0o600
    assert state.load_checkpoint(checkpoint).ledger == _ledger(_tiles())


def test_a_grid_has_a_row_a_class_and_a_column_a_latent(finished: Path) -> None:
    grid = images.read_tile(finished / "fakes" / "fakes-000004.png")
    assert grid.shape[0] < grid.shape[1]
    assert 2 * 32 <= grid.shape[0] <= 2 * 32 + 12
    assert 10 * 32 <= grid.shape[1] <= 10 * 32 + 24


def test_checkpoint_and_generator_file_sample_the_same_tiles(finished: Path) -> None:
    private, shared = load_generator(finished), load_generator(finished / "generator.safetensors")
    a, b = sample(private, 5, seed=1), sample(shared, 5, seed=1)
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert shared.classes == ("str", "tum")
    assert shared.class_share == (0.5, 0.5)


def test_the_generator_file_names_no_tile_and_no_patient(finished: Path) -> None:
    content = (finished / "generator.safetensors").read_bytes()
    for record in _tiles().records:
        assert record.path.encode() not in content
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    assert b"p0" not in header
    assert b"ledger" not in header


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, precision: str
) -> None:
    config = replace(CONFIG, precision=precision, kimg=0.04)  # type: ignore[arg-type]
    whole = state.load_checkpoint(_train(tmp_path / "whole", config))
    _train(tmp_path / "parts", replace(config, kimg=0.024))  # 3 steps, between two log lines
    resumed = state.load_checkpoint(_train(tmp_path / "parts", config, resume=tmp_path / "parts"))
    assert resumed.step == whole.step == 5
    for name in (
        "generator",
        "average",
        "discriminator",
        "generator_optimizer",
        "discriminator_optimizer",
        "running",
        "adaptive",
        "scaler",
        "selected",
    ):
        _assert_equal(getattr(whole, name), getattr(resumed, name))
    logs = [(tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    grid = images.read_tile(tmp_path / "whole" / "fakes" / "fakes-000004.png")
    again = images.read_tile(tmp_path / "parts" / "fakes" / "fakes-000004.png")
    np.testing.assert_array_equal(grid, again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_step = engine.Engine.step

    def interrupted_step(self: engine.Engine, *args: object) -> dict[str, float]:
        if args[2] == 1:
            os.kill(os.getpid(), number)
        return true_step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.Engine, "step", interrupted_step)
    before = signal.getsignal(number)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"after step 2.*privgen train --resume {folder}"):
        _train(folder)
    assert signal.getsignal(number) is before
    assert state.load_checkpoint(folder).step == 2
    monkeypatch.undo()
    assert _train(folder, resume=folder).name == "ckpt-00000004.pt"


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_step = engine.Engine.step

    def broken_step(self: engine.Engine, *args: object) -> dict[str, float]:
        if args[2] == 2:
            raise NonFiniteLossError("a loss is not finite")
        return true_step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.Engine, "step", broken_step)
    with pytest.raises(NonFiniteLossError):
        _train(tmp_path / "run", replace(CONFIG, checkpoint_minutes=0.0))
    assert state.load_checkpoint(tmp_path / "run").step == 2


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    _train(tmp_path / "run", replace(CONFIG, checkpoint_minutes=0.0))
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["ckpt-00000003.pt", "ckpt-00000004.pt"]


def test_a_budget_in_minutes_ends_the_run(tmp_path: Path) -> None:
    path = _train(tmp_path / "run", replace(CONFIG, kimg=None, minutes=1e-4))
    assert path.name == "ckpt-00000001.pt"


def test_resume_refuses_another_configuration_and_lists_the_keys(finished: Path) -> None:
    changed = replace(CONFIG, width=16, seed=3, kimg=1.0)
    with pytest.raises(ConfigError, match=r"changed: seed: 0 -> 3; width: 8 -> 16\. Take these"):
        _train(finished, changed, resume=finished)


def test_resume_refuses_other_tiles(finished: Path) -> None:
    for labels in (("a", "b") * 5, ("str", "tum") * 6):
        tiles = _tiles(labels=labels)
        with pytest.raises(CheckpointError, match="was trained on"):
            loop.train(tiles, CONFIG, run_folder=finished, ledger=_ledger(tiles), resume=finished)


def test_a_class_with_one_tile_is_refused_by_name(tmp_path: Path) -> None:
    tiles = _tiles(labels=("str",) * 4 + ("tum",))
    with pytest.raises(LayoutError, match="needs two training tiles: tum has 1"):
        loop.train(tiles, CONFIG, run_folder=tmp_path, ledger=_ledger(tiles))
    assert list(tmp_path.iterdir()) == []


def test_tiles_smaller_than_the_resolution_are_refused_with_both_sizes(tmp_path: Path) -> None:
    tiles = _tiles(side=24)
    with pytest.raises(LayoutError, match=r"the resolution, 32 px: str/000000.png is 24x24"):
        loop.train(tiles, CONFIG, run_folder=tmp_path, ledger=_ledger(tiles))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_what_would_happen_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = dry_run.plan(_tiles(), CONFIG)
    assert list(tmp_path.iterdir()) == []
    assert plan["steps"] == 4
    assert plan["kimg"] == pytest.approx(0.032)
    assert plan["classes"] == {"str": 5, "tum": 5}
    assert plan["precision"] == "float32"
    generator = engine.Engine(CONFIG, 2).generator
    assert plan["parameters"]["generator"] == sum(p.numel() for p in generator.parameters())
    assert plan["minutes"] == pytest.approx(4 / plan["steps_per_second"] / 60)
    json.dumps(plan, allow_nan=False)


def test_the_checkpoint_is_as_large_as_planned(finished: Path) -> None:
    planned = dry_run.plan(_tiles(), CONFIG)["checkpoint_mib"] * 2**20
    found = (finished / "checkpoints" / "ckpt-00000004.pt").stat().st_size
    assert planned < found < 1.5 * planned + 500_000


@pytest.mark.parametrize("precision", ["float16", "float64"])
def test_every_precision_reaches_the_generator_file(tmp_path: Path, precision: str) -> None:
    config = replace(CONFIG, precision=precision, kimg=0.016)  # type: ignore[arg-type]
    _train(tmp_path / "run", config)
    private, shared = (
        load_generator(tmp_path / "run" / name) for name in (".", "generator.safetensors")
    )
    np.testing.assert_array_equal(sample(private, 3, seed=1)[0], sample(shared, 3, seed=1)[0])
