"""Whole slides to a verdict through the command line; and tiles that share pixels stay together."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from privgen.checkpoints.state import load_checkpoint
from privgen.cli import app
from privgen.data.layouts import open_tiles
from privgen.data.overlap import find_overlap
from privgen.data.phantom import render_tile
from privgen.reporting import html
from tests.helpers.slide_files import write_slide

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


SMALLER = {
    "--size 256": "--size 32",
    "--resolution 64 --minutes 10": " ".join(TRAIN),
    "--out report": "--out report --count 64",
}
"""What the README's example says, and what is run here in its place, to be done in a minute."""


def example() -> list[list[str]]:
    """The commands of the README's worked example, in words, `privgen` left out."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## From whole slides to a verdict")[2]
    text = section.partition("```sh")[2].partition("```")[0].strip()
    for said, done in SMALLER.items():
        assert said in text, said
        text = text.replace(said, done)
    return [line.split() for line in text.splitlines()]


def test_the_worked_example_of_the_readme_ends_in_a_verdict(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides").mkdir()
    for slide in slides:
        shutil.copy(slide, tmp_path / "slides" / f"{slide.stem}.svs")
    names = [f"{slide.stem}.svs" for slide in slides]
    table = (slides[0].parent / "labels.csv").read_text().replace(".tif", ".svs")
    (tmp_path / "slides.csv").write_text(table)
    owners = "".join(f"{name},Patient {number}\n" for number, name in enumerate(names))
    (tmp_path / "patients.csv").write_text("slide,patient\n" + owners)

    tile, check, train, audit = example()
    assert [words[0] for words in (tile, check, train, audit)] == ["privgen"] * 4
    assert tile[2] == "slides/*.svs"
    succeeded(run(tile[1], *sorted(Path("slides").glob("*.svs")), *tile[3:]))
    document = json.loads(succeeded(run(*check[1:], "--json"), 0, 1).stdout)
    assert (document["group_unit"], document["groups"]) == ("patient", PATIENTS)
    assert set(document["classes"]) == {"STR", "TUM"}
    succeeded(run(*train[1:]))
    audited = run(*audit[1:], "--json")
    succeeded(audited, 0, 1, 4)
    report = json.loads(audited.stdout)
    html.validate(report)
    roles = report["data"]["roles"]
    assert roles["train"]["patients"] + roles["holdout"]["patients"] == PATIENTS
    page = (tmp_path / "report" / "report.html").read_text()
    assert report["audit"]["verdict"]["sentence"].split(":")[0] in page
    manifest = (tmp_path / "tiles" / "manifest.csv").read_text()
    for name in ("TCGA", "Patient"):
        assert name not in manifest
    assert "TCGA" not in page + audited.output


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
