"""CSV of cells: nothing is lost between the numbers and the file."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from privgen.errors import RuntimeFailure
from privgen.reporting.cells_csv import write_cells


def test_numbers_come_back_exactly_and_none_is_empty(tmp_path: Path) -> None:
    values = [1 / 3, 1e-300, -0.0, np.float32(0.1), np.float64(2 / 7), 7, np.int64(2**60), True]
    columns = [f"c{i}" for i in range(len(values) + 2)]
    write_cells(columns, [[*values, None, 'a "quoted", text\nof two lines']], tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        header, row = csv.reader(stream)
    assert header == columns
    assert [float(field) for field in row[:5]] == [float(value) for value in values[:5]]
    assert math.copysign(1, float(row[2])) == -1
    assert row[5:] == ["7", str(2**60), "true", "", 'a "quoted", text\nof two lines']


def test_lines_end_with_a_line_feed_and_text_is_utf_8(tmp_path: Path) -> None:
    write_cells(["Größe"], [["µ"], [1.5]], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == "Größe\nµ\n1.5\n".encode()


@pytest.mark.parametrize(
    ("row", "fault"),
    [([1.0], "row 2 has 1"), ([1.0, math.nan], "nan in b of row 2"), ([math.inf, 1], "inf in a")],
)
def test_a_bad_row_writes_nothing(tmp_path: Path, row: list[float], fault: str) -> None:
    (tmp_path / "x.csv").write_text("before")
    with pytest.raises(RuntimeFailure, match=fault):
        write_cells(["a", "b"], [[1.0, 2.0], row], tmp_path / "x.csv")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.csv", "before")]
