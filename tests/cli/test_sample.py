"""`privgen sample`: formats, truncation, parts, and going on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from privgen.checkpoints import state
from privgen.checkpoints.state import GeneratorState
from privgen.cli import app
from privgen.config import TrainConfig
from privgen.data.layouts import open_tiles
from privgen.files import sha256_file
from privgen.models import build_generator

CONFIG = TrainConfig(resolution=32, width=4)
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    tensors = build_generator(CONFIG, 2).state_dict()
    kept = GeneratorState(
        config=CONFIG, classes=("STR", "TUM"), class_share=(0.7, 0.3), tensors=tensors
    )
    state.save_generator(path, kept)
    return path


@pytest.fixture
def run(file: Path) -> Run:
    return lambda out, *arguments: CliRunner().invoke(
        app, ["sample", str(file), "--out", str(out), *map(str, arguments)]
    )


def digests(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in found}


def refused(result: Result, *words: str) -> None:
    """Exit code 2, and one line that holds every word."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_tiles_are_written_and_counted(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "o", "--count", 40, "--balance", "uniform", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": str(tmp_path / "o"),
        "tiles": 40,
        "classes": {"STR": 20, "TUM": 20},
        "made": 40,
        "kept": 0,
        "constant": 0,
    }
    assert len(open_tiles(tmp_path / "o")) == 40


def test_the_same_command_again_has_nothing_to_do(run: Run, tmp_path: Path) -> None:
    for said in ("40 made, 0 were there", "nothing to do"):
        result = run(tmp_path / "o", "--count", 40)
        assert result.exit_code == 0
        assert said in result.stderr


def test_other_parameters_on_the_same_folder_are_refused(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path / "o", "--count", 4).exit_code == 0
    again = run(tmp_path / "o", "--count", 4, "--seed", 2, "--truncation", 0.5)
    refused(again, "seed 0 there, 2 asked for", "truncation 1.0 there, 0.5 asked for")


def test_shards_make_the_whole_sample(run: Run, tmp_path: Path) -> None:
    options = ["--count", 100, "--format", "npz", "--tiles-per-file", 32]
    for shard in ("2/3", "1/3", "3/3"):
        assert run(tmp_path / "parts", *options, "--shard", shard).exit_code == 0
    assert run(tmp_path / "whole", *options).exit_code == 0
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert len(digests(tmp_path / "whole")) == 5


def test_truncation_changes_the_tiles_and_1_does_not(run: Run, tmp_path: Path) -> None:
    for name, psi in (("plain", None), ("one", 1.0), ("half", 0.5)):
        options = [] if psi is None else ["--truncation", psi]
        assert run(tmp_path / name, "--count", 4, *options).exit_code == 0
    assert digests(tmp_path / "plain") == digests(tmp_path / "one")
    assert set(digests(tmp_path / "plain").values()).isdisjoint(digests(tmp_path / "half").values())


@pytest.mark.parametrize("shard", ["3/2", "0/2", "half"])
def test_a_shard_that_does_not_exist_is_refused(shard: str, run: Run, tmp_path: Path) -> None:
    refused(run(tmp_path / "o", "--shard", shard), "a shard is K/N", shard)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "options", [["--truncation", "1.5"], ["--format", "jpeg"], ["--count", "0"]]
)
def test_values_out_of_range_are_usage_errors(options: list[str], run: Run, tmp_path: Path) -> None:
    assert run(tmp_path / "o", *options).exit_code == 2
    assert not (tmp_path / "o").exists()


def test_tiles_per_file_of_a_png_are_refused(run: Run, tmp_path: Path) -> None:
    refused(run(tmp_path / "o", "--tiles-per-file", 64), "--format npz")


def test_a_folder_of_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    refused(run(tmp_path, "--count", 4), "must be empty", "precious.txt")
    assert (tmp_path / "precious.txt").read_text() == "keep me"
