"""`privgen train`: options over a TOML file over a preset; dry runs; runs that go on."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from privgen.checkpoints import state
from privgen.cli import app
from privgen.data.phantom import make_phantom, write_phantom
from privgen.training import engine

Run = Callable[..., Result]

TINY = """\
family = "cdcgan-2025"
resolution = 32
width = 4
head_width = 4
batch = 8
kimg = 8.0
threads = 1
watch_kimg = 0.0
device = "cpu"
loss = "hinge"
"""


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "tiles"
    folder.mkdir()
    write_phantom(folder, make_phantom(patients=4, tiles_per_patient=27, side=32, seed=0))
    return folder


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


def refused(result: Result, code: int, *words: str) -> None:
    """The command failed with `code` and said why in exactly one line that holds every word."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0]


def test_options_win_over_the_file_and_the_file_over_the_preset(
    run: Run, tiles: Path, toml: Path, tmp_path: Path
) -> None:
    given = ["--config", toml, "--out", tmp_path, "--kimg", "0.016", "--batch", "4", "--seed", "5"]
    result = run(tiles, *given, "--json")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "00000-tiles-cdcgan-2025"
    said = json.loads(result.stdout)
    checkpoint = folder / "checkpoints" / "ckpt-00000004.pt"  # 16 tiles in batches of 4
    assert said == {"run": str(folder), "checkpoint": str(checkpoint)}
    kept: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert (kept["kimg"], kept["batch"], kept["seed"]) == (0.016, 4, 5)  # asked for
    assert (kept["width"], kept["loss"], kept["watch_kimg"]) == (4, "hinge", 0.0)  # of the file
    assert (kept["generator_beta1"], kept["ema_kimg"]) == (0.9, 0.0)  # of the preset
    assert kept["log_steps"] == 20  # of nobody
    assert state.load_checkpoint(checkpoint).ledger.split["seed"] == 5


def test_a_flag_that_is_not_given_leaves_the_file_alone(
    run: Run, tiles: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(TINY.replace("kimg = 8.0", "kimg = 0.008") + "deterministic = true\n")
    assert run(tiles, "--config", path, "--out", tmp_path / "runs").exit_code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "config.json").read_text())["deterministic"] is True


def test_a_dry_run_foretells_and_writes_nothing(
    run: Run, tiles: Path, toml: Path, tmp_path: Path
) -> None:
    result = run(tiles, "--config", toml, "--out", tmp_path / "runs", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan.keys() == {
        "family",
        "discriminator",
        "resolution",
        "tiles",
        "classes",
        "parameters",
        "device",
        "precision",
        "steps_per_second",
        "images_per_second",
        "memory_mib",
        "checkpoint_mib",
        "steps",
        "kimg",
        "minutes",
    }
    assert (plan["family"], plan["discriminator"], plan["resolution"]) == ("cdcgan-2025", "own", 32)
    assert plan["steps"] == 1000  # 8 kimg in batches of 8
    assert plan["tiles"] == sum(plan["classes"].values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resolutoin = 64\n", ["'resolutoin'", "did you mean resolution?"]),
        ("batch = 'many'\n", ["batch must be int: got 'many'"]),
        ("select_by = 'best'\n", ["select_by must be one of last, fd, fd,leak: got 'best'"]),
        ("family = 'gan'\n", ["unknown generator family 'gan'; known: cdcgan, cdcgan-2025"]),
        ("resolution = [64\n", ["cannot read configuration", "c.toml"]),
        ("\udcff", ["cannot read configuration", "c.toml"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    run: Run, tiles: Path, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused(run(tiles, "--config", path, "--out", tmp_path / "runs"), 2, *words)
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_missing_is_named(run: Run, tiles: Path, tmp_path: Path) -> None:
    result = run(tiles, "--config", tmp_path / "none.toml", "--out", tmp_path / "runs")
    refused(result, 2, "none.toml", "there is nothing at")


def test_a_command_that_is_repeated_after_a_stop_goes_on_and_then_starts_anew(
    run: Run, tiles: Path, toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [tiles, "--config", toml, "--kimg", "0.024", "--out", tmp_path, "--resume", "auto"]
    true_step = engine.Engine.step
    made: list[int] = []

    def step(self: engine.Engine, pixels: Any, labels: Any, number: int) -> dict[str, float]:
        made.append(number)
        if made == [0]:
            os.kill(os.getpid(), signal.SIGUSR1)
        return true_step(self, pixels, labels, number)

    monkeypatch.setattr(engine.Engine, "step", step)
    first = run(*command)
    folder = tmp_path / "00000-tiles-cdcgan-2025"
    refused(first, 130, "stopped after step 1", f"privgen train --resume {folder}")
    assert run(*command).exit_code == 0
    assert made == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert state.load_checkpoint(folder).step == 3
    assert run(*command).exit_code == 0
    assert made == [0, 1, 2, 0, 1, 2]
    assert (tmp_path / "00001-tiles-cdcgan-2025" / "generator.safetensors").exists()
    other = run("--resume", folder, "--family", "stylegan2")
    refused(other, 2, "cdcgan-2025", "--family stylegan2")
    changed = run("--resume", folder, "--batch", "16")
    refused(changed, 2, "batch: 8 -> 16")


def test_resume_and_data_are_both_missing(run: Run, tmp_path: Path) -> None:
    refused(run("--out", tmp_path / "runs"), 2, "--resume")
    refused(run("--out", tmp_path / "runs", "--resume", "auto"), 2, "--resume")
