"""Selecting tiles by their scores: which rows pass, what is told, what is refused."""

import csv
import os
import stat
from pathlib import Path

import pytest

from privgen.data.manifest import read_manifest, write_manifest
from privgen.errors import ConfigError, LayoutError, OutputError
from privgen.tiling.select import Counts, Selection, select_tiles

# label, patient, tissue, white, sharpness, pen, fold
ROWS = [
    ("tumour", "p1", 0.9, 0.05, 300.0, 0.0, 0.0),
    ("tumour", "p1", 0.5, 0.4, 250.0, 0.0, 0.1),
    ("stroma", "p1", 0.8, 0.1, 20.0, 0.3, 0.0),
    ("stroma", "p2", 0.1, 0.85, 5.0, 0.0, 0.0),
    ("tumour", "", 0.7, 0.1 + 0.2, 100.0, 0.0, 0.0),
]


def columns() -> dict[str, list[object]]:
    label, patient, *scores = (list(column) for column in zip(*ROWS, strict=True))
    count = len(ROWS)
    return {
        "path": [f"{row[0]}/s/{i}_0.png" for i, row in enumerate(ROWS)],
        "label": label,
        "patient": patient,
        "slide": ["s"] * count,
        "x": list(range(count)),
        "y": [0] * count,
        "level": [0] * count,
        "mpp": [0.5] * count,
        **dict(zip(("tissue", "white", "sharpness", "pen", "fold"), scores, strict=True)),
        "sha256": [f"{i:064x}" for i in range(count)],
    }


def tiled(folder: Path, name: str = "manifest.csv") -> Path:
    write_manifest(folder / name, columns())
    return folder


def select(folder: Path, out: str = "good.csv", **thresholds: float) -> Selection:
    return select_tiles(folder, out=folder / out, **thresholds)


