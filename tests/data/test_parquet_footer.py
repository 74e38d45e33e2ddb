"""parquet_footer.py: the same numbers as Arrow's own, and nothing but ValueError for damage."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from privgen import limits
from privgen.data.layouts import open_tiles
from privgen.data.parquet_footer import read_groups
from privgen.errors import LayoutError

COLUMNS = {
    "path": [f"{n}.png" for n in range(100)],
    "label": ["A", "B"] * 50,
    "x": list(range(100)),
    "image": [{"bytes": b"x" * n, "path": None} for n in range(100)],
    "flag": [True, None] * 50,
}


@pytest.fixture(params=[{}, {"row_group_size": 7}, {"compression": "zstd", "version": "1.0"}])
def path(request: Any, tmp_path: Path) -> Path:
    table = pyarrow.table(COLUMNS).replace_schema_metadata({"k": "v" * 300})
    parquet.write_table(table, tmp_path / "a.parquet", **request.param)
    return tmp_path / "a.parquet"


def test_rows_and_sizes_are_arrows_own(path: Path) -> None:
    metadata = parquet.read_metadata(path)
    groups = read_groups(path)
    assert len(groups) == metadata.num_row_groups
    for number, group in enumerate(groups):
        theirs = metadata.row_group(number)
        columns = [theirs.column(at) for at in range(theirs.num_columns)]
        assert group.rows == theirs.num_rows
        assert group.unpacked == {
            one.path_in_schema: one.total_uncompressed_size for one in columns
        }


def test_any_damage_is_a_value_error(path: Path) -> None:
    data = path.read_bytes()
    random = np.random.default_rng(0)
    footer = int.from_bytes(data[-8:-4], "little")
    for at in len(data) - 8 - random.integers(0, footer, 400):
        mutant = bytearray(data)
        mutant[at] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(mutant[: random.integers(9, len(mutant) + 1)]))
        with suppress(ValueError):
            read_groups(path)
        path.write_bytes(bytes(mutant))
        with suppress(ValueError):
            read_groups(path)


def test_a_directory_is_read_up_to_its_number_of_values(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = len(read_groups(path)) * len(COLUMNS)
    low, high = 1, 10**5
    while low < high:
        monkeypatch.setattr(limits, "FOOTER_VALUES", (low + high) // 2)
        try:
            read_groups(path)
            high = (low + high) // 2
        except limits.TooLargeError:
            low = (low + high) // 2 + 1
    assert low > 10 * columns
    for most in (low + 1, low):
        monkeypatch.setattr(limits, "FOOTER_VALUES", most)
        read_groups(path)
    monkeypatch.setattr(limits, "FOOTER_VALUES", low - 1)
    with pytest.raises(limits.TooLargeError, match="values and has more"):
        read_groups(path)


def test_a_histogram_of_the_wrong_length_does_not_end_the_process(tmp_path: Path) -> None:
    """Arrow's own class of a column would: terminate called after throwing an exception."""
    columns = {"path": ["a.png", "b.png"], "label": ["A", "B"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "manifest.parquet")
    data = (tmp_path / "manifest.parquet").read_bytes()
    footer = data[len(data) - 8 - int.from_bytes(data[-8:-4], "little") : -8]
    # No repetition levels (an empty list), then the numbers of two definition levels: made those
    # of two repetition levels, of which a flat column has one.
    wrong = footer.replace(b"\x19\x06\x19\x26", b"\x19\x26")
    assert wrong != footer
    mutant = data[: -8 - len(footer)] + wrong + len(wrong).to_bytes(4, "little") + data[-4:]
    (tmp_path / "manifest.parquet").write_bytes(mutant)
    with pytest.raises(LayoutError):
        open_tiles(tmp_path)


def test_a_directory_is_read_up_to_its_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = int.from_bytes(path.read_bytes()[-8:-4], "little")
    for most in (size + 1, size):
        monkeypatch.setattr(limits, "FOOTER_BYTES", most)
        read_groups(path)
    monkeypatch.setattr(limits, "FOOTER_BYTES", size - 1)
    with pytest.raises(ValueError, match="its directory is larger"):
        read_groups(path)
