"""Manifests as tables: CSV or, for a great many tiles, Parquet, told apart by the suffix.

Both hold the same: a column per name, a row per tile, an empty cell for what is unknown. The same
columns give the same bytes. What the cells mean is `privgen.data.manifest`'s business; how a CSV
may be written is `privgen.data.csv_text`'s, how large a table may be `privgen.limits`'.
"""

import csv
import io
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privgen import limits
from privgen.data.csv_text import reading_csv
from privgen.data.parquet_footer import read_groups
from privgen.errors import LayoutError, OutputError, PrivgenError
from privgen.files import SHARED, atomic_write

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

PARQUET = ".parquet"

_KINDS = {
    **dict.fromkeys(("path", "label", "patient", "slide", "source_image", "sha256"), "string"),
    **dict.fromkeys(("x", "y", "level"), "int64"),
    **dict.fromkeys(("mpp", "xy_mpp", "tissue", "white", "sharpness", "pen", "fold"), "double"),
    "role": "string",
}
"""Types of the columns in Parquet; any other column has the type of its values."""

_NEEDED = ("path", "label")
_BATCH = 65_536

Row = Mapping[str | None, str | list[str] | None]


@dataclass(frozen=True, kw_only=True)
class Table:
    """An open table.

    Attributes:
      columns: their names, in order.
      rows: where each stands ("line 3") and its cells as text by name, read as they are asked for.
        A CSV row with a cell too many has them under None, one with too few has None.
      said: what was detected of how it is written, in sentences.
    """

    columns: list[str]
    rows: Iterator[tuple[str, Row]]
    said: tuple[str, ...] = ()


@contextmanager
def reading(path: Path, *, only: Collection[str] | None = None) -> Iterator[Table]:
    """Open a table.

    Args:
      path: CSV (UTF-8, with a header) or, by its suffix, Parquet.
      only: columns whose cells are wanted; None for all. Others may hold anything.

    Raises:
      OSError: the file cannot be read.
      LayoutError: it is no such table, or larger than the limits allow.
    """
    if path.suffix.lower() == PARQUET:
        yield _open_parquet(path, only)
        return
    with reading_csv(path, needed=_NEEDED, known=_KINDS) as (columns, rows, said):
        yield Table(columns=columns, rows=rows, said=said)


@contextmanager
def naming_parquet_damage(path: Path) -> Iterator[None]:
    """Turn whatever Arrow raises on malformed bytes into one LayoutError.

    What the disk itself says (`OSError` with a number) is left as it is.
    """
    try:
        yield
    except (PrivgenError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LayoutError(
            f"{path} cannot be read as Parquet: {limits.told(error)}. Export it again."
        ) from error


def open_parquet(path: Path) -> "parquet.ParquetFile":
    """Open a Parquet file whose directory, rows and columns are within the limits.

    Raises:
      OSError: the file cannot be read.
      LayoutError: it is damaged, or says that it holds more.
    """
    from pyarrow import parquet

    with path.open("rb") as stream:  # what the system says of a file, before what Arrow makes of it
        length = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, length - 8))
        footer = int.from_bytes(stream.read(4), "little")
    with naming_parquet_damage(path):
        if footer > min(limits.FOOTER_BYTES, length):
            raise limits.TooLargeError(f"its directory says that it has {limits.size(footer)}")
        file = parquet.ParquetFile(
            path,
            thrift_string_size_limit=limits.FOOTER_BYTES,
            thrift_container_size_limit=limits.FOOTER_BYTES // 64,
        )
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
    if rows > limits.TABLE_ROWS or columns > limits.TABLE_COLUMNS:
        raise LayoutError(
            f"a table may have {limits.TABLE_ROWS:,} rows and {limits.TABLE_COLUMNS} columns: "
            f"{path.name} says {rows:,} and {columns}. Split it."
        )
    if rows > limits.ROWS_A_BYTE * length:
        raise LayoutError(
            f"a table may have {limits.ROWS_A_BYTE} rows a byte, because no two are alike: "
            f"{path.name} says {rows:,} in {limits.size(length)}. Export it again."
        )
    return file


