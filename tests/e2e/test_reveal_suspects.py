"""Revealing suspects: one private file more, and not a word of difference in the report."""

import json
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privgen.auditing import finished, judging, run
from privgen.cli import app
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError

SOURCE = 5


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Few tiles on disk; the third synthetic tile is a train tile turned by a quarter."""
    tiles = make_phantom(patients=6, tiles_per_patient=8, side=64, classes=("MUS", "NORM", "TUM"))
    rows = {"train": range(24), "holdout": range(24, 40), "synthetic": range(40, 48)}
    folder = tmp_path_factory.mktemp("tiles")
    given: dict[str, Any] = {}
    for role, wanted in rows.items():
        part = tiles.subset(wanted)
        if role == "synthetic":
            pixels = part.load().copy()
            pixels[2] = np.rot90(tiles.subset([SOURCE]).load()[0])
            part = TileSet.from_arrays(pixels, part.labels)
        write_phantom(folder / role, part)
        given[role] = folder / role
    return given


@pytest.fixture(autouse=True)
def few_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "collect", partial(judging.collect, planted_per_kind=2))


def test_the_page_is_private_and_the_report_does_not_know_of_it(
    sources: dict[str, Any], tmp_path: Path
) -> None:
    for name, options in (("plain", {"align": True}), ("revealed", {"reveal_suspects": True})):
        run.audit(**sources, encoder="pixels", out=tmp_path / name, **options)
    plain, revealed = tmp_path / "plain", tmp_path / "revealed"
    assert {file.name for file in plain.iterdir()} == {"report.json", "report.html"}
    assert {file.name for file in revealed.iterdir()} == {
        "report.json",
        "report.html",
        "suspects.html",
    }
    assert stat.S_IMODE((revealed / "suspects.html").stat().st_mode) == 0o600
    reports = [json.loads((folder / "report.json").read_text()) for folder in (plain, revealed)]
    for report in reports:
        report.pop("created")
    assert reports[0] == reports[1]
    written = [(folder / "report.html").read_text() for folder in (plain, revealed)]
    page = (revealed / "suspects.html").read_text()
    record = open_tiles(sources["train"]).records[SOURCE]
    assert "suspect" not in written[1].replace("suspect copying rather than quality", "")
    for kept in (record.path, str(sources["train"])):
        assert kept in page.split("</article>")[0]
        assert not any(kept in text for text in (*written, json.dumps(reports)))


def test_revealing_needs_somewhere_to_write(sources: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="private file only: got no output folder"):
        run.audit(**sources, reveal_suspects=True)


def test_the_command_names_the_private_file(sources: dict[str, Any], tmp_path: Path) -> None:
    given = [str(part) for role, path in sources.items() for part in (f"--{role}", path)]
    arguments = ["audit", *given, "--encoder", "pixels", "--reveal-suspects"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "Give --out." in refused.stderr
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code in (0, 1, 4)
    said = done.stderr.replace("\n", " ")
    assert f"PRIVATE: {tmp_path / 'out' / 'suspects.html'}" in said


def test_an_audit_shown_in_a_log_does_not_show_the_page(sources: dict[str, Any]) -> None:
    result = run.audit(**sources, encoder="pixels", align=False)
    shown = replace(result, suspects="page of tissue")
    assert "page of tissue" not in repr(shown) + shown._repr_html_()


def test_a_file_system_without_modes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(finished.console, "warn", said.append)
    page = tmp_path / "suspects.html"

    def write(document: object, folder: Path, *, suspects_page: str | None, mode: int) -> None:
        page.write_text(str(suspects_page))
        page.chmod(mode)

    result = finished.Audit(report=None, document={}, suspects="page")  # type: ignore[arg-type]
    monkeypatch.setattr(finished, "write_report", partial(write, mode=0o600))
    result.write(tmp_path)
    assert said == []
    monkeypatch.setattr(finished, "write_report", partial(write, mode=0o604))
    result.write(tmp_path)
    assert said == [f"this file system keeps no modes: others may read {page}."]
