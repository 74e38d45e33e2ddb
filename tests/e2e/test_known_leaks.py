"""Real tiles, known answers: a set with 3 % train copies is a leak, the same set without is not.

Real tiles of patients in neither split stand in for a perfect generator.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from privgen.cli import app
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
COPIES = 0.03
TILES = 420


@dataclass(frozen=True)
class Case:
    """A real data set and the column that groups it."""

    name: str
    group_by: str


CASES = [Case("glas", "patient"), Case("lc25000", "source_image")]


def copy_out(tiles: TileSet, folder: Path) -> Path:
    """The very files, in class folders with a manifest."""
    assert tiles.root is not None
    for record in tiles.records:
        target = folder / record.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiles.root / record.path, target)
    tiles.write_manifest(folder / "manifest.csv")
    return folder


def small(tiles: TileSet, rng: np.random.Generator) -> TileSet:
    """Every patient, fewer tiles."""
    return tiles.subset(np.sort(rng.permutation(len(tiles))[:TILES]))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def folders(
    request: pytest.FixtureRequest, real_data: Callable[[str], Path], tmp_path: Path
) -> dict[str, Path | str]:
    """Train, holdout, and two synthetic folders: without and with copies."""
    case: Case = request.param
    rng = np.random.default_rng(0)
    tiles = small(open_tiles(real_data(case.name), group_by=case.group_by), rng)
    split = split_by_patient(tiles, holdout=1 / 3, reference=1 / 3, siblings=0.0, seed=0)
    clean = split.reference
    copies = rng.choice(split.train, round(COPIES * len(clean)), replace=False)
    leaky = np.concatenate([clean[len(copies) :], copies])
    made: dict[str, Path | str] = {"group_by": case.group_by}
    for name, rows in (("train", split.train), ("holdout", split.holdout)):
        made[name] = copy_out(tiles.subset(rows), tmp_path / name)
    for name, rows in (("clean", clean), ("leaky", leaky)):
        folder = copy_out(tiles.subset(rows), tmp_path / name)
        (folder / "manifest.csv").unlink()
        made[name] = folder
    return made


def test_copies_are_a_leak_and_their_absence_is_not(folders: dict[str, Path | str]) -> None:
    codes, copying, p_values = {}, {}, {}
    for name in ("leaky", "clean"):
        arguments = ["audit", "--json", "--group-by", folders["group_by"]]
        arguments += ["--train", folders["train"], "--holdout", folders["holdout"]]
        arguments += ["--synthetic", folders[name]]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        report = json.loads(result.stdout)["audit"]
        codes[name] = result.exit_code
        copying[name] = next(h for h in report["verdict"]["harms"] if h["harm"] == "copying")
        p_values[name] = {r["name"]: r["p_value"] for r in report["results"]}["tail_ratio"]
    assert codes["leaky"] == 1
    assert copying["leaky"]["outcome"] == "LEAK"
    assert copying["leaky"]["reason"].startswith("identical_tiles")
    assert codes["clean"] in (0, 4)
    assert copying["clean"]["outcome"] != "LEAK"
    assert p_values["leaky"] < p_values["clean"]
