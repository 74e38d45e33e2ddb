"""privgen as a library: quiet, one error base, paths as text, objects that show themselves."""

import logging

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
