"""Whole slides to a verdict through the command line; and tiles that share pixels stay together."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.layouts import open_tiles
from privgen.data.overlap import find_overlap
from privgen.data.phantom import render_tile
from privgen.reporting import html
from privgen.training.state import load_checkpoint
from tests.data.slide_files import write_slide

pytestmark = pytest.mark.slow
PATIENTS = 8
TRAIN = ["--resolution", "32", "--batch", "8", "--watch-kimg", "0", "--kimg", "0.1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeeded(result: Result, *codes: int) -> Result:
    assert result.exit_code in (codes or (0,)), result.output
    return result


def section(patient: int) -> NDArray[np.uint8]:
    """Tissue of one patient, 192 x 128 px: tumour or stroma, each place another."""
    label = ("TUM", "STR")[patient % 2]
    fields = [render_tile(label, patient=patient, index=i, seed=3, side=64) for i in range(6)]
    rows = [np.concatenate(fields[i : i + 3], axis=1) for i in (0, 3)]
    return np.concatenate(rows)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One slide of each patient, with a table of labels beside it."""
    folder = tmp_path_factory.mktemp("slides")
    paths = [folder / f"TCGA-AA-{patient:04d}-01A.tif" for patient in range(PATIENTS)]
    lines = ["slide,label"]
    for patient, path in enumerate(paths):
        write_slide(path, section(patient), mpp=0.5)
        lines.append(f"{path.name},{('TUM', 'STR')[patient % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return paths


def tiled(slides: list[Path], out: Path, *more: object) -> Path:
    labels = slides[0].parent / "labels.csv"
    succeeded(run("tile", *slides, "--out", out, "--labels", labels, *more))
    return out


def trained(tiles: Path, runs: Path, *more: object) -> Path:
    result = succeeded(run("train", tiles, *TRAIN, "--out", runs, "--json", *more))
    return Path(json.loads(result.stdout)["checkpoint"])


def test_slides_become_tiles_a_generator_and_a_verdict(slides: list[Path], tmp_path: Path) -> None:
    tiles = tiled(slides, tmp_path / "tiles", "--size", 32)
    checked = succeeded(run("data", "check", tiles, "--quick", "--json"))
    document = json.loads(checked.stdout)
    assert (document["group_unit"], document["groups"]) == ("patient", PATIENTS)
    assert set(document["classes"]) == {"STR", "TUM"}
    checkpoint = trained(tiles, tmp_path / "runs")
    out = tmp_path / "report"
    audited = run("audit", "--generator", checkpoint, "--count", 64, "--out", out, "--json")
    succeeded(audited, 0, 1, 4)
    report = json.loads(audited.stdout)
    html.validate(report)
    roles = report["data"]["roles"]
    assert roles["train"]["patients"] + roles["holdout"]["patients"] == PATIENTS
    page = (out / "report.html").read_text()
    assert report["audit"]["verdict"]["sentence"].split(":")[0] in page
    assert "TCGA" not in page + audited.output
    with (tiles / "manifest.csv").open(newline="") as stream:
        assert "TCGA" not in stream.read()


def test_overlapping_tiles_are_never_parted(slides: list[Path], tmp_path: Path) -> None:
    out = tiled(slides, tmp_path / "tiles", "--size", 64, "--stride", 32)
    tiles = open_tiles(out)
    with (out / "manifest.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(tiles)
    pairs = find_overlap(tiles.records).pairs
    assert len(pairs) > len(tiles), "a tile shares pixels with several others"

    refused = run("train", out, *TRAIN, "--out", tmp_path / "runs", "--group-by", "tile")
    assert refused.exit_code == 2, refused.output
    (line,) = [text for text in refused.stderr.splitlines() if text.startswith("error: ")]
    assert "tiles that share pixels may not be split tile by tile" in line
    assert not (tmp_path / "runs").exists()

    ledger = load_checkpoint(trained(out, tmp_path / "runs")).ledger
    assert ledger.group_unit == "patient"
    role_of = {entry.path: entry.role for entry in ledger.entries}
    roles = np.array([role_of[record.path] for record in tiles.records])
    assert {"train", "holdout"} <= set(roles)
    first, second = roles[pairs].T
    assert (first == second).all()
