"""A table as CSV, for people who want to compute with every cell themselves.

Numbers are written so that reading them gives the same number back; None is an empty field.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from privgen.errors import RuntimeFailure
from privgen.files import atomic_write

Value = str | int | float | None


def write_cells(columns: Sequence[str], rows: Iterable[Sequence[Value]], path: Path) -> None:
    """Write a header and one line per row, atomically: UTF-8, commas, line feeds.

    Args:
      columns: names, in order.
      rows: a value a column; a number may be NumPy's.
      path: the file, replaced if it exists.

    Raises:
      RuntimeFailure: a row does not have a value a column, or a number is not finite; nothing is
        written.
      OutputError, DiskFullError: `path` cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise RuntimeFailure(
                f"every row needs a value for each of {len(columns)} columns: row {number} has "
                f"{len(row)}. Nothing was written."
            )
        writer.writerow([_plain(value, columns[i], number) for i, value in enumerate(row)])
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode())


def _plain(value: Value, column: str, number: int) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not math.isfinite(value):
        raise RuntimeFailure(
            f"numbers must be finite: got {value} in {column} of row {number}. Nothing was written."
        )
    if isinstance(value, bool):
        return str(value).lower()
    return repr(int(value) if hasattr(value, "__index__") else float(value))
