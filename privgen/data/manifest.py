"""Reading a CSV manifest: one row a tile, `path,label` and whatever else is known.

Columns: `path` (relative to the CSV's folder, with `/`), `label`, and optionally `patient`,
`slide`, `source_image`, `x`, `y`, `mpp`, `sha256` (of the pixels or of the file). Other columns are
left aside and named, unless one looks like a misspelt column: reading past `patient_id` would
quietly turn a split by patient into a split by tile.
"""

import csv
import difflib
import math
import re
from pathlib import Path, PurePosixPath

from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError

COLUMNS = ("path", "label", "patient", "slide", "source_image", "x", "y", "mpp", "sha256")


def read_manifest(path: Path) -> tuple[tuple[TileRecord, ...], tuple[str, ...]]:
    """Read a manifest; the tiles themselves are not looked at.

    Args:
      path: the CSV, UTF-8, comma-separated, with a header.

    Returns:
      The records in file order, and the columns left aside.

    Raises:
      OSError: the file cannot be read.
      LayoutError: a column or a value is missing or malformed, a path leaves the folder or comes
        twice; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or ())
            left_aside = _check_columns(path, columns)
            records = tuple(_record(f"{path.name} line {reader.line_num}", row) for row in reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise LayoutError(
            f"the manifest {path} must be comma-separated UTF-8 text: {error}. Export it again."
        ) from error
    if not records:
        raise LayoutError(f"the manifest {path} names no tile. Add a row a tile.")
    seen: set[str] = set()
    for record in records:
        if record.path in seen:
            raise LayoutError(
                f"a tile may stand in the manifest once: {path.name} names {record.path} twice. "
                "Remove one row."
            )
        seen.add(record.path)
    return records, left_aside


def _check_columns(path: Path, columns: list[str]) -> tuple[str, ...]:
    for needed in ("path", "label"):
        if needed not in columns:
            raise LayoutError(
                f"a manifest needs the columns path and label: {path.name} has "
                f"{', '.join(columns) or 'no header'}. Add {needed}."
            )
    if len(set(columns)) < len(columns):
        raise LayoutError(f"{path.name} has a column twice: {', '.join(columns)}. Remove one.")
    left_aside = tuple(column for column in columns if column not in COLUMNS)
    for column in left_aside:
        absent = [name for name in COLUMNS if name not in columns]
        near = difflib.get_close_matches(column.strip().lower(), absent, n=1, cutoff=0.75)
        if near:
            raise LayoutError(
                f"column {column!r} of {path.name} is not known; did you mean {near[0]}? Rename it."
            )
    return left_aside


def _record(where: str, row: dict[str, str | None]) -> TileRecord:
    if None in row or None in row.values():
        raise LayoutError(f"{where} has more or fewer fields than the header. Correct the row.")
    text = {column: (row.get(column) or "").strip() for column in COLUMNS}
    for needed in ("path", "label"):
        if not text[needed]:
            raise LayoutError(f"{where} has no {needed}. Fill it in or remove the row.")
    if bool(text["x"]) != bool(text["y"]):
        raise LayoutError(f"{where} has one of x and y only. Give both or none.")
    sha256 = text["sha256"].lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise LayoutError(
            f"{where}: sha256 must be 64 hex digits, got {sha256[:80]!r}. Correct it."
        )
    mpp = _number(where, "mpp", text["mpp"])
    if mpp is not None and mpp <= 0:
        raise LayoutError(f"{where}: mpp must be positive, got {mpp}. Correct it.")
    return TileRecord(
        path=_inside(where, text["path"]),
        label=text["label"],
        patient=text["patient"] or None,
        slide=text["slide"] or None,
        source_image=text["source_image"] or None,
        x=_pixels(where, "x", text["x"]),
        y=_pixels(where, "y", text["y"]),
        mpp=mpp,
        sha256=sha256 or None,
    )


def _inside(where: str, text: str) -> str:
    """The path, normalised; refused when it could leave the manifest's folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or re.match(r"[A-Za-z]:", text):
        raise LayoutError(
            f"{where}: a path must stay inside the manifest's folder and use /: got {text!r}. "
            "Write it relative to that folder."
        )
    return str(path)


def _number(where: str, column: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LayoutError(f"{where}: {column} must be a number, got {text!r}. Correct it.")
    return value


def _pixels(where: str, column: str, text: str) -> int | None:
    value = _number(where, column, text)
    if value is not None and value != int(value):
        raise LayoutError(f"{where}: {column} must be whole pixels, got {text!r}. Correct it.")
    return None if value is None else int(value)