def kept(path: Path) -> list[int | None]:
    return [record.x for record in read_manifest(path)[0]]


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({"min_tissue": 0.7}, [0, 2, 4]),
        ({"max_white": 0.4}, [0, 1, 2, 4]),
        ({"min_sharpness": 100}, [0, 1, 4]),
        ({"max_pen": 0}, [0, 1, 3, 4]),
        ({"max_fold": 0.05}, [0, 2, 3, 4]),
        ({"min_tissue": 0.5, "max_white": 0.3, "max_pen": 0.1}, [0]),
        ({"min_tissue": 0}, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("source", ["manifest.csv", "manifest.parquet"])
@pytest.mark.parametrize("out", ["good.csv", "good.parquet"])
def test_the_rows_that_pass_are_kept_in_order(
    tmp_path: Path, source: str, out: str, thresholds: dict[str, float], expected: list[int]
) -> None:
    # .1 + .2 is a hair over .3, so that a score read back with a lost digit would pass .3.
    found = select(tiled(tmp_path, source), out, **thresholds)
    assert kept(tmp_path / out) == expected
    assert found.path == tmp_path / out
    assert found.tiles == (len(expected), 5 - len(expected))


def test_kept_rows_are_the_same_text_in_a_csv(tmp_path: Path) -> None:
    select(tiled(tmp_path), max_pen=0.0)
    before = (tmp_path / "manifest.csv").read_text().splitlines()
    after = (tmp_path / "good.csv").read_text().splitlines()
    assert after == [line for i, line in enumerate(before) if i != 3]


def test_a_parquet_selection_of_all_is_the_parquet_manifest(tmp_path: Path) -> None:
    select(tiled(tmp_path, "manifest.parquet"), "all.parquet", min_tissue=0.0)
    before, after = (tmp_path / n for n in ("manifest.parquet", "all.parquet"))
    assert after.read_bytes() == before.read_bytes()


def test_a_csv_becomes_the_same_parquet_as_the_tiler_writes(tmp_path: Path) -> None:
    select(tiled(tmp_path), "all.parquet", min_tissue=0.0)
    write_manifest(tmp_path / "expected.parquet", columns())
    assert (tmp_path / "all.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()


def test_it_counts_by_class_patient_and_rule(tmp_path: Path) -> None:
    found = select(tiled(tmp_path), min_tissue=0.6, min_sharpness=50)
    assert found.tiles == Counts(kept=2, left=3)
    assert found.by_class == {"stroma": (0, 2), "tumour": (2, 1)}
    assert found.by_patient == {"": (1, 0), "p1": (1, 2), "p2": (0, 1)}
    assert found.by_rule == {"min_tissue": 2, "min_sharpness": 2}  # row 3 fails both


def test_classes_and_patients_that_vanish_are_told(tmp_path: Path) -> None:
    found = select(tiled(tmp_path), min_tissue=0.6, min_sharpness=50)
    assert found.warnings == (
        "1 of 2 classes has no tile left (stroma); 2 tiles left out.",
        "1 of 2 patients has no tile left (p2); 1 tiles left out.",
    )
    assert select(tiled(tmp_path), max_fold=0.05).warnings == ()


def test_a_selection_is_no_more_readable_than_the_manifest(tmp_path: Path) -> None:
    os.chmod(tiled(tmp_path) / "manifest.csv", 0o600)
    select(tmp_path, min_tissue=0.5)
    assert stat.S_IMODE((tmp_path / "good.csv").stat().st_mode) == 0o600


def test_nothing_left_says_what_each_threshold_removes_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        select(tiled(tmp_path), min_tissue=0.85, max_white=0.01)
    message = str(caught.value)
    assert "of 5, `min_tissue` 0.85 removes 4, `max_white` 0.01 removes 5" in message
    assert "\n" not in message
    assert not (tmp_path / "good.csv").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_tissue", -0.1), ("max_white", 1.1), ("max_pen", 50), ("max_fold", float("nan")),
        ("min_sharpness", -1), ("min_sharpness", float("inf")),
    ],
)  # fmt: skip
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` must be"):
        select(tiled(tmp_path), "good.csv", **{name: value})


def test_no_threshold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a threshold"):
        select(tiled(tmp_path))


def test_a_missing_score_is_named_and_only_missed_where_it_is_asked_for(tmp_path: Path) -> None:
    given = columns()
    del given["pen"]
    write_manifest(tmp_path / "manifest.csv", given)
    with pytest.raises(LayoutError, match="no column pen"):
        select(tmp_path, max_pen=0.1)
    assert select(tmp_path, min_tissue=0.6).tiles.kept == 3


@pytest.mark.parametrize("score", ["", "nan", "much"])
def test_a_score_that_is_no_number_is_told_with_its_line(tmp_path: Path, score: str) -> None:
    given = columns()
    given["fold"][2] = score
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([list(given), *zip(*given.values(), strict=True)])
    with pytest.raises(LayoutError, match=r"manifest\.csv line 4: fold must be a number"):
        select(tmp_path, max_fold=0.5)
    assert select(tmp_path, min_tissue=0.6).tiles.kept == 3


def test_a_broken_row_is_told_with_its_line(tmp_path: Path) -> None:
    path = tiled(tmp_path) / "manifest.csv"
    path.write_text(path.read_text() + "a.png,tumour\n")
    with pytest.raises(LayoutError, match=r"manifest\.csv line 7 has more or fewer fields"):
        select(tmp_path, max_fold=0.5)


def test_no_manifest_or_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="neither"):
        select(tmp_path, min_tissue=0.5)
    tiled(tiled(tmp_path), "manifest.parquet")
    with pytest.raises(LayoutError, match="both"):
        select(tmp_path, min_tissue=0.5)


@pytest.mark.parametrize("out", ["manifest.csv", "manifest.parquet", "Manifest.CSV"])
def test_the_manifest_of_all_tiles_is_never_replaced(tmp_path: Path, out: str) -> None:
    before = (tiled(tmp_path) / "manifest.csv").read_bytes()
    with pytest.raises(OutputError, match="may not replace"):
        select(tmp_path, out, min_tissue=0.5)
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.csv"]
    assert (tmp_path / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize("out", ["../good.csv", "deeper/good.csv", "good.txt", "good"])
def test_a_selection_elsewhere_or_of_another_kind_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "run" / "deeper").mkdir(parents=True)
    with pytest.raises(OutputError):
        select(tiled(tmp_path / "run"), out, min_tissue=0.5)
    assert not (tmp_path / "run" / out).exists()


def test_the_folder_may_be_reached_by_another_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    tiled(tmp_path / "run")
    select_tiles(tmp_path / "link", out=tmp_path / "run" / "good.csv", min_tissue=0.6)
    assert kept(tmp_path / "run" / "good.csv") == [0, 2, 4]
