"""Phantom to report through the command line, small; and a training run that is interrupted."""

import json
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.images import read_tile
from privgen.reporting import html

pytestmark = pytest.mark.slow
TRAIN = ["--resolution", "32", "--batch", "8"]
CHEAP = ["--encoder", "colour"]  # the default one has its turn in the demo and on real tiles


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeeded(result: Result, *codes: int) -> Result:
    assert result.exit_code in (codes or (0,)), result.output
    return result


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e2e") / "tiles"
    arguments = ["--out", folder, "--patients", 12, "--tiles", 18, "--side", 32]
    succeeded(run("data", "phantom", *arguments))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    result = succeeded(run("train", tiles, *TRAIN, "--kimg", 0.2, "--out", runs, "--json"))
    return Path(json.loads(result.stdout)["checkpoint"])


def test_data_check_describes_the_phantom(tiles: Path) -> None:
    checked = json.loads(succeeded(run("data", "check", tiles, "--json")).stdout)
    assert checked["group_unit"] == "patient"
    assert checked["groups"] == 12
    assert len(checked["classes"]) == 9
    assert checked["repeated"] == {"within_group": 0, "across_groups": 0, "across_classes": 0}


def test_dry_run_writes_nothing(tiles: Path, tmp_path: Path) -> None:
    result = succeeded(
        run("train", tiles, *TRAIN, "--kimg", 1, "--out", tmp_path / "r", "--dry-run")
    )
    assert "train" in result.stderr
    assert not (tmp_path / "r").exists()


def test_run_folder_holds_what_the_readme_promises(checkpoint: Path) -> None:
    folder = checkpoint.parent.parent
    assert re.fullmatch(r"00000-tiles-cdcgan", folder.name)
    assert stat.S_IMODE(checkpoint.stat().st_mode) == 0o600
    assert {"config.json", "log.jsonl", "generator.safetensors"} <= {
        p.name for p in folder.iterdir()
    }
    for line in (folder / "log.jsonl").read_text().splitlines():
        assert "kimg" in json.loads(line)


def test_generator_file_names_no_patient_and_no_path(checkpoint: Path, tiles: Path) -> None:
    content = (checkpoint.parent.parent / "generator.safetensors").read_bytes()
    manifest = (tiles / "manifest.csv").read_text()
    for secret in ("P000", str(tiles), "sha256", manifest.splitlines()[1].split(",")[0]):
        assert secret.encode() not in content


def test_samples_come_in_class_folders(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "synthetic"
    succeeded(run("sample", checkpoint, "--out", out, "--count", 20, "--balance", "uniform"))
    files = sorted(out.rglob("*.png"))
    assert len(files) == 20
    assert len({file.parent.name for file in files}) == 9
    assert read_tile(files[0]).shape == (32, 32, 3)


def test_audit_of_a_checkpoint_needs_nothing_more(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = run(
        *("audit", "--generator", checkpoint, "--count", 64, *CHEAP, "--out", out, "--json")
    )
    succeeded(result, 0, 1, 4)
    document = json.loads(result.stdout)
    html.validate(document)
    assert json.loads((out / "report.json").read_text()) == document
    page = (out / "report.html").read_text()
    assert document["audit"]["verdict"]["sentence"].split(":")[0] in page
    roles = document["data"]["roles"]
    assert roles["train"]["patients"] + roles["holdout"]["patients"] == 12
    for secret in ("P000", str(checkpoint.parent)):
        assert secret not in page
        assert secret not in result.stdout


def test_audit_finds_moved_data_only_where_it_is_told(checkpoint: Path, tiles: Path) -> None:
    moved = tiles.parent / "moved"
    tiles.rename(moved)
    try:
        lost = run("audit", "--generator", checkpoint, "--count", 8)
        assert lost.exit_code == 2
        assert "--data" in lost.stderr
        few = ["--count", 8, *CHEAP, "--no-align"]
        found = run("audit", "--generator", checkpoint, *few, "--data", moved)
        succeeded(found, 0, 1, 4)
    finally:
        moved.rename(tiles)


def test_generator_file_cannot_be_audited_without_real_tiles(checkpoint: Path) -> None:
    result = run("audit", "--generator", checkpoint.parent.parent / "generator.safetensors")
    assert result.exit_code == 2
    assert "--holdout" in result.stderr


def test_augment_bench_on_a_generator(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    arguments = ["--generator", checkpoint, "--models", "mobilenet", "--seeds", 2, "--ratios", 1]
    few = ["--arms", "real,real+synthetic", "--updates", 4, "--no-audit"]
    result = succeeded(run("augment-bench", *arguments, *few, "--out", out, "--json"))
    html.validate(json.loads(result.stdout))
    assert "mobilenet" in (out / "report.html").read_text()


def test_interrupted_training_saves_and_resumes(tiles: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "privgen", "train", str(tiles), *TRAIN, "--kimg", "50"]
    process = subprocess.Popen(
        [*command, "--out", str(runs)], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    log = runs / "00000-tiles-cdcgan" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "--resume" in lines[0]
    reached = _last_step(log)
    succeeded(run("train", "--resume", runs / "00000-tiles-cdcgan", "--kimg", 0.001))
    assert _last_step(log) >= reached


def _last_step(log: Path) -> int:
    return int(json.loads(log.read_text().splitlines()[-1])["step"])
