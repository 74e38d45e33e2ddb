"""csv_text.py: separators, headers and limits of CSV as people have it."""

from pathlib import Path

import pytest

from privgen import limits
from privgen.data.manifest import read_manifest
from privgen.errors import LayoutError

ROWS = "path,label,patient\na.png,STR,P1\nb.png,TUM,P2\n"


def read(folder: Path, text: str | bytes) -> tuple[list[tuple[str, str, str | None]], list[str]]:
    path = folder / "m.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    manifest = read_manifest(path)
    rows = [(one.path, one.label, one.patient) for one in manifest.records]
    return rows, [remark.what for remark in manifest.remarks]


@pytest.mark.parametrize(
    ("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
def test_other_separators_are_detected_and_said(separator: str, word: str, tmp_path: Path) -> None:
    rows, said = read(tmp_path, ROWS.replace(",", separator))
    assert rows == [("a.png", "STR", "P1"), ("b.png", "TUM", "P2")]
    assert said == [f"the table's fields are parted by {word}, not commas"]


def test_headers_in_capitals_and_with_spaces_are_read_and_said(tmp_path: Path) -> None:
    rows, said = read(tmp_path, ROWS.replace("path,label,patient", "Path, LABEL,Patient "))
    assert rows[0] == ("a.png", "STR", "P1")
    assert said == ["names of columns written in capitals or with space around them: 3"]


def test_plain_table_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS)[1] == []


def test_commas_win_where_both_could_be(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "path,label,a;b\nx;y.png,STR,1\n")
    assert rows == [("x;y.png", "STR", None)]


def test_a_comma_without_quotes_is_refused_also_under_a_blank_header(tmp_path: Path) -> None:
    for text in (
        "path,label,patient\na.png,STR,Smith, John\n",
        "path,label,patient,\na.png,STR,Smith, John\n",
    ):
        with pytest.raises(LayoutError, match="line 2 has"):
            read(tmp_path, text)
    rows, _ = read(tmp_path, "path,label,patient,\na.png,STR,Smith,\n")
    assert rows == [("a.png", "STR", "Smith")]


def test_a_row_index_of_pandas_is_left_aside(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, ",path,label\n0,a.png,STR\n1,b.png,TUM\n")
    assert [row[0] for row in rows] == ["a.png", "b.png"]


def test_utf16_is_named_with_its_way_out(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"UTF-16.*Save it as CSV UTF-8"):
        read(tmp_path, ROWS.encode("utf-16"))


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"mpp must be a number with a decimal point, got '0,5'"):
        read(tmp_path, "path;label;mpp\na.png;STR;0,5\n")


def test_columns_that_are_missing_are_told_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="has file;class"):
        read(tmp_path, "file;class\na.png;STR\n")


@pytest.mark.parametrize(
    ("limit", "own"),
    [("TABLE_ROWS", 2), ("TABLE_COLUMNS", 3), ("TABLE_BYTES", len(ROWS))],
)
def test_a_table_is_read_up_to_its_limit_and_refused_past_it(
    limit: str, own: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most in (own + 1, own):
        monkeypatch.setattr(limits, limit, most)
        assert len(read(tmp_path, ROWS)[0]) == 2
    monkeypatch.setattr(limits, limit, own - 1)
    with pytest.raises(LayoutError, match="a table may have"):
        read(tmp_path, ROWS)


def test_a_line_is_read_up_to_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "path,label\n" + "a" * 95 + ",S\n"  # 97 characters and the end of the line
    for most, fits in ((97, False), (98, True), (99, True)):
        monkeypatch.setattr(limits, "LINE_CHARACTERS", most)
        if fits:
            assert len(read(tmp_path, text)[0]) == 1
        else:
            with pytest.raises(LayoutError, match="a line of a table"):
                read(tmp_path, text)


def test_a_cell_over_the_limit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="comma-separated UTF-8"):
        read(tmp_path, "path,label\n" + "a" * (limits.CELL_BYTES + 1) + ",x\n")
