"""Parquet manifests that say one thing and are another: one line each, before memory is asked."""

import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from privgen import limits
from privgen.data.layouts import open_tiles
from privgen.data.manifest import read_manifest
from privgen.errors import LayoutError

TWO = {"path": ["a.png", "b.png"], "label": ["A", "B"]}


def written(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "manifest.parquet"
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([2**31 - 1, 0], pyarrow.date32()),
        pyarrow.array([2**62, 1], pyarrow.duration("ns")),
        pyarrow.array([1, 2], pyarrow.timestamp("ns")),
        pyarrow.array([{"name": "STR"}, {"name": "TUM"}]),
        pyarrow.array([[1], [2]]),
    ],
    ids=lambda array: str(array.type)[:12],
)
def test_a_column_of_another_kind_is_refused_and_an_unread_one_is_not_looked_at(
    column: Any, tmp_path: Path
) -> None:
    for name in ("label", "x", "patient"):
        with pytest.raises(LayoutError, match="a manifest holds text and numbers"):
            read_manifest(written(tmp_path, {**TWO, "y": [1, 1], name: column}))
    assert len(read_manifest(written(tmp_path, {**TWO, "note": column})).records) == 2


def test_bytes_are_text_and_a_missing_label_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, {**TWO, "label": pyarrow.array([b"STR", b"TUM"])})
    assert [one.label for one in read_manifest(path).records] == ["STR", "TUM"]
    path = written(tmp_path, {**TWO, "label": pyarrow.array([1.0, float("nan")])})
    with pytest.raises(LayoutError, match="row 2 has no label"):
        read_manifest(path)
    with pytest.raises(LayoutError, match="cannot be read as Parquet"):
        read_manifest(written(tmp_path, {**TWO, "label": pyarrow.array([b"\xff", b"TUM"])}))


def repeated(count: int, text: str) -> Any:
    return pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(count, np.int32)), pyarrow.array([text])
    )


def test_many_rows_in_few_bytes_cost_nothing(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"path": repeated(400_000, "A/0.png"), "label": repeated(400_000, "A")}
    )
    assert path.stat().st_size < 5_000
    tracemalloc.start()
    with pytest.raises(LayoutError, match="rows a byte"):
        open_tiles(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_rows_a_byte_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, TWO)
    length = path.stat().st_size
    for share, fits in ((2 / length * 1.01, True), (2 / length, True), (2 / length * 0.99, False)):
        monkeypatch.setattr(limits, "ROWS_A_BYTE", share)
        if fits:
            assert len(read_manifest(path).records) == 2
        else:
            with pytest.raises(LayoutError, match="rows a byte"):
                read_manifest(path)


@pytest.mark.parametrize(("limit", "own"), [("TABLE_ROWS", 2), ("TABLE_COLUMNS", 2)])
def test_parquet_is_read_up_to_its_limit(
    limit: str, own: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, TWO)
    for most in (own + 1, own):
        monkeypatch.setattr(limits, limit, most)
        assert len(read_manifest(path).records) == 2
    monkeypatch.setattr(limits, limit, own - 1)
    with pytest.raises(LayoutError, match="a table may have"):
        read_manifest(path)


def test_unpacked_columns_are_held_against_the_limit_from_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, TWO)
    group = parquet.read_metadata(path).row_group(0)
    own = sum(group.column(at).total_uncompressed_size for at in range(2))
    for most in (own + 1, own):
        monkeypatch.setattr(limits, "TABLE_BYTES", most)
        assert len(read_manifest(path).records) == 2
    monkeypatch.setattr(limits, "TABLE_BYTES", own - 1)
    with pytest.raises(LayoutError, match="unpacked"):
        read_manifest(path)


def test_a_long_cell_that_stands_in_every_row_is_refused_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length, rule in (
        (limits.CELL_BYTES, "a class name"),
        (limits.CELL_BYTES + 1, "a cell may"),
    ):
        count = 1000
        columns = {
            "path": [f"{np.random.default_rng(row).bytes(9).hex()}.png" for row in range(count)],
            "label": repeated(count, "x" * length),
        }
        path = written(tmp_path, columns)
        tracemalloc.start()
        with pytest.raises(LayoutError, match=rule) as caught:
            read_manifest(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
        tracemalloc.stop()
        assert len(str(caught.value)) < 500


def test_a_footer_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, TWO)
    data = path.read_bytes()
    path.write_bytes(data[:-8] + (2**31 - 1).to_bytes(4, "little") + data[-4:])
    with pytest.raises(LayoutError, match="cannot be read as Parquet"):
        read_manifest(path)


def test_every_single_damaged_byte_is_an_input_error(tmp_path: Path) -> None:
    path = written(tmp_path, TWO, compression="none")
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for at in random.choice(len(data), 150, replace=False):
        mutant = bytearray(data)
        mutant[at] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(mutant))
        with suppress(LayoutError):
            read_manifest(path)
