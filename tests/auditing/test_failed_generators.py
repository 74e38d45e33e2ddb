"""Generators that failed: refused where they are audited, sampled or given away, in one line."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from privgen.checkpoints import state
from privgen.checkpoints.roles import ledger_of
from privgen.checkpoints.state import Checkpoint, GeneratorState
from privgen.cli import app
from privgen.config import TrainConfig
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.splits import split_by_patient
from privgen.errors import CheckpointError, InputError, RuntimeFailure
from privgen.models import build_generator
from privgen.release.folder import write_samples
from privgen.release.probing import probed
from privgen.sampling import LoadedGenerator, load_generator, sample

CONFIG = TrainConfig(resolution=32, width=4)
CLASSES = ("STR", "TUM")
Spoil = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "tiles"
    write_phantom(folder, make_phantom(patients=8, tiles_per_patient=8, side=32, classes=CLASSES))
    return folder


def checkpoint(path: Path, folder: Path, spoil: Spoil) -> Path:
    """A checkpoint of spoiled weights, with a ledger."""
    tiles = open_tiles(folder)
    torch.manual_seed(0)
    weights = build_generator(CONFIG, 2).state_dict()
    spoil(weights)
    given: dict[str, Any] = {"config": CONFIG, "classes": CLASSES, "class_share": (0.5, 0.5)}
    given |= {"step": 9, "seconds": 1.0, "average": weights}
    given["ledger"] = ledger_of(
        tiles, split_by_patient(tiles, holdout=0.4, siblings=0.0, seed=0), parameters={}
    )
    empty: dict[str, Any] = {key.name: {} for key in fields(Checkpoint)}
    empty |= {"seconds": 0.0, "processes": 1}
    state.save_checkpoint(path, Checkpoint(**{**empty, "code": "", **given}))
    return path


def nan(weights: dict[str, torch.Tensor]) -> None:
    weights["to_rgb.weight"].view(-1)[3] = float("nan")


def infinite(weights: dict[str, torch.Tensor]) -> None:
    weights["to_rgb.bias"].fill_(float("-inf"))


def black(weights: dict[str, torch.Tensor]) -> None:
    weights["to_rgb.weight"].zero_()
    weights["to_rgb.bias"].fill_(-20.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nan, ("weights must be numbers: 1 of", "first: 'to_rgb.weight'")),
        (infinite, ("weights must be numbers: 1 of", "first: 'to_rgb.bias'")),
        (black, ("all", "tiles of class", "are constant, of grey level 0")),
    ],
)
def test_it_is_neither_audited_nor_sampled_nor_exported(
    spoil: Spoil, words: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "failed.pt", folder, spoil)
    cheap = ("--encoder", "colour", "--no-align", "--count", "40")
    one_line(run("audit", "--generator", path, *cheap), *words)
    one_line(run("sample", path, "--out", tmp_path / "samples", "--count", "8"), *words)
    one_line(run("export", path, "--out", tmp_path / "share"), *words)
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "share").exists()


def test_a_generator_file_of_nan_is_not_loaded(tmp_path: Path) -> None:
    weights = build_generator(CONFIG, 2).state_dict()
    nan(weights)
    kept = GeneratorState(
        config=CONFIG, classes=CLASSES, class_share=(0.5, 0.5), tensors=dict(weights)
    )
    state.save_generator(tmp_path / "g.safetensors", kept)
    with pytest.raises(CheckpointError, match="hold NaN or infinite values"):
        load_generator(tmp_path / "g.safetensors")


class Fake(torch.nn.Module):
    """A generator of tiles that are chosen by class and latent."""

    z_dim = 4
    noise_shapes = ()

    def __init__(self, make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self._make = make

    def forward(self, z: torch.Tensor, labels: torch.Tensor, noise: object) -> torch.Tensor:
        pattern = torch.sin(torch.arange(256.0)).reshape(1, 1, 16, 16)
        return self._make(z, labels)[:, None, None, None] * pattern.expand(len(z), 3, 16, 16)


def generator(make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> LoadedGenerator:
    return LoadedGenerator(
        network=Fake(make).eval(),
        family="cdcgan",
        classes=CLASSES,
        class_share=(0.5, 0.5),
        resolution=16,
    )


def test_one_constant_class_is_enough_to_refuse(tmp_path: Path) -> None:
    half = generator(lambda z, labels: labels.float())
    with pytest.raises(InputError, match="all 8 tiles of class STR are constant"):
        probed(half)
    with pytest.raises(InputError, match="class STR"):
        write_samples(half, tmp_path / "o", count=4, seed=0)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("format", ["png", "npz"])
def test_single_constant_tiles_are_counted_and_warned_of(
    format: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = generator(lambda z, labels: (z[:, 0] > 0).float())
    written = write_samples(some, tmp_path / "o", count=64, seed=0, format=format)
    tiles, _ = sample(some, 64, seed=0)
    constant = int((np.ptp(tiles.reshape(64, -1), axis=1) == 0).sum())
    assert 16 < constant < 48
    assert written.constant == constant
    assert f"{constant} of 64 synthetic tiles are constant" in capsys.readouterr().err


def test_finite_weights_that_make_no_numbers_are_refused() -> None:
    overflowing = generator(lambda z, labels: torch.full((len(z),), float("nan")))
    with pytest.raises(RuntimeFailure, match="values that are no numbers"):
        sample(overflowing, 2, seed=0)
