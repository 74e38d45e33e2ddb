"""`privgen export`: two files to share, and one line where that cannot be."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.state import (
    Checkpoint,
)
from privgen.cli import app
from privgen.config import TrainConfig
from privgen.models import build_generator

CONFIG = TrainConfig(resolution=32, width=4)
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = build_generator(CONFIG, 2).state_dict()
    entries = tuple(
        LedgerEntry(role="train", path=f"{n}.png", sha256=f"{n:064d}", label=label, group=f"p{n}")
        for n, label in enumerate(["STR", "TUM"] * 6)
    )
    given = {
        "config": CONFIG,
        "classes": ("STR", "TUM"),
        "class_share": (0.5, 0.5),
        "step": 10,
        "seconds": 1.0,
        "generator": weights,
        "average": weights,
        "ledger": Ledger(
            root=None, layout="arrays", group_unit="patient", split={"seed": 0}, entries=entries
        ),
    }
    empty: dict[str, Any] = {key.name: {} for key in fields(Checkpoint)}
    empty |= {"seconds": 0.0, "processes": 1}
    path = tmp_path_factory.mktemp("run") / "ckpt-00000010.pt"
    state.save_checkpoint(path, Checkpoint(**{**empty, "code": "", **given}))
    return path


def refused(result: Result, *words: str) -> None:
    """Exit code 2, and one line that holds every word."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_the_folder_is_written_and_the_missing_audit_is_pointed_out(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    result = run("export", checkpoint, "--out", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    files = ["generator.safetensors", "MODEL_CARD.md"]
    assert json.loads(result.stdout) == {"out": str(tmp_path / "o"), "files": files}
    assert {path.name for path in (tmp_path / "o").iterdir()} == set(files)
    assert "nobody has audited this generator" in result.stderr


def test_the_command_on_the_card_samples(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("export", checkpoint, "--out", tmp_path / "o").exit_code == 0
    monkeypatch.chdir(tmp_path / "o")
    card = Path("MODEL_CARD.md").read_text()
    block = re.search(r"```sh\nprivgen (.*)\n```", card)
    assert block is not None
    result = run(*shlex.split(block[1].replace("1000", "3")))
    assert result.exit_code == 0, result.output
    assert len(list(Path("tiles").rglob("*.png"))) == 3


def test_a_generator_file_is_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("export", checkpoint, "--out", tmp_path / "o").exit_code == 0
    again = run("export", tmp_path / "o" / "generator.safetensors", "--out", tmp_path / "p")
    refused(again, "does not say what it was trained on", ".pt checkpoint")


def test_a_report_that_is_none_is_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    out = tmp_path / "o"
    refused(
        run("export", checkpoint, "--out", out, "--report", tmp_path / "r.json"), "is not a report"
    )
    refused(run("export", checkpoint, "--out", out, "--report", tmp_path / "no.json"), "no.json")
    assert not out.exists()


def test_a_checkpoint_that_is_missing_is_refused(run: Run, tmp_path: Path) -> None:
    refused(run("export", tmp_path / "none.pt", "--out", tmp_path / "o"), "none.pt")
