"""Manifests as tables: CSV or, for a great many tiles, Parquet, told apart by the suffix.

Both hold the same: a column a name, a row a tile, an empty cell for what is unknown. The same
columns give the same bytes. What the cells mean is `privgen.data.manifest`'s business.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privgen.errors import LayoutError, OutputError
from privgen.files import SHARED, atomic_write

PARQUET = ".parquet"

_KINDS = {
    **dict.fromkeys(("path", "label", "patient", "slide", "source_image", "sha256"), "string"),
    **dict.fromkeys(("x", "y", "level"), "int64"),
    **dict.fromkeys(("mpp", "tissue", "white", "sharpness", "pen", "fold"), "double"),
    "role": "string",
}
"""Types of the columns in Parquet; any other column has the type of its values."""

_BATCH = 65_536

Row = Mapping[str | None, str | list[str] | None]


@contextmanager
def reading(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[str, Row]]]]:
    """Open a table; its rows are read as they are asked for.

    Args:
      path: CSV (UTF-8, comma-separated, with a header) or, by its suffix, Parquet.

    Yields:
      The names of the columns, and the rows: where it stands ("line 3"), and its cells as text by
      name. A CSV row with a cell too many has them under None, one with too few has None.

    Raises:
      OSError: the file cannot be read.
      LayoutError: it is no such table.
    """
    if path.suffix.lower() == PARQUET:
        with _damage(path):
            columns, rows = _open_parquet(path)
            yield columns, rows
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or ())
            yield columns, ((f"line {reader.line_num}", row) for row in reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise LayoutError(
            f"the manifest {path} must be comma-separated UTF-8 text: {error}. Export it again."
        ) from error


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LayoutError(
            f"the manifest {path} cannot be read as Parquet: {str(error).splitlines()[0]} Export "
            "it again."
        ) from error


def _open_parquet(path: Path) -> tuple[list[str], Iterator[tuple[str, Row]]]:
    import pyarrow
    from pyarrow import parquet

    with path.open("rb"):  # what the system says of a file, before what Arrow makes of it
        pass
    table = parquet.ParquetFile(path)
    schema = table.schema_arrow
    nested = [field.name for field in schema if pyarrow.types.is_nested(field.type)]
    if nested:
        raise LayoutError(
            f"a manifest holds text and numbers: column {nested[0]!r} of {path.name} is "
            f"{schema.field(nested[0]).type}. Remove it."
        )

    def rows() -> Iterator[tuple[str, Row]]:
        number = 0
        for batch in table.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield (
                    f"row {number}",
                    {name: _text(name, cell) for name, cell in row.items()},
                )

    return list(schema.names), rows()


def _text(name: str, cell: object) -> str:
    """A cell as a CSV would hold it; bytes of a column that is read must be UTF-8."""
    if cell is None:
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
      columns: values of each, a value a tile; None where it is unknown.
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
