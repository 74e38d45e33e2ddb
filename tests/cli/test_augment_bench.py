"""`privgen augment-bench`: refusals in one line, dry runs, and runs that are killed and go on."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from tests.helpers.command_line import one_line
from tests.helpers.processes import alive, started, until

Run = Callable[..., Result]
Folder = Callable[..., Path]

CLASSES = ("LYM", "STR", "TUM")
SHORT = (
    *("--models", "mobilenet", "--ratios", "1", "--seeds", "2", "--updates", "3"),
    *("--device", "cpu", "--no-audit", "--arms", "real,real+synthetic,oversampled,shuffled"),
)
TRAININGS = 4 * 2


def phantom(patients: int, seed: int, classes: tuple[str, ...] = CLASSES) -> TileSet:
    return make_phantom(patients=patients, tiles_per_patient=6, side=16, seed=seed, classes=classes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real` of 10 patients, `made` of as many others, `few` of 4, `lacking` without TUM."""
    root = tmp_path_factory.mktemp("tiles")
    real = phantom(10, 0)
    write_phantom(root / "real", real)
    write_phantom(root / "made", phantom(10, 1))
    write_phantom(root / "few", real.subset(range(24)))
    write_phantom(root / "lacking", phantom(2, 2, CLASSES[:2]))
    (root / "generator.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return root


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, ["augment-bench", *map(str, arguments)])


def line(folders: Path, out: Path, *more: str) -> list[str]:
    """The command line of the short benchmark."""
    real, made = str(folders / "real"), str(folders / "made")
    return [real, "--synthetic", made, *SHORT, "--out", str(out), *more]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("real", "--synthetic", "lacking"), ("synthetic", "TUM", "missing")),
        (("lacking", "--synthetic", "made"), ("patients",)),
        (("few", "--synthetic", "made"), ("needs 3 test patients", "got 1")),
        (("real", "--synthetic", "made", "--models", "resnt"), ("resnt", "Did you mean resnet")),
        (("real", "--synthetic", "made", "--regimes", "0.1"), ("regime", "--train-generator")),
        (("real", "--synthetic", "made", "--regimes", "0.1,x"), ("numbers", "0.1,x")),
        (("real", "--synthetic", "made", "--train-generator", "cdcgan"), ("one place",)),
        (("real",), ("--synthetic",)),
        (("real", "--synthetic", "made", "--arms", "real,rael"), ("rael",)),
        (("real", "--synthetic", "made", "--arms", "shuffled"), ("hold 'real'",)),
        (("real", "--synthetic", "made", "--ratios", "0,1"), ("ratios", "above 0")),
        (("real", "--synthetic", "made", "--ratios", "half"), ("numbers", "half")),
        (("real", "--synthetic", "made", "--ratios", "9"), ("ratio 9", "ratio of")),
        (
            ("real", "--synthetic", "made", "--generator-kimg", "3"),
            ("--generator-kimg needs --train-generator",),
        ),
        (("real", "--synthetic", "made", "--scheduler", "tcp://h:1"), ("--out",)),
        (("real", "--synthetic", "made", "--weights", "resnet"), ("MODEL=WEIGHTS",)),
        (("real", "--generator", "generator.safetensors"), ("generator.safetensors",)),
        (("real", "--train-generator", "cdcgan"), ("--out",)),
        (("nowhere", "--synthetic", "made"), ("nowhere",)),
    ],
)
def test_bad_input_is_refused_in_one_line(
    run: Run, folders: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    there = [
        str(folders / one) if (folders / one).exists() or one == "nowhere" else one
        for one in arguments
    ]
    options = [] if "--ratios" in arguments else ["--ratios", "1"]
    one_line(run(*there, *options, "--seeds", 2, "--updates", 3, "--no-audit"), 2, *words)


def test_a_class_missing_from_the_training_tiles_is_refused(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    """TUM is one patient's, and that patient is tested."""
    real = phantom(10, 0)
    owner = sorted(set(real.groups))
    refused = []
    for patient in owner:
        rows = [
            row
            for row, record in enumerate(real.records)
            if record.label != "TUM" or record.patient == patient
        ]
        write_phantom(tmp_path / patient, real.subset(rows))
        result = run(tmp_path / patient, "--synthetic", folders / "made", "--dry-run")
        refused.append(result)
        if result.exit_code == 2:
            break
    one_line(refused[-1], 2, "TUM")


def test_a_folder_of_something_else_is_refused(run: Run, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    one_line(run(*line(folders, tmp_path)), 2, "must be empty", "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(*line(folders, out, "--dry-run", "--json"))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["trainings"] == TRAININGS
    assert found["minutes"] > 0
    assert f"{TRAININGS} trainings" in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def left_by(out: Path) -> tuple[dict[str, Any], bytes]:
    """The report but for when it was made, and the table."""
    document = json.loads((out / "report.json").read_text())
    del document["created"]
    return document, (out / "cells.csv").read_bytes()


def interrupt(command: list[str], ready: Callable[[int], bool]) -> None:
    """Start a command, and press Ctrl-C when `ready` says so of its process."""
    with started(command) as process:
        until(lambda: ready(process.pid), 120)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        until(lambda: not alive(process.pid), 20)
    assert "Traceback" not in errors
    assert len([text for text in errors.splitlines() if text.startswith("error: ")]) == 1


@pytest.mark.slow
def test_killed_and_stopped_and_repeated_the_report_is_that_of_an_undisturbed_run(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    cells = tmp_path / "out-private" / "cells"
    command = [sys.executable, "-m", "privgen", "augment-bench"]

    def done() -> int:
        return len(list(cells.glob("*.npz")))

    with started([*command, *line(folders, out, "--jobs", "1")]) as process:
        until(lambda: done() >= 1, 120)
        process.kill()
        process.wait(20)
    after_kill = done()
    assert 1 <= after_kill < TRAININGS
    assert not (out / "report.json").exists()

    in_two = [*command, *line(folders, out, "--jobs", "2")]
    interrupt(in_two, lambda pid: len(alive(pid)) >= 3)  # while the workers start
    interrupt(in_two, lambda _: done() > after_kill)  # while they train
    assert done() < TRAININGS

    one_line(run(*line(folders, out, "--seeds", "3")), 2, "seeds changed")
    finished = run(*line(folders, out, "--jobs", "1"))
    assert finished.exit_code == 0, finished.output
    assert f"of {TRAININGS} trainings were done before" in " ".join(finished.stderr.split())
    undisturbed = run(*line(folders, whole, "--jobs", "1"))
    assert undisturbed.exit_code == 0, undisturbed.output
    assert left_by(out) == left_by(whole)
    document, _ = left_by(out)
    rows = document["augment_bench"]["rows"]
    assert {row["updates"] for row in rows} == {3}
