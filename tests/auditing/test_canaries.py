"""Audits of generators that were trained with canaries."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import privgen
from audits import AuditResult
from privgen.auditing import run as run_module
from privgen.auditing.finished import Audit
from privgen.auditing.run import CANARIES_LEFT, PAINTED_OTHERWISE, UNNAMED, audit
from privgen.checkpoints.state import load_checkpoint
from privgen.console import on_terminal
from privgen.data import canaries as canaries_module
from privgen.data.phantom import make_phantom, write_phantom
from privgen.errors import DiskFullError, InputError
from privgen.recipe.document import _require_same_recipe
from privgen.reporting import html

OPTIONS = {"resolution": 32, "batch": 8, "kimg": 0.03, "width": 8, "head_width": 8}
OPTIONS |= {"watch_kimg": 0.0, "discriminator": "own", "threads": 1, "device": "cpu"}
QUICK: dict[str, Any] = {"align": False, "encoder": "pixels", "count": 96}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "tiles"
    write_phantom(folder, make_phantom(patients=30, tiles_per_patient=9, side=32))
    return folder


def _trained(tiles: Path, out: Path, **asked: Any) -> Path:
    return privgen.train(tiles, out=out, config=OPTIONS, **asked).parent.parent


@pytest.fixture(scope="module")
def artificial(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(tiles, tmp_path_factory.mktemp("artificial"), canaries=16)


@pytest.fixture(scope="module")
def real(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    return _trained(tiles, out, holdout=0.5, canaries=10, canaries_from="real")


def _results(found: Audit) -> dict[str, AuditResult]:
    return {result.name: result for result in found.report.results}


def test_artificial_canaries_are_looked_for_and_reported(artificial: Path) -> None:
    found = audit(generator=artificial, **QUICK)
    canaries = load_checkpoint(artificial).ledger.canaries
    assert canaries is not None
    test = _results(found)["canaries"]
    assert test.statistic.n == 16
    assert test.details["member_patients"] == sum(canaries.included)
    assert {"epsilon_one_run", "epsilon_f_dp"} <= _results(found).keys()
    page = html.render(found.document)
    assert "Canaries, and epsilon" in page
    assert "16 artificial patients" not in found.verdict.sentence


def test_a_generator_that_shows_its_canaries_does_not_pass(
    artificial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries = load_checkpoint(artificial).ledger.canaries
    assert canaries is not None
    painted, labels = canaries.training_tiles()

    def shown(*_: Any, **__: Any) -> tuple[np.ndarray, np.ndarray]:
        return painted, np.array(canaries.classes)[labels]

    monkeypatch.setattr(run_module, "sample", shown)
    found = audit(generator=artificial, **{**QUICK, "count": len(painted)})
    test = _results(found)["canaries"]
    assert (test.statistic.value, test.rejected) == (1.0, True)
    patient = found.verdict.harms[2]
    assert patient.outcome.value == "INCONCLUSIVE"
    assert "16 artificial patients whose coins" in patient.reason


def test_real_canaries_are_found_among_the_tiles_of_the_ledger(real: Path, tiles: Path) -> None:
    found = audit(generator=real, **QUICK)
    test = _results(found)["canaries"]
    assert test.statistic.n == 10
    assert not test.details["artificial"]
    text = html.render(found.document) + json.dumps(found.document)
    for patient in load_checkpoint(real).ledger.canaries.patients:  # type: ignore[union-attr]
        assert patient not in text


def test_a_verdict_whose_report_cannot_be_written_is_said(
    real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> None:
        raise DiskFullError("no space")

    monkeypatch.setattr(Audit, "write", full)
    with on_terminal(), pytest.raises(DiskFullError):
        audit(generator=real, out=tmp_path / "out", **QUICK)
    said = " ".join(capsys.readouterr().err.split())
    assert "the report could not be written. " in said
    assert "INCONCLUSIVE" in said.partition("could not be written.")[2]


def test_real_canaries_are_said_to_be_left_where_roles_are_given(real: Path, tiles: Path) -> None:
    ledger = load_checkpoint(real).ledger
    opened = privgen.open_tiles(tiles)
    rows: dict[str, list[int]] = {"train": [], "holdout": []}
    place = {record.path: row for row, record in enumerate(opened.records)}
    for entry in ledger.entries:
        if entry.role in rows:
            rows[entry.role].append(place[entry.path])
    roles = {role: opened.subset(chosen) for role, chosen in rows.items()}
    found = audit(generator=real, **roles, **QUICK)
    assert "canaries" not in _results(found)
    assert CANARIES_LEFT in found.report.warnings


def test_the_audit_of_a_recipe_does_not_speak_for_a_release_with_artificial_patients(
    artificial: Path,
) -> None:
    with pytest.raises(InputError, match=r"trained on \d+ artificial ones too"):
        _require_same_recipe({}, load_checkpoint(artificial))  # type: ignore[arg-type]


def test_a_generator_file_says_that_its_canaries_were_not_looked_for(
    artificial: Path, tiles: Path
) -> None:
    opened = privgen.open_tiles(tiles)
    half = np.array(sorted(set(opened.groups)))[:15]
    train, holdout = (
        opened.subset(np.flatnonzero(np.isin(opened.groups, half) == side))
        for side in (True, False)
    )
    found = audit(
        generator=artificial / "generator.safetensors", train=train, holdout=holdout, **QUICK
    )
    assert "canaries" not in _results(found)
    assert UNNAMED in found.report.warnings


def test_canaries_that_are_painted_otherwise_are_said_to_be_left(
    artificial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries_module, "_DEPTH", 0.5)
    found = audit(generator=artificial, **QUICK)
    assert "canaries" not in _results(found)
    assert PAINTED_OTHERWISE in found.report.warnings