def _open_parquet(path: Path, only: Collection[str] | None) -> Table:
    from pyarrow import parquet

    file = open_parquet(path)
    with naming_parquet_damage(path):
        schema = file.schema_arrow
        names = list(schema.names)
        wanted = [name for name in names if only is None or name in only]
        kinds = {name: _content(schema.field(name).type) for name in set(wanted)}
    odd = next((name for name in wanted if kinds[name] is None), None)
    if odd is not None:
        raise LayoutError(
            f"a manifest holds text and numbers: column {limits.shown(odd)} of {path.name} is "
            f"{limits.shown(str(schema.field(odd).type))}. Remove it."
        )
    if len(set(names)) == len(names):  # else nothing is read: the caller refuses it
        with naming_parquet_damage(path):
            _require_small(path, wanted)
            texts = [name for name in wanted if kinds[name] == "text"]
            file = parquet.ParquetFile(path, read_dictionary=texts)
    return Table(columns=names, rows=_rows(path, file, wanted))


def _content(kind: "pyarrow.DataType") -> str | None:
    """ "text" or "number"; None for what no cell of a manifest holds."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _content(kind.value_type)
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if any(is_text(kind) for is_text in texts):
        return "text"
    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_null)
    return "number" if any(is_plain(kind) for is_plain in plain) else None


def _require_small(path: Path, wanted: Collection[str]) -> None:
    unpacked = sum(
        size
        for group in read_groups(path)
        for name, size in group.unpacked.items()
        if name in wanted
    )
    if unpacked > limits.TABLE_BYTES:
        raise LayoutError(
            f"the columns of a table may take {limits.size(limits.TABLE_BYTES)} unpacked: "
            f"{path.name} says {limits.size(unpacked)}. Split it."
        )


def _rows(
    path: Path, file: "parquet.ParquetFile", wanted: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    number = 0
    with naming_parquet_damage(path):
        batches = file.iter_batches(_BATCH, columns=list(wanted))
    while True:
        with naming_parquet_damage(path):
            batch = next(batches, None)
            if batch is None:
                return
            cells = [_cells(name, batch.column(at)) for at, name in enumerate(batch.schema.names)]
            names = list(batch.schema.names)
        for row in zip(*cells, strict=True):
            number += 1
            yield f"row {number}", dict(zip(names, row, strict=True))


def _cells(name: str, column: Any) -> list[str]:
    """A column's cells as a CSV would hold them; each text is made once however often it stands."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type):
        return [_text(name, cell) for cell in column.to_pylist()]
    values = column.dictionary
    if _content(values.type) == "text":
        longest = compute.min_max(compute.binary_length(values))["max"].as_py() or 0
        if longest > limits.CELL_BYTES:
            raise limits.TooLargeError(
                f"a cell may have {limits.size(limits.CELL_BYTES)}, one of column "
                f"{limits.shown(name)} has {limits.size(longest)}"
            )
    texts = [_text(name, value) for value in values.to_pylist()]
    return ["" if at is None else texts[at] for at in column.indices.to_pylist()]


def _text(name: str, cell: object) -> str:
    """A cell as a CSV would hold it; bytes of a column that is read must be UTF-8."""
    if cell is None or (name in _NEEDED and cell != cell):
        return ""
    if isinstance(cell, bytes):
        return cell.decode(errors="strict" if name in _KINDS else "backslashreplace")
    return str(cell)


def write_table(
    path: Path, columns: Mapping[str, Sequence[Any]], *, mode: int = SHARED, durable: bool = True
) -> None:
    """Write columns as CSV or, by the suffix of `path`, as Parquet, whole or not at all.

    Args:
      path: of the file.
      columns: values of each, a value per tile; None where it is unknown.
      mode: permission bits of the file.
      durable: as `privgen.files.atomic_write`.

    Raises:
      ValueError: the columns differ in length.
      OutputError, DiskFullError: as `privgen.files.atomic_write`.
    """
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("the columns of a table differ in length")
    if path.suffix.lower() == PARQUET:
        data = _parquet(path, columns)
    else:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        data = text.getvalue().encode(errors="surrogateescape")
    with atomic_write(path, mode=mode, durable=durable) as stream:
        stream.write(data)


def _parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    try:
        arrays = {
            name: pyarrow.array(
                list(values),
                type=pyarrow.type_for_alias(_KINDS[name]) if name in _KINDS else None,
            )
            for name, values in columns.items()
        }
    except UnicodeEncodeError as error:
        raise OutputError(
            f"Parquet holds UTF-8 only: a name in {path.name} is not. Write a CSV, or rename the "
            "file."
        ) from error
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays), buffer, compression="zstd")
    return buffer.getvalue()
