"""privgen as a library: quiet, one error base, paths as text, objects that show themselves."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audits
import privgen
from privgen import console
from privgen.phases import phase


def test_notes_and_warnings_go_to_logging(
    as_library: None, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="privgen"):
        console.note("a note")
        console.warn("a warning")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "a note"),
        ("WARNING", "a warning"),
    ]
    assert capsys.readouterr().err == ""


def test_progress_is_silent_unless_asked_for(
    as_library: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privgen.phases.SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(console._stderr, "_force_terminal", True)
    assert console.bars() is None
    with phase("work", total=3) as work:
        work.advance()
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("a note")
    assert "a note" in capsys.readouterr().err


def test_one_base_catches_what_either_package_raises() -> None:
    assert issubclass(audits.AuditInputError, privgen.PrivgenError)
    with pytest.raises(privgen.PrivgenError):
        audits.Tiles("train", [])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def audit() -> privgen.Audit:
    def role(seed: int, names: str) -> privgen.TileSet:
        tiles = privgen.make_phantom(patients=6, tiles_per_patient=9, side=32, seed=seed)
        patients = [f"{names}{one}" for one in tiles.groups]
        return privgen.TileSet.from_arrays(tiles.load(), tiles.labels, patients=patients)

    made = privgen.make_phantom(patients=5, tiles_per_patient=9, side=32, seed=3).load()
    return privgen.audit(
        train=role(0, "t"), holdout=role(1, "h"), synthetic=made, encoder="colour", align=False
    )


def test_an_audit_shows_its_verdict(audit: privgen.Audit) -> None:
    assert repr(audit) == f"Audit({audit.verdict.sentence})"
    assert audit.verdict.sentence in repr(audit.verdict)
    for page in (audit._repr_html_(), audit.verdict._repr_html_()):
        assert page.count("<table>") == 1
        assert "patient membership" in page


def test_an_audit_becomes_data_frames(audit: privgen.Audit) -> None:
    pytest.importorskip("pandas")
    results = audit.to_pandas()
    assert list(results["name"]) == [result.name for result in audit.report.results]
    assert {"value", "low", "high", "n", "unit", "p_adjusted"} <= set(results.columns)
    power = audit.to_pandas("power")
    assert len(power) == len(audit.report.power)
    with pytest.raises(privgen.PrivgenError, match="`what` must be one of results, power"):
        audit.to_pandas("cells")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["power", "membership"])
def test_an_audit_becomes_figures(audit: privgen.Audit, what: Any, tmp_path: Path) -> None:
    audit.plot(what).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_a_missing_pandas_says_what_to_install(
    audit: privgen.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(privgen.PrivgenError, match=r"pip install 'privgen\[pandas\]'"):
        audit.to_pandas()


def test_a_tile_set_says_what_it_is_and_names_nobody() -> None:
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    tiles = privgen.TileSet.from_arrays(pixels, ["<b>", "a"], patients=["Smith", "Jones"])
    assert repr(tiles) == "TileSet(layout arrays, tiles 2, patients 2, classes <b>, a, left out 0)"
    assert "&lt;b&gt;" in tiles._repr_html_()
    assert "Smith" not in repr(tiles) + tiles._repr_html_()


def test_a_run_without_measurements_has_no_figure(tmp_path: Path) -> None:
    with pytest.raises(privgen.PrivgenError, match="holds no watch"):
        privgen.plot_progress(tmp_path)
