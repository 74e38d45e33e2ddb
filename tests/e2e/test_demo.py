"""`privgen demo`, the README's first command, with smaller sizes."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privgen import demo
from privgen.auditing import judging
from privgen.cli import app
from privgen.reporting import html


@pytest.mark.slow
def test_demo_goes_all_the_way_and_leaves_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PATIENTS", 14)
    monkeypatch.setattr(demo, "TILES_A_PATIENT", 9)
    monkeypatch.setattr(demo, "SAMPLES", 36)
    monkeypatch.setattr(demo, "BENCH_UPDATES", 2)
    monkeypatch.setattr(demo, "RECIPE_RUNS", 4)
    monkeypatch.setattr(judging, "collect", partial(judging.collect, planted_per_kind=12))
    out = tmp_path / "demo"
    ran = CliRunner().invoke(app, ["demo", "--out", str(out), "--kimg", "0.16", "--json"])
    assert ran.exit_code in (0, 1, 4), ran.output
    assert sorted(path.name for path in out.iterdir()) == [
        "recipe",
        "recipe-private",
        "report.html",
        "report.json",
        "runs",
        "synthetic",
        "tiles",
    ]
    document = json.loads(ran.stdout)
    html.validate(document)
    assert json.loads((out / "report.json").read_text()) == document
    assert document["audit"]["verdict"]["outcome"] in ("LEAK", "NO LEAK FOUND", "INCONCLUSIVE")
    rows = document["augment_bench"]["rows"]
    assert {row["model"] for row in rows} == {"mobilenet", "resnet", "densenet", "efficientnet"}
    page = (out / "report.html").read_text()
    assert document["audit"]["verdict"]["outcome"] in page
    assert "densenet" in page
    assert "Repeated training" in page
    assert len(list((out / "synthetic").rglob("*.png"))) == 36


def test_demo_keeps_what_a_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    ran = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert ran.exit_code == 2
    assert "must be empty" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
