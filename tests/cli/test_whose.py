"""Whose tiles are they, and are they all there? What each command refuses, says or lets pass."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from privgen.auditing.run import audit
from privgen.checkpoints.roles import reopen
from privgen.cli import app
from privgen.data.images import write_png
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.errors import LayoutError
from privgen.training.session import plan_session

Run = Callable[..., Result]
SIDE = 32
ROLES = ("train", "siblings", "holdout", "reference", "synthetic")


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def one_line(result: Result, *words: str) -> None:
    """Refused with exit code 2, in one line that holds every word."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="module")
def phantom() -> TileSet:
    return make_phantom(patients=12, tiles_per_patient=12, side=SIDE, seed=0)


@pytest.fixture(scope="module")
def folders(phantom: TileSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder a role: four patients train, of whom every fourth tile is a sibling."""
    root = tmp_path_factory.mktemp("roles")
    patient = np.array([int(name[1:]) for name in phantom.groups])
    held = np.arange(len(phantom)) % 4 == 0
    rows = {
        "train": (patient < 4) & ~held,
        "siblings": (patient < 4) & held,
        "holdout": (patient >= 4) & (patient < 8),
        "reference": (patient >= 8) & (patient < 10),
        "synthetic": patient >= 10,
    }
    for role, chosen in rows.items():
        write_phantom(root / role, phantom.subset(np.flatnonzero(chosen)))
    return {role: root / role for role in rows}


def with_leftovers(source: Path, folder: Path, copies_of: Path, count: int = 40) -> Path:
    """A folder, and copies of another's tiles beside those its manifest lists."""
    shutil.copytree(source, folder)
    tiles = [record.path for record in open_tiles(copies_of).records][:count]
    for number, path in enumerate(tiles):
        target = folder / Path(path).parent / f"copy{number}.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(copies_of / path, target)
    assert len(tiles) == count
    return folder


def audited(run: Run, folders: dict[str, Path], *more: object) -> Result:
    asked = [
        part for role in folders if role != "reference" for part in (f"--{role}", folders[role])
    ]
    return run("audit", *asked, "--encoder", "pixels", "--no-align", *more)


@pytest.mark.parametrize("role", ROLES)
def test_audit_refuses_a_role_that_leaves_images_out(
    role: str, run: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    partly = with_leftovers(folders[role], tmp_path / role, folders["holdout"])
    given = {**folders, role: partly}
    with pytest.raises(LayoutError, match=rf"40 images in {partly} .*copy.*not listed in manifest"):
        audit(**given, encoder="pixels", align=False)
    if role != "reference":  # which the command line does not take
        one_line(audited(run, given), f"40 images in {partly}", "copy", "not listed", "itself")


def test_train_and_data_check_refuse_a_folder_that_leaves_images_out(
    run: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    partly = with_leftovers(folders["train"], tmp_path / "t", folders["holdout"])
    one_line(run("data", "check", partly, "--quick"), "40 images", "not listed")
    result = run("train", partly, "--resolution", SIDE, "--dry-run")
    one_line(result, "40 images", "not listed")


def test_a_manifest_given_itself_leaves_images_out_and_the_report_says_so(
    run: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    partly = with_leftovers(folders["synthetic"], tmp_path / "s", folders["holdout"])
    chosen = folders | {"synthetic": partly / "manifest.csv"}
    result = audited(run, chosen, "--out", tmp_path / "report")
    assert result.exit_code in (0, 1, 4), result.output
    report = (tmp_path / "report" / "report.json").read_text()
    told = "synthetic: images beside the tiles that the manifest does not list, left out: 40."
    assert told in json.loads(report)["audit"]["warnings"]
    assert "/copy" in result.stderr
    assert "/copy" not in report
    assert str(tmp_path) not in report


def test_skipped_tiles_are_said_in_the_report(
    run: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "s"
    shutil.copytree(folders["synthetic"], broken)
    first = open_tiles(broken).records[0].path
    (broken / first).write_bytes(b"broken")
    chosen = folders | {"synthetic": broken}
    result = audited(run, chosen, "--on-bad-tile", "skip", "--out", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "synthetic: files that could not be used, left out: 1." in report["audit"]["warnings"]
    assert first in result.stderr


def test_what_lies_in_the_folder_after_training_is_no_concern_of_the_ledger(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tiles"
    shutil.copytree(folders["train"], folder)
    plan = plan_session(folder, options={"resolution": SIDE})
    write_png(folder / "runs.png", np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    with pytest.raises(LayoutError, match="1 images"):
        open_tiles(folder)
    assert {role: len(tiles) for role, tiles in reopen(plan.ledger).items()} == {
        role: len(tiles) for role, tiles in plan.roles.items()
    }


def renamed(source: Path, folder: Path, name: Callable[[str], str]) -> Path:
    """A folder whose manifest writes its patients another way."""
    shutil.copytree(source, folder)
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "patient": name(row["patient"])} for row in rows)
    return folder


@pytest.mark.parametrize(
    ("train", "holdout", "words"),
    [
        ("{}", "00{}", ("4 pairs do", "0 / 000")),
        ("P{}", "p{}", ("4 pairs do", "P0 / p0")),
        ("{}", "{}.0", ("share a patient: 4", "first: 0, 1, 2")),
        ("Mü{}", "Mu\u0308{}", ("share a patient: 4", "first: Mü0")),
        ("TCGA-AA-000{}", "TCGA-AA-000{}-01Z-00-DX1", ("share a patient: 4", "TCGA-AA-0000")),
        ("{}", "nan", ("48 of 48", "read as missing: 'nan' (48)")),
    ],
)
def test_audit_refuses_patients_of_both_sides_however_they_are_written(
    train: str,
    holdout: str,
    words: tuple[str, ...],
    run: Run,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    wanted = {
        role: renamed(
            folders[role], tmp_path / role, lambda name, how=how: how.format(int(name[1:]) % 4)
        )
        for role, how in (("train", train), ("holdout", holdout))
    }
    if holdout == "nan":
        lines = (wanted["holdout"] / "manifest.csv").read_text().splitlines()
        (wanted["holdout"] / "manifest.csv").write_text(
            "\n".join([*lines[:1], lines[1].replace("nan", "P9"), *lines[2:]]) + "\n"
        )
        words = ("47 of 48", "read as missing: 'nan' (47)")
    result = audited(run, {**wanted, "synthetic": folders["synthetic"]})
    one_line(result, *words)


def test_alike_names_within_a_role_are_a_warning_that_names_nobody(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    same = {"P004": "X1", "P005": "x1"}
    holdout = renamed(folders["holdout"], tmp_path / "h", lambda name: same.get(name, name))
    result = audit(
        train=folders["train"],
        holdout=holdout,
        synthetic=folders["synthetic"],
        encoder="pixels",
        align=False,
    )
    (told,) = [text for text in result.report.warnings if "names that differ" in text]
    assert told.startswith("2 holdout patients have names that differ only in case, leading zeros")
    assert "X1" not in json.dumps(result.document)


def test_a_white_tile_in_every_patient_ties_nobody(
    run: Run, phantom: TileSet, tmp_path: Path
) -> None:
    white = np.full((12, SIDE, SIDE, 3), 255, np.uint8)
    tiles = TileSet.from_arrays(
        np.concatenate([phantom.load(), white]),
        [*phantom.labels, *["BACK"] * 12],
        patients=[*phantom.groups, *np.unique(phantom.groups)],
    )
    write_phantom(tmp_path / "tiles", tiles)
    assert run("data", "check", tmp_path / "tiles").exit_code == 0
    checked = run("data", "check", tmp_path / "tiles", "--quick", "--json")
    assert checked.exit_code == 0, checked.output
    document = json.loads(checked.stdout)
    assert document["featureless"]["tiles"] >= 12
    assert "blank glass ties nobody" in checked.stderr
    assert "correct the manifest" not in checked.stderr
    plan = plan_session(tmp_path / "tiles", options={"resolution": SIDE})
    assert len(np.unique(plan.roles["holdout"].groups)) == 4
    assert len(np.unique(plan.roles["train"].groups)) == 8


def test_the_manifest_of_a_check_works_where_unusable_tiles_are_skipped(
    run: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tiles"
    shutil.copytree(folders["train"], folder)
    first = open_tiles(folder).records[0].path
    (folder / first).write_bytes(b"broken")
    result = run("data", "check", folder, "--on-bad-tile", "skip", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    shutil.copyfile(tmp_path / "out" / "manifest.csv", folder / "manifest.csv")
    tiles = open_tiles(folder, on_bad_tile="skip")
    assert [path for path, _ in tiles.skipped] == [first]
    assert len(open_tiles(folder / "manifest.csv")) == len(tiles)
    with pytest.raises(LayoutError, match=first):
        open_tiles(folder)
