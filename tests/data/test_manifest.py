"""manifest.py: what a CSV must say, and the line each mistake is on."""

from pathlib import Path

import pytest

from privgen.data.manifest import read_manifest
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError

DIGEST = "0123456789abcdef" * 4


def written(folder: Path, text: str) -> Path:
    path = folder / "m.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_column_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "label,path,patient,slide,source_image,x,y,mpp,sha256\n"
        f"adeno,a/1.png,P1,s1,i1,256,0,0.5,{DIGEST.upper()}\n"
        "normal,./b//2.png,,,,,,,\n",
    )
    records, left_aside = read_manifest(path)
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
    _, left_aside = read_manifest(written(tmp_path, "path,label,scanner,age\na.png,x,S1,60\n"))
    assert left_aside == ("scanner", "age")


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("patient_id", "patient"),
        ("Patient", "patient"),
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


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no header"),
        ("path,label\n", "names no tile"),
        ("path,class\na.png,x\n", "Add label"),
        ("path;label\na.png;x\n", "Add path"),
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
