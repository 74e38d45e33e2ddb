"""One picture of a Parquet file, read in place: `train-0000.parquet/0000012` is its row 12.

A row group is read at a time and the groups used last are kept, so that tiles in order cost one
reading. What a group may hold is counted as it is unpacked, a few rows at a time.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from privgen import limits
from privgen.data.parquet_footer import read_groups
from privgen.data.tables import PARQUET, naming_parquet_damage, open_parquet
from privgen.errors import LayoutError, TileError

if TYPE_CHECKING:
    from pyarrow import parquet

_IMAGE, _BYTES = "image", "bytes"
_ROWS_AT_A_TIME = 16
_KEPT = 4

_groups: OrderedDict[tuple[str, int, int, int], list[bytes | None]] = OrderedDict()
_lock = threading.Lock()


def is_image_table(path: Path) -> bool:
    """Whether a Parquet file holds pictures, and is no manifest of files."""
    try:
        file = open_parquet(path)
    except (OSError, LayoutError):
        return False
    return has_pictures(file) and "path" not in file.schema_arrow.names


def has_pictures(file: "parquet.ParquetFile") -> bool:
    """Whether a Parquet file has a column of encoded pictures."""
    from pyarrow import types

    schema = file.schema_arrow
    if schema.names.count(_IMAGE) != 1 or not types.is_struct(schema.field(_IMAGE).type):
        return False
    inner = {field.name: field.type for field in schema.field(_IMAGE).type}
    return _BYTES in inner and types.is_binary(inner[_BYTES])


def row_of(path: Path) -> tuple[Path, int] | None:
    """The Parquet file and the row, where a path leads into one; else None."""
    parent = path.parent
    if parent.suffix.lower() != PARQUET or not path.name.isdecimal() or not parent.is_file():
        return None
    return parent, int(path.name[:9])


def read_row(path: Path, table: Path, row: int, most: int) -> bytes:
    """The bytes of one picture.

    Args:
      path: what to call it in an error.
      table, row: as `row_of` gives them.
      most: bytes a picture may have.

    Raises:
      TileError: there is no such row, it holds no bytes, or too many; or the file is damaged.
      OSError: the file cannot be read.
    """
    try:
        with _lock:
            group, at = _group(table, row)
    except LayoutError as error:
        raise TileError(str(path), f"cannot be read: {error}") from error
    data = group[at] if group is not None else None
    if group is None:
        raise TileError(str(path), "is not in its file. Remove the row from the manifest.")
    if data is None:
        raise TileError(str(path), "holds no bytes, only a path. Embed the pictures.")
    if len(data) > most:
        raise TileError(
            str(path),
            f"the picture has {limits.size(len(data))}; a tile may have {limits.size(most)}. Cut "
            "it into tiles first.",
        )
    return data


def _group(table: Path, row: int) -> tuple[list[bytes | None] | None, int]:
    """Pictures of the row group of a row, and its place there."""
    status = table.stat()
    key = (str(table), status.st_size, status.st_mtime_ns)
    for known in reversed(_groups):
        first = known[3]
        if known[:3] == key and first <= row < first + len(_groups[known]):
            _groups.move_to_end(known)
            return _groups[known], row - first
    file = open_parquet(table)
    first = 0
    with naming_parquet_damage(table):
        counts = [group.rows for group in read_groups(table)]
    for number, count in enumerate(counts):
        if row < first + count:
            pictures = _read_group(table, file, number)
            _groups[*key, first] = pictures
            while len(_groups) > 1 and (len(_groups) > _KEPT or _kept() > limits.GROUP_BYTES):
                _groups.popitem(last=False)
            return (pictures, row - first) if row - first < len(pictures) else (None, 0)
        first += count
    return None, 0


def _kept() -> int:
    return sum(len(one or b"") for group in _groups.values() for one in group)


def _read_group(table: Path, file: "parquet.ParquetFile", number: int) -> list[bytes | None]:
    from pyarrow import compute

    pictures: list[bytes | None] = []
    total = 0
    with naming_parquet_damage(table):
        for batch in file.iter_batches(
            _ROWS_AT_A_TIME, row_groups=[number], columns=[f"{_IMAGE}.{_BYTES}"]
        ):
            found = batch.column(0).field(_BYTES)
            total += compute.sum(compute.binary_length(found)).as_py() or 0
            if total > limits.GROUP_BYTES:
                raise limits.TooLargeError(
                    f"a row group may have {limits.size(limits.GROUP_BYTES)} of pictures and has "
                    "more. Write smaller groups"
                )
            pictures += found.to_pylist()
    return pictures
