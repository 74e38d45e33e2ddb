"""Sets that other programs write: Hugging Face image Parquet and WebDataset shards, by pattern."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from privgen import limits
from privgen.checkpoints.roles import ledger_of, reopen
from privgen.cli import app
from privgen.data import image_rows, images
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.errors import InputError, LayoutError, TileError

TILES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
PICTURES = [images.encode_png(tile) for tile in TILES]


def table(
    path: Path, rows: slice, *, names: bool = True, extra: dict[str, Any] | None = None
) -> Path:
    """A file as `datasets` writes it: pictures, class numbers, and what the numbers stand for."""
    pictures = PICTURES[rows]
    made = pyarrow.table(
        {
            "image": [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(pictures)],
            "label": [n % 2 for n in range(len(pictures))],
            **(extra or {}),
        }
    )
    if names:
        features = {"label": {"names": ["STR", "TUM"], "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        made = made.replace_schema_metadata({"huggingface": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, path, row_group_size=3)
    return path


def sharded(folder: Path) -> Path:
    for number, rows in enumerate((slice(0, 4), slice(4, 8))):
        table(folder / f"train-{number:05d}-of-00002.parquet", rows)
    return folder


@pytest.mark.parametrize("given", ["", "train-*.parquet", "train-{00000..00001}-of-00002.parquet"])
def test_hugging_face_parquet_opens_by_folder_and_by_pattern(given: str, tmp_path: Path) -> None:
    tiles = open_tiles(sharded(tmp_path / "set") / given)
    assert tiles.layout == "Parquet files of pictures (2), no patients known"
    assert tiles.classes == ("STR", "TUM")
    assert tiles.records[5].path == "train-00001-of-00002.parquet/0000001"
    np.testing.assert_array_equal(tiles.load(), TILES)
    np.testing.assert_array_equal(tiles.subset([7, 0, 3]).load(), TILES[[7, 0, 3]])
    assert tiles.remarks == ()


def test_one_file_with_patients_and_without_names(tmp_path: Path) -> None:
    who = {"patient": [f"P{n // 2}" for n in range(8)]}
    path = table(tmp_path / "all.parquet", slice(0, 8), names=False, extra=who)
    tiles = open_tiles(path)
    assert tiles.classes == ("0", "1")
    assert tiles.groups.tolist() == who["patient"]


def test_a_ledger_and_a_manifest_find_the_rows_again(tmp_path: Path) -> None:
    who = {"patient": [f"P{n // 2}" for n in range(8)]}
    path = table(tmp_path / "set" / "all.parquet", slice(0, 8), extra=who)
    tiles = open_tiles(path.parent / "*.parquet")
    split = split_by_patient(tiles, seed=0)
    roles = reopen(ledger_of(tiles, split, parameters={}))
    assert sum(map(len, roles.values())) == 8
    tiles.write_manifest(path.parent / "manifest.csv")
    again = open_tiles(path.parent)
    assert again.layout == "CSV manifest"
    np.testing.assert_array_equal(again.load(), TILES)


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        (
            {
                "image": [{"bytes": PICTURES[0], "path": "a"}, {"bytes": None, "path": "b"}],
                "label": [0, 1],
            },
            "holds no bytes",
        ),
        ({"image": [{"bytes": b"no image", "path": "a"}], "label": [0]}, "is not a PNG"),
        ({"image": [{"bytes": PICTURES[0], "path": ""}]}, "need a column label"),
        ({"image": [{"bytes": PICTURES[0], "path": ""}], "label": ["../x"]}, "a class name"),
        ({"image": [{"bytes": PICTURES[0], "path": ""}], "label": [[1]]}, "text and numbers"),
    ],
)
def test_pictures_that_are_none_are_one_line(
    columns: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rule) as caught:
        open_tiles(tmp_path / "a.parquet", min_classes=1)
    assert "\n" not in str(caught.value)


def test_a_class_number_without_a_name_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", slice(0, 2))
    made = parquet.read_table(path)
    at = made.column_names.index("label")
    parquet.write_table(made.set_column(at, "label", pyarrow.array([0, 2])), path)
    with pytest.raises(LayoutError, match="label '2' has no name among 2 classes"):
        open_tiles(path)


def test_a_row_group_is_read_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "a.parquet", slice(0, 3))
    own = sum(map(len, PICTURES[:3]))
    for most, fits in ((own + 1, True), (own, True), (own - 1, False)):
        image_rows._groups.clear()
        monkeypatch.setattr(limits, "GROUP_BYTES", most)
        if fits:
            assert len(open_tiles(path)) == 3
        else:
            with pytest.raises(TileError, match="a row group may have"):
                open_tiles(path)


def test_pictures_in_parquet_beside_class_folders_are_not_passed_over(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        images.write_png(tmp_path / label / "1.png", TILES[0])
    table(tmp_path / "more.parquet", slice(0, 4))
    with pytest.raises(LayoutError, match=r"used whole.*more\.parquet"):
        open_tiles(tmp_path)


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def samples(rows: range, **beside: Any) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for row in rows:
        made[f"{row:06d}.png"] = PICTURES[row]
        for extension, text in beside.items():
            made[f"{row:06d}.{extension}"] = text(row).encode()
    return made


def shards(folder: Path) -> Path:
    for number, rows in enumerate((range(4), range(4, 8))):
        beside = {
            "cls": lambda row: "STR\n" if row % 2 else "TUM",
            "json": lambda row: json.dumps({"patient": f"P{row // 2}", "prompt": "[" * 99}),
        }
        shard(folder / f"s-{number:06d}.tar", samples(rows, **beside))
    return folder


@pytest.mark.parametrize("given", ["", "s-{000000..000001}.tar", "s-*.tar"])
def test_shards_open_by_folder_and_by_pattern(given: str, tmp_path: Path) -> None:
    tiles = open_tiles(shards(tmp_path / "set") / given)
    assert tiles.layout == "WebDataset shards (2)"
    assert tiles.labels.tolist() == ["TUM", "STR"] * 4
    assert tiles.groups.tolist() == [f"P{row // 2}" for row in range(8)]
    np.testing.assert_array_equal(tiles.load(), TILES)
    assert tiles.remarks == ()


def test_the_command_line_takes_a_pattern(tmp_path: Path) -> None:
    pattern = str(shards(tmp_path / "set") / "s-*.tar")
    ran = CliRunner().invoke(app, ["data", "check", pattern, "--quick", "--json"])
    assert ran.exit_code == 0, ran.output
    assert "WebDataset shards (2)" in ran.output


def test_part_of_the_shards_is_a_choice_and_a_gap_is_not(tmp_path: Path) -> None:
    folder = shards(tmp_path / "set")
    assert len(open_tiles(folder / "s-{000001..000001}.tar")) == 4
    assert len(open_tiles(folder / "s-000000.tar")) == 4
    with pytest.raises(LayoutError, match="1 of 3 are missing"):
        open_tiles(folder / "s-{000000..000002}.tar")
    with pytest.raises(LayoutError, match="no file fits"):
        open_tiles(folder / "x-*.tar")
    with pytest.raises(LayoutError, match="at most 100,000"):
        open_tiles(folder / "s-{0..100000000000}.tar")


def test_pictures_alone_are_a_flat_set(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", samples(range(4)))
    assert open_tiles(path, flat=True).classes == ("all",)
    with pytest.raises(LayoutError, match="needs a class"):
        open_tiles(path)


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"a.png": PICTURES[0], "a.jpg": PICTURES[0]}, "one picture"),
        ({"a.png": PICTURES[0], "a.cls": b"../x"}, "a class name"),
        ({"a.png": PICTURES[0], "a.cls": b"\xff"}, "no UTF-8"),
        ({"a.png": PICTURES[0], "a.json": b"["}, "damaged"),
        ({"a.png": PICTURES[0], "a.json": b'{"label": [1]}'}, "a name or a whole number"),
        ({"a.png": PICTURES[0], "a.cls": b"x" * (2**20 + 1)}, "MiB"),
        ({"a.txt": b"x"}, "holds no picture"),
        ({"a.png": PICTURES[0], "a.cls": b"0", "b.png": PICTURES[1]}, "1 of 2 have none"),
        ({"a.png": b"no image", "a.cls": b"0"}, "is not a PNG"),
    ],
)
def test_shards_that_are_none_are_one_line(
    members: dict[str, bytes], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        open_tiles(shard(tmp_path / "a.tar", members), min_classes=1)
    assert "\n" not in str(caught.value)
