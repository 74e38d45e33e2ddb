"""CSV as spreadsheets and data frames leave it: the separator and the header are looked at.

The comma is the separator unless the header holds the columns that are needed only when it is cut
at semicolons, tabs or bars. Names of known columns may be in capitals and have space around them. A
row index without a name (pandas) is left aside; any other column without a name must be blank,
because what stands there comes of a comma without quotes. What was detected is said.
"""

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from privgen import limits
from privgen.errors import LayoutError

Row = dict[str | None, str | list[str] | None]

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_WIDE = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def reading_csv(
    path: Path, *, needed: Collection[str], known: Collection[str]
) -> Iterator[tuple[list[str], Iterator[tuple[str, Row]], tuple[str, ...]]]:
    """Open a CSV; its rows are read as they are asked for.

    Args:
      path: UTF-8 text with a header.
      needed: columns without which it is no such table; they tell the separator.
      known: columns that are told however they are written.

    Yields:
      The names of the columns; the rows, each with where it stands ("line 3") and its cells by
      name, one too many under None and one too few None; and what was detected, in sentences.

    Raises:
      OSError: the file cannot be read.
      LayoutError: it is no such text, or too large.
    """
    try:
        with path.open("rb") as raw:
            if raw.read(2) in _WIDE:
                raise LayoutError(
                    f"{path} must be comma-separated UTF-8 text: it is UTF-16, as spreadsheets "
                    "save Unicode text. Save it as CSV UTF-8."
                )
            length = os.fstat(raw.fileno()).st_size
        if length > limits.TABLE_BYTES:
            raise LayoutError(
                f"a table may have {limits.size(limits.TABLE_BYTES)}: {path.name} has "
                f"{limits.size(length)}. Split it, or write Parquet."
            )
        with path.open(encoding="utf-8-sig", newline="") as stream:
            separator, header = _header(stream, needed, known)
            reader = csv.reader(_lines(stream, path), delimiter=separator, strict=True)
            next(reader, None)
            named = [_known(name, known) for name in header]
            if len(named) > limits.TABLE_COLUMNS:
                raise LayoutError(
                    f"a table may have {limits.TABLE_COLUMNS} columns: {path.name} has "
                    f"{len(named)}. Leave out what is not needed."
                )
            unnamed = [at for at, name in enumerate(named) if not name.strip()]
            columns = [name for at, name in enumerate(named) if at not in set(unnamed)]
            yield columns, _rows(path, reader, named, unnamed), _said(separator, header, named)
    except (csv.Error, UnicodeDecodeError) as error:
        raise LayoutError(
            f"{path} must be comma-separated UTF-8 text: {limits.told(error)}. Export it again."
        ) from error


def _header(
    stream: TextIO, needed: Collection[str], known: Collection[str]
) -> tuple[str, list[str]]:
    """The separator and the names as they are written; the stream is at its start afterwards."""
    line = stream.readline(limits.LINE_CHARACTERS)
    stream.seek(0)
    found = {}
    for separator in _SEPARATORS:
        try:
            found[separator] = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            continue
    for separator, names in found.items():
        if set(needed) <= {_known(name, known) for name in names}:
            return separator, names
    return ",", found.get(",", [line])


def _known(name: str, known: Collection[str]) -> str:
    lower = name.strip().lower()
    return lower if lower in known else name


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    """The lines of a text, none of them longer than the limit."""
    while line := stream.readline(limits.LINE_CHARACTERS):
        if len(line) == limits.LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise LayoutError(
                f"a line of a table may have {limits.LINE_CHARACTERS:,} characters: {path.name} "
                "has a longer one. Export it again."
            )
        yield line


def _rows(
    path: Path, reader: Any, named: Sequence[str], unnamed: Sequence[int]
) -> Iterator[tuple[str, Row]]:
    index = {0} & set(unnamed)  # a row index of pandas
    for number, cells in enumerate(cell for cell in reader if cell):
        where = f"line {reader.line_num}"
        if number >= limits.TABLE_ROWS:
            raise LayoutError(
                f"a table may have {limits.TABLE_ROWS:,} rows: {path.name} has more. Split it."
            )
        for at in unnamed:
            if at not in index and at < len(cells) and cells[at].strip():
                raise LayoutError(
                    f"{path.name} {where} has a value in a column without a name. Put quotes "
                    "around what holds a comma, or name the column."
                )
        row: Row = {name: cells[at] if at < len(cells) else None for at, name in enumerate(named)}
        for at in unnamed:
            row.pop(named[at], None)
        if len(cells) > len(named):
            row[None] = cells[len(named) :]
        yield where, row


def _said(separator: str, written: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    said = []
    if separator != ",":
        said.append(f"the table's fields are parted by {_SEPARATORS[separator]}, not commas")
    other = sum(before != after for before, after in zip(written, named, strict=True))
    if other:
        said.append(f"names of columns written in capitals or with space around them: {other}")
    return tuple(said)
