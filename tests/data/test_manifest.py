"""manifest.py: what a CSV or Parquet must say, and the line each mistake is on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from privgen.data.manifest import read_manifest, write_manifest
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError, OutputError

DIGEST = "0123456789abcdef" * 4


def written(folder: Path, text: str) -> Path:
    path = folder / "m.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_column_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "label,path,patient,slide,source_image,x,y,mpp,xy_mpp,sha256\n"
        f"adeno,a/1.png,P1,s1,i1,256,0,0.5,0.25,{DIGEST.upper()}\n"
        "normal,./b//2.png,,,,,,,,\n",
    )
    records, left_aside, *_ = read_manifest(path)
    assert records == (
        TileRecord(
            path="a/1.png",
            label="adeno",
            patient="P1",
            slide="s1",
            source_image="i1",
            x=256,
            y=0,
            mpp=0.5,
            xy_mpp=0.25,
            sha256=DIGEST,
        ),
        TileRecord(path="b/2.png", label="normal"),
    )
    assert left_aside == ()


def test_byte_order_mark_quotes_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes('\ufeffpath,label\r\n"a,b.png","x"\r\n'.encode())
    assert read_manifest(path)[0] == (TileRecord(path="a,b.png", label="x"),)


def test_columns_of_another_tool_are_left_aside_and_named(tmp_path: Path) -> None:
    read = read_manifest(written(tmp_path, "path,label,scanner,age\na.png,x,S1,60\n"))
    assert read.left_aside == ("scanner", "age")


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("patient_id", "patient"),
        ("slide_id", "slide"),
        ("sha-256", "sha256"),
    ],
)
def test_misspelt_column_is_refused_with_the_right_name(
    column: str, meant: str, tmp_path: Path
) -> None:
    path = written(tmp_path, f"path,label,{column}\na.png,x,1\n")
    with pytest.raises(LayoutError, match=f"did you mean {meant}"):
        read_manifest(path)


@pytest.mark.parametrize("column", ["case_id", "Case", "subject", "PID", "mrn", "participant-id"])
def test_a_column_that_may_name_the_patients_is_not_read_past(column: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"path,label,{column}\na.png,x,1\n")
    with pytest.raises(LayoutError, match="may name the patients, and none is called patient"):
        read_manifest(path)
    path = written(tmp_path, f"path,label,{column},patient\na.png,x,1,P1\n")
    assert read_manifest(path).left_aside == (column,)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no header"),
        ("path,label,patient\na.png,x,1.23457E+11\n", "line 2: an id in exponent notation"),
        ("path,label\n", "names no tile"),
        ("path,class\na.png,x\n", "Add label"),
        ("path;class\na.png;x\n", "has path;class. Add path"),
        ("path,label,label\na.png,x,x\n", "a column twice"),
        ("path,label\na.png,x\nb.png,\n", "line 3 has no label"),
        ("path,label\n,x\n", "line 2 has no path"),
        ("path,label\na.png\n", "line 2 has more or fewer"),
        ("path,label\na.png,x,y\n", "line 2 has more or fewer"),
        ("path,label\na.png,x\n./a.png,y\n", "names a.png twice"),
        ("path,label\n/etc/a.png,x\n", "stay inside"),
        ("path,label\na/../../b.png,x\n", "stay inside"),
        ("path,label\n..,x\n", "stay inside"),
        ("path,label\nC:/a.png,x\n", "stay inside"),
        ("path,label\na\\b.png,x\n", "stay inside"),
        ("path,label,x\na.png,x,3\n", "one of x and y"),
        ("path,label,x,y\na.png,x,left,0\n", "x must be a number, got 'left'"),
        ("path,label,x,y\na.png,x,0,1.5\n", "y must be whole pixels"),
        ("path,label,x,y\na.png,x,0,inf\n", "y must be a number"),
        ("path,label,mpp\na.png,x,0\n", "mpp must be positive"),
        ("path,label,mpp\na.png,x,nan\n", "mpp must be a number"),
        ("path,label,sha256\na.png,x,abc\n", "64 hex digits"),
        ('path,label\n"a.png,x\n', "comma-separated UTF-8"),
    ],
)
def test_mistake_is_one_line_with_its_place(text: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError) as caught:
        read_manifest(written(tmp_path, text))
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"path,label\n\xff\xfe.png,x\n")
    with pytest.raises(LayoutError, match="UTF-8"):
        read_manifest(path)


FULL: Mapping[str, list[Any]] = {
    "path": ["shards/s-0.tar/000000.png", "b,ä.png"],
    "label": ["a", "b"],
    "patient": ["p-1", None],
    "slide": ["s-1", "s-2"],
    "x": [0, None],
    "y": [156, None],
    "level": [0, 1],
    "mpp": [0.1 + 0.2, None],
    "tissue": [0.25, 1.0],
    "white": [0.5, 0.0],
    "sharpness": [12.5, 3.25],
    "pen": [0.0, None],
    "fold": [0.0, 0.125],
    "sha256": [DIGEST, DIGEST[::-1]],
    "role": ["train", None],
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_was_written_is_read_and_scores_are_no_strange_columns(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"manifest{suffix}"
    write_manifest(path, FULL, mode=0o600)
    records, left_aside, *_ = read_manifest(path)
    assert left_aside == ()
    assert records == (
        TileRecord(
            path="shards/s-0.tar/000000.png",
            label="a",
            patient="p-1",
            slide="s-1",
            x=0,
            y=156,
            mpp=0.1 + 0.2,
            sha256=DIGEST,
            role="train",
        ),
        TileRecord(path="b,ä.png", label="b", slide="s-2", sha256=DIGEST[::-1]),
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_same_columns_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_manifest(tmp_path / (name + suffix), FULL)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_types_in_parquet_do_not_depend_on_what_is_known(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", {**FULL, "x": [None, None], "y": [None, None]})
    schema = parquet.read_schema(tmp_path / "m.parquet")
    kinds = {name: str(schema.field(name).type) for name in FULL}
    assert (kinds["x"], kinds["mpp"], kinds["patient"]) == ("int64", "double", "string")


def test_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(LayoutError, match="Add label"):
        write_manifest(path, {"path": ["a.png"]})
    with pytest.raises(LayoutError, match=r"a manifest is a .csv or a .parquet"):
        write_manifest(tmp_path / "m.txt", FULL)
    with pytest.raises(ValueError, match="differ in length"):
        write_manifest(path, {"path": ["a.png", "b.png"], "label": ["x"]})
    with pytest.raises(OutputError, match="UTF-8"):
        write_manifest(path, {"path": [os.fsdecode(b"\xe9.png")], "label": ["x"]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"path": ["a.png"]}, "Add label"),
        ({"path": [], "label": []}, "names no tile"),
        ({"path": ["a", "b"], "label": ["x", None]}, "m.parquet row 2 has no label"),
        ({"path": ["a", "a"], "label": ["x", "x"]}, "names a twice"),
        ({"path": ["../a"], "label": ["x"]}, "stay inside"),
        ({"path": ["a"], "label": ["x"], "mpp": [0.0]}, "mpp must be positive"),
        ({"path": ["a"], "label": ["x"], "mpp": [float("nan")]}, "mpp must be a number"),
        ({"path": ["a"], "label": ["x"], "x": [1.5], "y": [0]}, "whole pixels"),
        ({"path": ["a"], "label": ["x"], "patient_id": ["1"]}, "did you mean patient"),
        ({"path": ["a"], "label": [[1, 2]]}, "text and numbers"),
    ],
)
def test_parquet_has_the_rules_of_csv(
    columns: dict[str, list[Any]], rule: str, tmp_path: Path
) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    with pytest.raises(LayoutError) as caught:
        read_manifest(tmp_path / "m.parquet")
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_that_came_as_fractions_and_categories_are_read(tmp_path: Path) -> None:
    columns = {
        "path": ["a"],
        "label": pyarrow.array(["x"]).dictionary_encode(),
        "x": [12.0],
        "y": [0.0],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet")[0] == (TileRecord(path="a", label="x", x=12, y=0),)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "holed"])
def test_damaged_parquet_is_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, FULL)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"path,label\na.png,x\n",
            "cut": whole[: len(whole) // 2],
            "holed": whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :],
        }[damage]
    )
    with pytest.raises(LayoutError, match="cannot be read as Parquet") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_parquet_that_is_gone_is_told_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "m.parquet")


def test_a_path_is_read_up_to_its_limit(tmp_path: Path) -> None:
    for length, fits in ((4095, True), (4096, True), (4097, False)):
        path = written(tmp_path, f"path,label\n{'a' * length},x\n")
        if fits:
            assert len(read_manifest(path).records) == 1
        else:
            with pytest.raises(LayoutError, match="a path may have 4096") as caught:
                read_manifest(path)
            assert len(str(caught.value)) < 300
