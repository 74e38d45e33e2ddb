"""Real tiles, known answers: a set with a few train copies is a leak, the same set without is not.

Real tiles of patients in neither split stand in for a perfect generator. On GlaS the copies are
turned by odd angles and re-stained, and must be proven one by one; on LC25000 they are exact, and
nothing is aligned.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from privgen.auditing import judging
from privgen.cli import app
from privgen.data.images import encode_png
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.encoders.orbit import fingerprint
from privgen.evidence.copy_kinds import AUDITED_KINDS, KINDS, plant

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
TILES = 300


@dataclass(frozen=True)
class Case:
    """A real data set, the column that groups it, its copies, and what proves them."""

    name: str
    group_by: str
    kind: str
    share: float
    align: str
    proof: str
    encoder: str


CASES = [
    Case(
        "glas", "patient", "odd_rotation_stain", 0.01, "--align", "aligned_copies", "effnet_lite0"
    ),
    Case("lc25000", "source_image", "exact", 0.03, "--no-align", "identical_tiles", "colour"),
]


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
    textured = [row for row in split.train if fingerprint(tiles.subset([row]).load()[0])]
    copies = rng.choice(textured, max(1, round(case.share * len(clean))), replace=False)
    made: dict[str, Path | str] = {"group_by": case.group_by, "align": case.align}
    made |= {"encoder": case.encoder, "proof": case.proof, "copies": str(len(copies))}
    for name, rows in (("train", split.train), ("holdout", split.holdout)):
        made[name] = copy_out(tiles.subset(rows), tmp_path / name)
    for name, rows in (("clean", clean), ("leaky", clean[len(copies) :])):
        folder = copy_out(tiles.subset(rows), tmp_path / name)
        (folder / "manifest.csv").unlink()
        made[name] = folder
    planted = plant(case.kind, tiles.subset(copies).load(), rng)
    for number, (tile, row) in enumerate(zip(planted, copies, strict=True)):
        file = tmp_path / "leaky" / str(tiles.labels[row]) / f"copy{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(tile))
    return made


def test_copies_are_a_leak_and_their_absence_is_not(
    folders: dict[str, Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How small a leak would be seen is not asked here.
    monkeypatch.setattr(judging, "collect", partial(judging.collect, planted_per_kind=12))
    codes, copying, proven, kinds = {}, {}, {}, {}
    for name in ("leaky", "clean"):
        arguments = ["audit", "--json", "--group-by", folders["group_by"]]
        arguments += ["--train", folders["train"], "--holdout", folders["holdout"]]
        arguments += ["--synthetic", folders[name], folders["align"]]
        arguments += ["--cache", tmp_path / "cache", "--encoder", folders["encoder"]]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        report = json.loads(result.stdout)["audit"]
        codes[name] = result.exit_code
        copying[name] = next(h for h in report["verdict"]["harms"] if h["harm"] == "copying")
        results = {result["name"]: result for result in report["results"]}
        share = results[folders["proof"]]["statistic"]
        proven[name] = round(share["value"] * share["n"])
        kinds[name] = set(report["mdl80"])
    assert codes["leaky"] == 1
    assert copying["leaky"]["outcome"] == "LEAK"
    assert copying["leaky"]["reason"].startswith(folders["proof"])
    assert proven == {"leaky": int(folders["copies"]), "clean": 0}, "one by one, and no other"
    assert codes["clean"] in (0, 4)
    assert copying["clean"]["outcome"] != "LEAK"
    assert kinds["leaky"] == set(KINDS if folders["align"] == "--align" else AUDITED_KINDS)
